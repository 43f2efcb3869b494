// Finds the tokenizer of a folder.
#include "depthlens/text/tokenizer.hpp"

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "formats.hpp"
#include "settings.hpp"

namespace depthlens::text {
namespace {

namespace fs = std::filesystem;

/// The largest known tokenizer.json has 35 MB; its tree takes some twenty times that.
constexpr std::uint64_t kLargestFile = std::uint64_t{256} << 20;

}  // namespace

std::string Tokenizer::token_text(TokenId id) const {
  return util::valid_utf8(token_bytes(id));
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& folder) {
  const fs::path json_path = folder / "tokenizer.json", model_path = folder / "tokenizer.model";
  const bool has_json = util::exists(json_path), has_model = util::exists(model_path);
  const bool has_vocab = util::exists(folder / "vocab.json") && util::exists(folder / "merges.txt");
  if (!has_json && !has_model && !has_vocab) {
    throw util::input_error({.what = "no tokenizer",
                             .where = folder.string(),
                             .expected = "tokenizer.json, tokenizer.model, or vocab.json with merges.txt"});
  }
  const TokenizerSettings settings = read_settings(folder);
  const std::string content = has_model ? util::read_file(model_path, kLargestFile) : std::string();
  if (has_json) {
    const util::Json document =
        util::parse_json(util::read_file(json_path, kLargestFile), json_path.string());
    const util::JsonView root(document, json_path.string());
    if (has_model && is_converted_sentencepiece(root) && !is_tiktoken(content)) {
      return make_sentencepiece_tokenizer(content, model_path.string(), settings, &root);
    }
    return make_json_tokenizer(root, settings);
  }
  if (has_model && is_tiktoken(content))
    return make_tiktoken_tokenizer(content, model_path.string(), settings);
  if (has_model) return make_sentencepiece_tokenizer(content, model_path.string(), settings, nullptr);
  return load_vocab_and_merges(folder, settings);
}

}  // namespace depthlens::text
