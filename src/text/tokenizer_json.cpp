// tokenizer.json, and the older vocab.json + merges.txt, which say the same for GPT-2.
#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "formats.hpp"

namespace depthlens::text {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::format_error;
using util::in_quotes;
using util::Json;
using util::JsonView;

/// Stands for a space in tokens of SentencePiece.
const std::string kSpaceMark = "\u2581";

[[noreturn]] void refuse(const JsonView& json, const std::string& what) {
  throw format_error({.what = "the tokenizer asks for " + what + ", which depthlens does not have",
                      .where = json.where(),
                      .hint = "depthlens reads byte-level BPE and SentencePiece tokenizers"});
}

std::string type_of(const JsonView& json) {
  return json.at("type").as_string();
}

/// Calls `use` for the element itself, or for each element of a Sequence's list `key`.
template <typename Use>
void for_each_step(const JsonView& json, const std::string& key, const Use& use) {
  if (type_of(json) != "Sequence") {
    use(json);
    return;
  }
  const JsonView list = json.at(key);
  if (!list.is_array()) list.fail("a list");
  for (std::size_t i = 0; i < list.size(); ++i) for_each_step(list.at(i), key, use);
}

struct NormalizerPlan {
  Normalizer normalizer;
  bool marks_spaces = false;
};

NormalizerPlan read_normalizer(const JsonView& root) {
  NormalizerPlan plan;
  if (!root.has("normalizer")) return plan;
  for_each_step(root.at("normalizer"), "normalizers", [&](const JsonView& step) {
    const std::string type = type_of(step);
    if (type == "NFC") {
      plan.normalizer.add({Normalizer::Kind::kNfc});
    } else if (type == "Prepend") {
      plan.normalizer.add({.kind = Normalizer::Kind::kPrepend, .content = step.at("prepend").as_string()});
    } else if (type == "Replace") {
      const JsonView pattern = step.at("pattern");
      if (!pattern.has("String")) refuse(step, "a normalizer Replace with a regular expression");
      const std::string wanted = pattern.at("String").as_string();
      const std::string content = step.at("content").as_string();
      if (wanted.empty()) pattern.fail("a text that is not empty");
      plan.marks_spaces |= wanted == " " && content == kSpaceMark;
      plan.normalizer.add({Normalizer::Kind::kReplace, wanted, content});
    } else {
      refuse(step, "the normalizer " + in_quotes(type));
    }
  });
  return plan;
}

SplitBehavior read_behavior(const JsonView& json) {
  const std::string name = json.as_string();
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  json.fail("Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
}

std::unique_ptr<Splitter> read_split(const JsonView& step) {
  const SplitBehavior behavior = read_behavior(step.at("behavior"));
  const bool invert = step.get_bool("invert", false);
  const JsonView pattern = step.at("pattern");
  if (pattern.has("Regex"))
    return regex_splitter(pattern.at("Regex").as_string(), behavior, invert, pattern.where());
  std::string text = pattern.at("String").as_string();
  if (text.empty()) pattern.fail("a text that is not empty");
  return string_splitter(std::move(text), behavior, invert);
}

PrependScheme read_scheme(const JsonView& step) {
  if (!step.get_bool("add_prefix_space", true)) return PrependScheme::kNever;
  const std::string name = step.get_string("prepend_scheme", "always");
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  step.at("prepend_scheme").fail("always, first or never");
}

struct PreTokenizerPlan {
  PreTokenizer pre_tokenizer;
  bool byte_level = false;
  bool marks_spaces = false;
};

PreTokenizerPlan read_pre_tokenizer(const JsonView& root, const TokenizerSettings& settings) {
  PreTokenizerPlan plan;
  if (!root.has("pre_tokenizer")) return plan;
  // These classes of transformers let tokenizer_config.json decide.
  const bool config_decides = settings.tokenizer_class.rfind("GPT2Tokenizer", 0) == 0 ||
                              settings.tokenizer_class.rfind("GPTNeoXTokenizer", 0) == 0;
  for_each_step(root.at("pre_tokenizer"), "pretokenizers", [&](const JsonView& step) {
    const std::string type = type_of(step);
    if (plan.byte_level) refuse(step, "the pre-tokenizer " + in_quotes(type) + " after ByteLevel");
    if (type == "ByteLevel") {
      bool add_prefix_space = step.get_bool("add_prefix_space", true);
      if (config_decides && settings.add_prefix_space) add_prefix_space = *settings.add_prefix_space;
      plan.pre_tokenizer.add(byte_level_splitter(step.get_bool("use_regex", true), add_prefix_space));
      plan.byte_level = true;
    } else if (type == "Metaspace") {
      std::string mark = step.get_string("replacement", kSpaceMark);
      if (mark != kSpaceMark) step.at("replacement").fail(in_quotes(kSpaceMark));
      plan.marks_spaces = true;
      plan.pre_tokenizer.add(
          metaspace_splitter(std::move(mark), read_scheme(step), step.get_bool("split", true)));
    } else if (type == "Split") {
      plan.pre_tokenizer.add(read_split(step));
    } else if (type == "Digits") {
      plan.pre_tokenizer.add(digits_splitter(step.get_bool("individual_digits", false)));
    } else {
      refuse(step, "the pre-tokenizer " + in_quotes(type));
    }
  });
  return plan;
}

std::string model_type(const JsonView& model) {
  // Old files leave it out.
  return model.get_string("type", model.has("merges") ? "BPE" : "");
}

MergePair read_merge(const Json& merge, const JsonView& merges, std::size_t index) {
  const auto fail = [&]() { JsonView(merge, cat(merges.where(), "[", index, "]")).fail("two tokens"); };
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) fail();
    return {text.substr(0, space), text.substr(space + 1)};
  }
  if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) fail();
  return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
}

std::vector<MergePair> read_merges(const JsonView& merges) {
  if (!merges.is_array()) merges.fail("a list of merges");
  std::vector<MergePair> pairs;
  pairs.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) pairs.push_back(read_merge(merges.raw()[i], merges, i));
  return pairs;
}

}  // namespace

bool is_converted_sentencepiece(const JsonView& root) {
  const std::string type = model_type(root.at("model"));
  if (type == "Unigram") return true;
  if (type != "BPE") return false;
  return root.at("model").get_bool("byte_fallback", false);
}

void add_json_tokens(const JsonView& root, AddedTokens& tokens) {
  if (!root.has("added_tokens")) return;
  const JsonView list = root.at("added_tokens");
  if (!list.is_array()) list.fail("a list of added tokens");
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonView item = list.at(i);
    AddedToken token = read_added_token(item);
    token.id = static_cast<TokenId>(item.at("id").as_integer(0, kMaxTokens - 1));
    tokens.add(std::move(token), item.where());
  }
}

bool has_post_processor(const JsonView& root) {
  return root.has("post_processor");
}

std::optional<TokenId> post_processor_bos(const JsonView& root) {
  std::optional<TokenId> bos;
  if (!has_post_processor(root)) return bos;
  for_each_step(root.at("post_processor"), "processors", [&](const JsonView& step) {
    const std::string type = type_of(step);
    if (type == "ByteLevel") return;  // concerns offsets only
    if (type != "TemplateProcessing") refuse(step, "the post-processor " + in_quotes(type));
    const JsonView parts = step.at("single");
    if (!parts.is_array()) parts.fail("a list");
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const JsonView part = parts.at(i);
      if (part.has("Sequence")) break;  // what follows stands behind the text
      const std::string name = part.at("SpecialToken").at("id").as_string();
      const JsonView ids = step.at("special_tokens").at(name).at("ids");
      if (bos || !ids.is_array() || ids.size() != 1) refuse(part, "several tokens before a text");
      bos = static_cast<TokenId>(ids.at(std::size_t{0}).as_integer(0, kMaxTokens - 1));
    }
  });
  return bos;
}

SpecialIds special_ids(const TokenizerSettings& settings, const AddedTokens& tokens,
                       std::optional<TokenId> template_bos) {
  SpecialIds special;
  if (settings.bos) special.bos = tokens.id_of(*settings.bos);
  if (settings.eos) special.eos = tokens.id_of(*settings.eos);
  if (!settings.tells_special_tokens) {
    // GPT-2 and NeoX: one token for both, which transformers takes from the tokenizer's class.
    if (const AddedToken* end = tokens.find("<|endoftext|>")) special.bos = special.eos = end->id;
  }
  if (settings.add_bos || settings.add_eos) {
    // With either key, transformers makes the template anew.
    special.adds_bos = settings.add_bos.value_or(false);
    if (!special.bos) special.bos = template_bos;
  } else if (template_bos) {
    special.adds_bos = true;
    special.bos = template_bos;
  }
  return special;
}

std::unique_ptr<Tokenizer> make_json_tokenizer(const JsonView& root, const TokenizerSettings& settings) {
  const JsonView model_json = root.at("model");
  if (const std::string type = model_type(model_json); type != "BPE")
    refuse(model_json, "the model " + in_quotes(type));
  if (model_json.get_number("dropout", 0) != 0) refuse(model_json, "dropout of merges");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model_json.get_string(key, "").empty()) refuse(model_json, "a " + std::string(key));
  }
  NormalizerPlan normalizer = read_normalizer(root);
  PreTokenizerPlan pre_tokenizer = read_pre_tokenizer(root, settings);

  BpeOptions options;
  options.byte_level = pre_tokenizer.byte_level;
  options.byte_fallback = model_json.get_bool("byte_fallback", false);
  options.fuse_unknown = model_json.get_bool("fuse_unk", false);
  options.ignore_merges = model_json.get_bool("ignore_merges", false);
  options.unknown_token = model_json.get_string("unk_token", "");
  if (options.byte_level && options.byte_fallback) refuse(model_json, "byte_fallback with ByteLevel");
  if (!options.byte_level) {
    if (!normalizer.marks_spaces && !pre_tokenizer.marks_spaces) {
      refuse(model_json, "BPE over characters that are neither mapped from bytes nor SentencePiece's");
    }
    options.space = kSpaceMark;
  }
  const Vocabulary vocabulary = read_vocabulary(model_json.at("vocab"));
  BpeModel model =
      make_bpe_model(vocabulary, read_merges(model_json.at("merges")), options, model_json.where());

  AddedTokens tokens([&](const std::string& token) { return vocabulary.find(token); }, vocabulary.size);
  add_json_tokens(root, tokens);
  add_tokens_of(settings, tokens);
  const SpecialIds special = special_ids(settings, tokens, post_processor_bos(root));
  return std::make_unique<BpeTokenizer>(std::move(model), tokens, std::move(normalizer.normalizer),
                                        std::move(pre_tokenizer.pre_tokenizer), special);
}

std::unique_ptr<Tokenizer> load_vocab_and_merges(const fs::path& folder, TokenizerSettings settings) {
  const std::string vocab_path = (folder / "vocab.json").string(),
                    merges_path = (folder / "merges.txt").string();
  const Json document = util::parse_json(util::read_file(vocab_path), vocab_path);
  const Vocabulary vocabulary = read_vocabulary(JsonView(document, vocab_path));

  const std::string text = util::read_file(merges_path);
  std::size_t bad_byte;
  if (!util::is_valid_utf8(text, &bad_byte)) {
    throw format_error({.what = "not valid UTF-8", .where = cat(merges_path, ", byte ", bad_byte)});
  }
  std::vector<MergePair> merges;
  std::size_t line_number = 0;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    std::string_view line = std::string_view(text).substr(start, end - start);
    start = end + 1;
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || line.substr(0, 8) == "#version") continue;
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      throw format_error({.what = "a line that is not a merge",
                          .where = cat(merges_path, ", line ", line_number),
                          .expected = "two tokens",
                          .found = in_quotes(line)});
    }
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  BpeModel model = make_bpe_model(vocabulary, merges, {}, merges_path);

  // The defaults of GPT-2's class.
  const std::string end_of_text = "<|endoftext|>";
  if (!settings.tells_special_tokens && vocabulary.find(end_of_text)) {
    settings.named.push_back({.content = end_of_text, .special = true});
  }
  AddedTokens tokens([&](const std::string& token) { return vocabulary.find(token); }, vocabulary.size);
  add_tokens_of(settings, tokens);
  PreTokenizer pre_tokenizer;
  pre_tokenizer.add(byte_level_splitter(true, settings.add_prefix_space.value_or(false)));
  return std::make_unique<BpeTokenizer>(std::move(model), tokens, Normalizer(), std::move(pre_tokenizer),
                                        special_ids(settings, tokens, std::nullopt));
}

}  // namespace depthlens::text
