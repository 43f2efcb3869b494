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
constexpr std::uint64_t kMaxFile = std::uint64_t{256} << 20;

constexpr const char *kJson = "tokenizer.json", *kModel = "tokenizer.model", *kTekken = "tekken.json",
                     *kRanks = "tiktoken.model";

/// Tells of a file beside the tokenizer.json that `tokenizer` was made from, where it says something else:
/// left behind, as save_pretrained copies it, when the vocabulary was extended.
void compare_file(const fs::path& path, const TokenizerSettings& settings, const util::JsonView& json,
                  const Tokenizer& tokenizer) {
  std::string difference;
  try {
    const std::string content = util::read_file(path, kMaxFile);
    if (path.filename() == kTekken) {
      const util::Json document = util::parse_json(content, path.string());
      difference = tekken_difference(util::JsonView(document, path.string()), tokenizer);
    } else if (is_tiktoken(content)) {
      difference = tiktoken_difference(content, path.string(), tokenizer);
    } else {
      difference = sentencepiece_difference(content, path.string(), settings, json, tokenizer);
    }
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

/// Of a Unigram file beside the SentencePiece model that it was made from. Most normalize by a table
/// (Precompiled) that the library alone has, with the model.
std::unique_ptr<Tokenizer> load_unigram(const util::JsonView& root, const TokenizerSettings& settings,
                                        const fs::path& folder, const fs::path& model_path) {
  try {
    return make_json_tokenizer(root, settings, folder);
  } catch (const util::Error& error) {
    if (error.code() != util::ErrorCode::kFormat) throw;
  }
  return make_sentencepiece_tokenizer(util::read_file(model_path, kMaxFile), model_path.string(), settings,
                                      &root);
}

std::unique_ptr<Tokenizer> load_files(const fs::path& folder, const TokenizerSettings& settings) {
  const fs::path json_path = folder / kJson, model_path = folder / kModel, tekken_path = folder / kTekken,
                 ranks_path = folder / kRanks;
  const bool has_model = util::exists(model_path), has_vocab = has_vocab_and_merges(folder);
  if (util::exists(json_path)) {
    const util::Json document = util::parse_json(util::read_file(json_path, kMaxFile), json_path.string());
    const util::JsonView root(document, json_path.string());
    if (has_model && is_unigram(root)) return load_unigram(root, settings, folder, model_path);
    auto tokenizer = make_json_tokenizer(root, settings, folder);
    for (const fs::path& path : {model_path, tekken_path, ranks_path}) {
      if (util::exists(path)) compare_file(path, settings, root, *tokenizer);
    }
    return tokenizer;
  }
  const bool has_tekken = util::exists(tekken_path), has_ranks = util::exists(ranks_path);
  const fs::path& used = has_tekken ? tekken_path : has_model ? model_path : ranks_path;
  const auto ignored = [&](const char* names) {
    util::log_warning(util::cat(used.string(), " is used; ignored beside it: ", names));
  };
  if (has_tekken && has_model) ignored(kModel);
  if ((has_tekken || has_model) && has_ranks) ignored(kRanks);
  if ((has_tekken || has_model || has_ranks) && has_vocab) ignored("vocab.json and merges.txt");
  if (has_tekken) {
    const util::Json document =
        util::parse_json(util::read_file(tekken_path, kMaxFile), tekken_path.string());
    return make_tekken_tokenizer(util::JsonView(document, tekken_path.string()), settings);
  }
  if (has_model) {
    const std::string content = util::read_file(model_path, kMaxFile);
    if (is_tiktoken(content)) return make_tiktoken_tokenizer(content, model_path.string(), settings);
    return make_sentencepiece_tokenizer(content, model_path.string(), settings, nullptr);
  }
  if (has_ranks)
    return make_moonshot_tokenizer(util::read_file(ranks_path, kMaxFile), ranks_path.string(), settings);
  if (has_vocab) return load_vocab_and_merges(folder, settings);
  throw util::input_error({.what = "no tokenizer",
                           .where = folder.string(),
                           .expected = "tokenizer.json, tekken.json, tokenizer.model, tiktoken.model, or "
                                       "vocab.json with merges.txt"});
}

}  // namespace

std::string Tokenizer::token_text(TokenId id) const {
  return util::valid_utf8(token_bytes(id));
}

std::vector<std::string> tokenizer_files(const fs::path& folder) {
  std::vector<std::string> names;
  for (const char* name : {kJson, kModel, kTekken, kRanks, "vocab.json", "merges.txt",
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
