// tokenizer.json: what it holds of a byte-level or SentencePiece tokenizer, as a tokenizer.
#include <algorithm>
#include <map>
#include <unordered_map>

#include "agreement.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "formats.hpp"
#include "json_steps.hpp"
#include "unicode.hpp"
#include "unigram_tokenizer.hpp"

namespace depthlens::text {
namespace {

using util::cat;
using util::format_error;
using util::in_quotes;
using util::Json;
using util::JsonView;

constexpr const char* kVersion = "1.0";
constexpr const char* kUnigram = "Unigram";

struct NormalizerPlan {
  Normalizer normalizer;
  bool marks_spaces = false;
  bool prepends = false;
  bool changes_length = false;  ///< a Replace does, of anything but one code point by one
};

bool is_one_code_point(const std::string& text) {
  const char* at = text.data();
  if (!text.empty()) next_code_point(at);
  return !text.empty() && at == text.data() + text.size();
}

/// Where a text begins, as llm-jp's tokenizers have it: ^ is the beginning of every line there.
constexpr std::string_view kTextStart = R"((?<!\n)^)";

/// The text that a pattern stands for, be it a regular expression; nothing where that is more than a text.
std::optional<std::string> literal_of(const JsonView& pattern) {
  if (pattern.has("String")) return pattern.at("String").as_string();
  std::string regex = pattern.at("Regex").as_string();
  if (regex.find_first_of("\\^$.|?*+()[]{}") != std::string::npos) return std::nullopt;
  return regex;
}

NormalizerPlan read_normalizer(const JsonView& root) {
  NormalizerPlan plan;
  if (!root.has("normalizer")) return plan;
  for_each_step(root.at("normalizer"), "normalizers", [&](const JsonView& step) {
    const std::string type = type_of(step);
    if (type == "NFC") {
      refuse_other_settings(step, {"type"});
      plan.normalizer.add({Normalizer::Kind::kNfc});
    } else if (type == "Prepend") {
      refuse_other_settings(step, {"type", "prepend"});
      plan.prepends = true;
      plan.normalizer.add({.kind = Normalizer::Kind::kPrepend, .content = step.at("prepend").as_string()});
    } else if (type == "Replace") {
      refuse_other_settings(step, {"type", "pattern", "content"});
      const JsonView pattern = step.at("pattern");
      const std::string content = step.at("content").as_string();
      if (pattern.get_string("Regex", "") == kTextStart) {
        plan.prepends = true;
        plan.normalizer.add({.kind = Normalizer::Kind::kPrepend, .content = content});
        return;
      }
      const auto literal = literal_of(pattern);
      if (!literal) refuse(step, "a normalizer Replace with a regular expression");
      const std::string& wanted = *literal;
      if (wanted.empty()) pattern.fail("a text that is not empty");
      plan.changes_length |= !is_one_code_point(wanted) || !is_one_code_point(content);
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
  refuse_other_settings(step, {"type", "pattern", "behavior", "invert"});
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
  bool marks_start = false;              ///< by a Metaspace with the scheme "first"
  bool marks_start_behind_cuts = false;  ///< it stands behind other steps
};

PreTokenizerPlan read_pre_tokenizer(const JsonView& root) {
  PreTokenizerPlan plan;
  bool is_spelled = false;
  if (!root.has("pre_tokenizer")) return plan;
  for_each_step(root.at("pre_tokenizer"), "pretokenizers", [&](const JsonView& step) {
    const std::string type = type_of(step);
    if (plan.byte_level && !is_spelled) {
      plan.pre_tokenizer.add(spelling_splitter());
      is_spelled = true;
    }
    if (type == "ByteLevel") {
      if (plan.byte_level) refuse(step, "ByteLevel twice");
      refuse_other_settings(step, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
      plan.pre_tokenizer.add(
          byte_level_splitter(step.get_bool("use_regex", true), step.get_bool("add_prefix_space", true)));
      plan.byte_level = true;
    } else if (type == "Metaspace") {
      if (plan.byte_level) refuse(step, "Metaspace behind ByteLevel");
      refuse_other_settings(
          step, {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
      std::string mark = step.get_string("replacement", std::string(kSpaceMark));
      if (mark != kSpaceMark) step.at("replacement").fail(in_quotes(kSpaceMark));
      plan.marks_spaces = true;
      const PrependScheme scheme = read_scheme(step);
      plan.marks_start |= scheme == PrependScheme::kFirst;
      plan.marks_start_behind_cuts |= scheme == PrependScheme::kFirst && !plan.pre_tokenizer.empty();
      plan.pre_tokenizer.add(metaspace_splitter(std::move(mark), scheme, step.get_bool("split", true)));
    } else if (type == "Split") {
      plan.pre_tokenizer.add(read_split(step));
    } else if (type == "Punctuation") {
      refuse_other_settings(step, {"type", "behavior"});
      plan.pre_tokenizer.add(punctuation_splitter(step.has("behavior") ? read_behavior(step.at("behavior"))
                                                                       : SplitBehavior::kIsolated));
    } else if (type == "Digits") {
      refuse_other_settings(step, {"type", "individual_digits"});
      plan.pre_tokenizer.add(digits_splitter(step.get_bool("individual_digits", false)));
    } else {
      refuse(step, "the pre-tokenizer " + in_quotes(type));
    }
  });
  if (is_spelled) plan.pre_tokenizer.add(reading_splitter());
  return plan;
}

/// The decoder tells what tokens stand for, which is the same in all vocabularies of a kind: any other is
/// refused.
void check_decoder(const JsonView& root, bool byte_level) {
  if (!root.has("decoder")) return;
  bool reads_bytes = false;
  for_each_step(root.at("decoder"), "decoders", [&](const JsonView& step) {
    const std::string type = type_of(step);
    reads_bytes |= type == "ByteLevel";
    const bool marks_spaces = type == "Replace" && literal_of(step.at("pattern")) == kSpaceMark &&
                              step.at("content").as_string() == " ";
    const bool strips = type == "Replace" && step.at("content").as_string().empty() &&
                        step.at("pattern").get_string("Regex", "") == cat(kTextStart, " ");
    const bool known = marks_spaces || strips || type == "ByteLevel" || type == "ByteFallback" ||
                       type == "Fuse" || type == "Strip" || type == "Metaspace";
    if (!known) refuse(step, (type == "Replace" ? "a decoder " : "the decoder ") + in_quotes(type));
  });
  if (reads_bytes != byte_level) {
    refuse(root.at("decoder"), byte_level ? "a decoder without ByteLevel for tokens of bytes"
                                          : "the decoder 'ByteLevel' for tokens of characters");
  }
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

struct JsonPlan {
  TextSteps steps;
  bool is_unigram = false;
  BpeOptions options = {};
};

/// Refuses what asks for more of BPE than there is.
void check_bpe(const JsonView& model) {
  if (model.get_number("dropout", 0) != 0) refuse(model, "dropout of merges");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.get_string(key, "").empty()) refuse(model, "a " + std::string(key));
  }
  refuse_other_settings(model,
                        {"type", "vocab", "merges", "dropout", "unk_token", "continuing_subword_prefix",
                         "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges"});
}

JsonPlan read_plan(const JsonView& root) {
  const JsonView model = root.at("model");
  refuse_other_settings(root, {"version", "truncation", "padding", "added_tokens", "normalizer",
                               "pre_tokenizer", "post_processor", "decoder", "model"});
  if (const std::string version = root.get_string("version", kVersion); version != kVersion)
    refuse(root, "the version " + in_quotes(version));
  const std::string type = model_type(model);
  if (type != "BPE" && type != kUnigram) refuse(model, "the model " + in_quotes(type));
  if (type == "BPE") check_bpe(model);
  NormalizerPlan normalizer = read_normalizer(root);
  PreTokenizerPlan pre_tokenizer = read_pre_tokenizer(root);
  // Hugging Face's package takes all that comes of the text's first character for its start.
  if (normalizer.prepends && pre_tokenizer.marks_start_behind_cuts)
    refuse(root.at("pre_tokenizer"), "Metaspace 'first' behind a normalizer Prepend and other steps");
  // Where lengths change, it loses track of what that character became.
  if (normalizer.changes_length && pre_tokenizer.marks_start)
    refuse(root.at("pre_tokenizer"), "Metaspace 'first' behind a normalizer Replace that changes the length");
  JsonPlan plan = {.steps = {std::move(normalizer.normalizer), std::move(pre_tokenizer.pre_tokenizer)},
                   .is_unigram = type == kUnigram};
  BpeOptions& options = plan.options;
  options.byte_level = pre_tokenizer.byte_level;
  options.byte_fallback = model.get_bool("byte_fallback", false);
  options.fuse_unknown = model.get_bool("fuse_unk", false);
  options.ignore_merges = model.get_bool("ignore_merges", false);
  options.unknown_token = model.get_string("unk_token", "");
  if (options.byte_level && plan.is_unigram) refuse(model, "Unigram with ByteLevel");
  if (options.byte_level && options.byte_fallback) refuse(model, "byte_fallback with ByteLevel");
  if (!options.byte_level) {
    if (!normalizer.marks_spaces && !pre_tokenizer.marks_spaces) {
      refuse(model, type + " over characters that are neither mapped from bytes nor SentencePiece's");
    }
    options.space = kSpaceMark;
  }
  check_decoder(root, options.byte_level);
  return plan;
}

/// The steps that do more than mark spaces, which one class does in the normalizer and another behind it.
std::vector<Normalizer::Step> beside_spaces(const Normalizer& normalizer) {
  std::vector<Normalizer::Step> steps = normalizer.steps();
  std::erase_if(steps, [](const Normalizer::Step& step) {
    return step.content == kSpaceMark && (step.pattern.empty() || step.pattern == " ");
  });
  return steps;
}

/// Puts the steps and the names of the folder's class in place of the file's, as transformers 5 does, and
/// says so where that changes anything. Whether the class makes a tokenizer of its own, of vocabulary and
/// merges.
bool use_steps_of_class(const TokenizerClass& tokenizer_class, TokenizerSettings& settings,
                        const std::string& where, JsonPlan& plan) {
  if (tokenizer_class.steps == ClassSteps::kOfFile) return false;
  const std::string name = describe_class(tokenizer_class, settings);
  // A class for the other kind of pieces makes nonsense of the file: spaces are lost.
  const bool unknown = tokenizer_class.steps == ClassSteps::kUnknown;
  if (unknown || tokenizer_class.over_bytes() != plan.options.byte_level) {
    util::log_warning(cat(where, " is read as it stands, not as the class ", name, " does it, which ",
                          unknown                        ? "may cut texts otherwise"
                          : tokenizer_class.over_bytes() ? "is for tokens of bytes"
                                                         : "is for tokens of characters"));
    return false;
  }
  if (plan.is_unigram) {
    throw format_error(
        {.what = cat("a Unigram model with the class ", name, ", which merges pairs"),
         .where = where,
         .hint = "the SentencePiece model that it was made from (tokenizer.model) is read beside it"});
  }
  TextSteps steps = steps_of(tokenizer_class, settings);
  const std::string probe = first_difference(plan.steps, steps);
  const bool normalizes = beside_spaces(plan.steps.normalizer) != beside_spaces(steps.normalizer);
  if (!probe.empty() || normalizes || plan.options.ignore_merges) {
    util::log_warning(
        cat(where, ": ",
            !probe.empty() ? cat("normalizer and pre_tokenizer are not used, which cut ", probe, " otherwise")
            : normalizes   ? std::string("the normalizer is not used, which is another one")
                           : std::string("ignore_merges is not heeded"),
            "; the class ", name, " has its own in transformers 5"));
  }
  plan.steps = std::move(steps);
  const bool over_characters = tokenizer_class.over_characters();
  if (over_characters && !(plan.options.byte_fallback && plan.options.fuse_unknown)) {
    util::log_warning(cat(where, ": byte_fallback and fuse_unk are on, whatever it says; the class ", name,
                          " has its own in transformers 5"));
  }
  plan.options.byte_fallback = plan.options.fuse_unknown = over_characters;
  plan.options.ignore_merges = false;
  add_names_of_class(tokenizer_class, settings);
  plan.options.unknown_token = over_characters && !tokenizer_class.drops_unknown
                                   ? settings.name_of("unk_token").value_or("")
                                   : std::string();
  return true;
}

/// The `added_tokens` of tokenizer.json, with the ids that it says.
std::vector<AddedToken> read_added(const JsonView& root) {
  std::vector<AddedToken> tokens;
  if (!root.has("added_tokens")) return tokens;
  const JsonView list = root.at("added_tokens");
  if (!list.is_array()) list.fail("a list of added tokens");
  std::unordered_map<TokenId, std::string> owners;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonView item = list.at(i);
    AddedToken token = read_added_token(item);
    token.id = static_cast<TokenId>(item.at("id").as_integer(0, kMaxTokens - 1));
    const auto [owner, is_new] = owners.emplace(token.id, token.content);
    if (!is_new) {
      throw format_error({.what = cat("two added tokens with the id ", token.id),
                          .where = item.where(),
                          .found = cat(in_quotes(owner->second), " and ", in_quotes(token.content))});
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

/// Those of added_tokens.json and of tokenizer.json, which comes first, in the order of their ids.
/// `with_ids`: the latter are not there yet.
std::vector<AddedToken> added_by_id(const std::vector<AddedToken>& of_file, const JsonView& root,
                                    bool with_ids) {
  std::map<TokenId, AddedToken> by_id;
  for (const AddedToken& token : of_file) by_id[token.id] = token;
  for (AddedToken& token : read_added(root)) {
    const TokenId id = token.id;
    if (!with_ids) token.id = kNoToken;
    by_id[id] = std::move(token);
  }
  std::vector<AddedToken> tokens;
  for (auto& [id, token] : by_id) tokens.push_back(std::move(token));
  return tokens;
}

/// Tells which tokens of added_tokens.json tokenizer.json does not have: who reads only the latter has other
/// ids.
void tell_more_added(const AddedTokens& of_json, const std::vector<AddedToken>& of_file,
                     const std::string& file, const std::string& where) {
  std::vector<std::string> more;
  for (const AddedToken& token : of_file) {
    if (of_json.find(token.content) == nullptr) more.push_back(in_quotes(token.content));
  }
  if (more.empty()) return;
  util::log_warning(cat(file, " has tokens that ", where, " does not have: ", more.front(),
                        more.size() > 1 ? cat(" (one of ", more.size(), ")") : "",
                        "; they are added, as in transformers"));
}

/// Tells of an added token that is looked for behind the normalizer, which is the class's.
void tell_normalized(const AddedTokens& tokens, const std::string& name, const std::string& where) {
  const auto token = std::find_if(tokens.all().begin(), tokens.all().end(),
                                  [](const AddedToken& added) { return added.normalized; });
  if (token == tokens.all().end()) return;
  util::log_warning(cat(where, ": the added token ", in_quotes(token->content),
                        " is not looked for behind the file's normalizer (normalized is true); the class ",
                        name, " has its own in transformers 5"));
}

/// Tells where the added tokens of the two files differ. `config_decides`: those of tokenizer.json do not
/// count.
void compare_added(const AddedTokens& of_json, const TokenizerSettings& settings, bool config_decides,
                   const std::string& where) {
  std::size_t differ = 0;
  std::string first;
  const auto tell = [&](const AddedToken& token, const char* what) {
    if (differ++ == 0) first = cat(in_quotes(token.content), what);
  };
  for (const AddedToken& token : settings.added) {
    const AddedToken* const other = of_json.find(token.content);
    if (other == nullptr) {
      tell(token, " is in the latter only");
    } else if (token.lstrip != other->lstrip || token.rstrip != other->rstrip ||
               token.single_word != other->single_word || token.normalized != other->normalized ||
               token.special != other->special) {
      tell(token, " has other flags");
    }
  }
  for (const AddedToken& token : of_json.all()) {
    const auto same = [&](const AddedToken& other) { return other.content == token.content; };
    if (config_decides && std::none_of(settings.added.begin(), settings.added.end(), same))
      tell(token, " is in the former only");
  }
  if (differ == 0) return;
  util::log_warning(cat("added_tokens of ", where, " and added_tokens_decoder of ", settings.where,
                        " differ: ", first, differ > 1 ? cat(" (one of ", differ, ")") : "",
                        "; the latter counts", config_decides ? ", the former does not" : " first",
                        ", as in transformers 5"));
}

/// The tokens of a vocabulary, `tokens`, with those that the files of the folder add.
AddedTokens with_added(const JsonView& root, TokenizerSettings& settings, const std::filesystem::path& folder,
                       bool made_by_class, AddedTokens tokens) {
  AddedTokens of_json = tokens;
  add_json_tokens(root, of_json);
  const bool config_decides = made_by_class && settings.lists_added;
  if (settings.lists_added) {
    compare_added(of_json, settings, config_decides, root.where());
  } else {
    tell_more_added(of_json, settings.added, (folder / "added_tokens.json").string(), root.where());
    settings.added = added_by_id(settings.added, root, made_by_class);
  }
  if (!made_by_class) tokens = std::move(of_json);
  add_tokens_of(settings, tokens);
  return tokens;
}

void check_normalized(const AddedTokens& tokens, const Normalizer& normalizer, const JsonView& root) {
  for (const AddedToken& token : tokens.all()) {
    std::string storage;
    if (token.normalized && normalizer.apply(token.content, storage).empty())
      refuse(root,
             cat("the added token ", in_quotes(token.content), ", of which the normalizer leaves nothing"));
  }
}

}  // namespace

bool is_unigram(const JsonView& root) {
  return model_type(root.at("model")) == kUnigram;
}

void name_padding(const JsonView& root, TokenizerSettings& settings) {
  if (!root.has("padding")) return;
  settings.name_token("pad_token",
                      {.content = root.at("padding").at("pad_token").as_string(), .special = true});
}

std::optional<PrependScheme> metaspace_scheme(const JsonView& root) {
  std::optional<PrependScheme> scheme;
  if (!root.has("pre_tokenizer")) return scheme;
  for_each_step(root.at("pre_tokenizer"), "pretokenizers", [&](const JsonView& step) {
    if (type_of(step) == "Metaspace") scheme = read_scheme(step);
  });
  return scheme;
}

void add_json_tokens(const JsonView& root, AddedTokens& tokens) {
  for (AddedToken& token : read_added(root)) {
    const std::string where = cat(root.where(), ": added_tokens");
    tokens.add(std::move(token), where);
  }
}

std::unique_ptr<Tokenizer> make_json_tokenizer(const JsonView& root, TokenizerSettings settings,
                                               const std::filesystem::path& folder) {
  JsonPlan plan = read_plan(root);
  const std::vector<Normalizer::Step> normalizer_of_file = plan.steps.normalizer.steps();
  const std::string unknown_of_file = plan.options.unknown_token;
  const TokenizerClass& tokenizer_class = class_of(settings, plan.options.byte_level);
  const bool made_by_class = use_steps_of_class(tokenizer_class, settings, root.where(), plan);
  // The classes over bytes name a pad token themselves, or none.
  if (!made_by_class || tokenizer_class.over_characters()) name_padding(root, settings);

  const JsonView model_json = root.at("model");
  const auto finished_tokens = [&](AddedTokens tokens) {
    tokens = with_added(root, settings, folder, made_by_class, std::move(tokens));
    check_normalized(tokens, plan.steps.normalizer, root);
    if (plan.steps.normalizer.steps() != normalizer_of_file)
      tell_normalized(tokens, describe_class(tokenizer_class, settings), root.where());
    return tokens;
  };
  const auto special_of = [&](const AddedTokens& tokens) {
    const PostProcessor post_processor = read_post_processor(root);
    return special_ids(settings, made_by_class ? tokenizer_class : generic_class(), tokens, &post_processor);
  };
  if (plan.is_unigram) {
    UnigramModel model = read_unigram(model_json);
    const AddedTokens tokens = finished_tokens(AddedTokens(
        [&](const std::string& token) {
          const int id = model.ids.find(token);
          return id == PrefixTree::kNone ? std::nullopt : std::optional<TokenId>(id);
        },
        static_cast<TokenId>(model.pieces.size())));
    const SpecialIds special = special_of(tokens);
    return std::make_unique<UnigramTokenizer>(std::move(model), tokens, std::move(plan.steps), special);
  }
  const Vocabulary vocabulary = read_vocabulary(model_json.at("vocab"));
  const std::vector<MergePair> merges = read_merges(model_json.at("merges"));
  BpeModel model = make_bpe_model(vocabulary, merges, plan.options, model_json.where());
  const AddedTokens tokens =
      finished_tokens(AddedTokens([&](const std::string& token) { return vocabulary.find(token); },
                                  static_cast<TokenId>(vocabulary.ids.size()), ids_taken(vocabulary)));
  if (unknown_of_file != plan.options.unknown_token && !model.knows_all_bytes()) {
    const std::string& unknown = plan.options.unknown_token;
    util::log_warning(cat(root.where(), ": the unk_token of its model is ",
                          unknown.empty() ? "none" : in_quotes(unknown), ", whatever it says; the class ",
                          describe_class(tokenizer_class, settings), " has its own in transformers 5"));
  }
  compare_vocab_and_merges(folder, root.where(), vocabulary, merges, tokens);
  return std::make_unique<BpeTokenizer>(std::move(model), tokens, std::move(plan.steps), special_of(tokens));
}

}  // namespace depthlens::text
