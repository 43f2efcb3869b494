// Finds the tokenizer of a folder.
#include "depthlens/text/tokenizer.hpp"

#include <algorithm>

#include "depthlens/text/tokenizer_files.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "formats.hpp"
#include "settings.hpp"

namespace depthlens::text {
namespace {

namespace fs = std::filesystem;

/// The largest known tokenizer.json has 35 MB; its tree takes some twenty times that.
constexpr std::uint64_t kLargestFile = std::uint64_t{256} << 20;

/// Tells of a tokenizer.model beside the tokenizer.json that `tokenizer` was made from, where it says
/// something else: left behind, as save_pretrained copies it, when the vocabulary was extended.
void compare_model_file(const fs::path& path, const TokenizerSettings& settings, const util::JsonView& json,
                        const Tokenizer& tokenizer) {
  std::string difference;
  try {
    const std::string content = util::read_file(path, kLargestFile);
    difference = is_tiktoken(content)
                     ? tiktoken_difference(content, path.string(), tokenizer)
                     : sentencepiece_difference(content, path.string(), settings, json, tokenizer);
  } catch (const util::Error& error) {
    difference = error.what();
  }
  if (difference.empty()) return;
  util::log_warning(util::cat(json.where(), " is used, as in transformers; ", path.filename().string(),
                              " beside it differs and is ignored: ", difference));
}

/// Tells of ids in config.json and generation_config.json that are not the tokenizer's BOS or EOS.
void compare_stated_ids(const TokenizerSettings& settings, const Tokenizer& tokenizer) {
  for (const StatedIds& stated : settings.stated_ids) {
    const std::optional<TokenId> id = stated.is_bos ? tokenizer.bos() : tokenizer.eos();
    if (!id || std::count(stated.ids.begin(), stated.ids.end(), *id) > 0) continue;
    util::log_warning(util::cat(stated.where, " is ", stated.ids.front(), "; the tokenizer's ",
                                stated.is_bos ? "BOS" : "EOS", ", which is used, is ", *id, " ",
                                util::in_quotes(tokenizer.token_text(*id))));
  }
}

std::unique_ptr<Tokenizer> load_files(const fs::path& folder, const TokenizerSettings& settings) {
  const fs::path json_path = folder / "tokenizer.json", model_path = folder / "tokenizer.model";
  const bool has_model = util::exists(model_path), has_vocab = has_vocab_and_merges(folder);
  if (util::exists(json_path)) {
    const util::Json document =
        util::parse_json(util::read_file(json_path, kLargestFile), json_path.string());
    const util::JsonView root(document, json_path.string());
    if (has_model && is_unigram(root)) {
      return make_sentencepiece_tokenizer(util::read_file(model_path, kLargestFile), model_path.string(),
                                          settings, &root);
    }
    auto tokenizer = make_json_tokenizer(root, settings, folder);
    if (has_model) compare_model_file(model_path, settings, root, *tokenizer);
    return tokenizer;
  }
  if (has_model) {
    if (has_vocab) {
      util::log_warning(
          util::cat(model_path.string(), " is used; vocab.json and merges.txt beside it are ignored"));
    }
    const std::string content = util::read_file(model_path, kLargestFile);
    if (is_tiktoken(content)) return make_tiktoken_tokenizer(content, model_path.string(), settings);
    return make_sentencepiece_tokenizer(content, model_path.string(), settings, nullptr);
  }
  if (has_vocab) return load_vocab_and_merges(folder, settings);
  throw util::input_error({.what = "no tokenizer",
                           .where = folder.string(),
                           .expected = "tokenizer.json, tokenizer.model, or vocab.json with merges.txt"});
}

}  // namespace

std::string Tokenizer::token_text(TokenId id) const {
  return util::valid_utf8(token_bytes(id));
}

std::vector<std::string> tokenizer_files(const fs::path& folder) {
  std::vector<std::string> names;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt",
                           "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}) {
    if (util::exists(folder / name)) names.emplace_back(name);
  }
  return names;
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& folder) {
  const TokenizerSettings settings = read_settings(folder);
  auto tokenizer = load_files(folder, settings);
  compare_stated_ids(settings, *tokenizer);
  return tokenizer;
}

}  // namespace depthlens::text
