// The small JSON files beside a tokenizer, and which of them counts where they disagree.
#include "settings.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <string_view>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "json_steps.hpp"

namespace depthlens::text {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::in_quotes;
using util::Json;
using util::JsonView;
using util::OrderedJson;

/// In the order in which transformers adds tokens that have no id yet.
constexpr std::array<std::string_view, 7> kNameKeys = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                       "pad_token", "cls_token", "mask_token"};

using Names = std::map<std::string, std::optional<AddedToken>>;

/// An object and the same with its keys in the order of the file: tokens without an id get theirs in it.
struct OrderedView {
  JsonView json;
  const OrderedJson& ordered;

  OrderedView at(const std::string& key) const { return {json.at(key), ordered.at(key)}; }
};

void with_file(const fs::path& path, const std::function<void(const OrderedView&)>& use) {
  if (!util::exists(path)) return;
  const std::string text = util::read_file(path, util::kMaxSettingsFile);
  const Json document = util::parse_config(text, path.string());
  const OrderedJson ordered = util::parse_ordered_config(text, path.string());
  const JsonView root(document, path.string());
  if (!root.is_object()) root.fail("an object");
  use({root, ordered});
}

std::optional<bool> optional_bool(const JsonView& json, const std::string& key) {
  if (!json.has(key)) return std::nullopt;
  return json.at(key).as_bool();
}

/// A token given as its text or as an object with `content`.
AddedToken named_token(const JsonView& json) {
  AddedToken token;
  if (json.is_object()) {
    token = read_added_token(json);
  } else {
    token.content = json.as_string();
  }
  token.special = true;
  return token;
}

bool contains(const std::vector<AddedToken>& tokens, const std::string& content) {
  return std::any_of(tokens.begin(), tokens.end(),
                     [&](const AddedToken& token) { return token.content == content; });
}

Names read_names(const JsonView& json) {
  Names names;
  for (const std::string_view name : kNameKeys) {
    const std::string key(name);
    if (!json.raw().contains(key)) continue;
    names[key] = json.has(key) ? std::optional(named_token(json.at(key))) : std::nullopt;
  }
  return names;
}

/// Of all keys that `is_one` takes.
KeyedTokens keyed_tokens(
    const OrderedView& object,
    const std::function<bool(const std::string& key, const OrderedJson& value)>& is_one) {
  KeyedTokens tokens;
  for (const auto& [key, value] : object.ordered.items()) {
    if (is_one(key, value)) tokens.emplace_back(key, named_token(object.json.at(key)));
  }
  return tokens;
}

/// The special tokens beside the named ones, as transformers 5 gathers them from tokenizer_config.json and
/// then from special_tokens_map.json: by keys "…_token", by keys of an object, and in two lists of which one
/// counts.
class MoreSpecialTokens {
 public:
  void read_config(const OrderedView& root) {
    const bool has_extra = read_lists(root);
    if (additional_ && !has_extra) extra_ = std::exchange(additional_, {});
    add_all(by_key_, tokens_by_key(root));
    add_all(by_key_, std::exchange(of_extra_, {}));
    constexpr const char* kModelSpecific = "model_specific_special_tokens";
    if (by_key_.empty() && root.json.has(kModelSpecific)) by_key_ = all_of(root.at(kModelSpecific));
  }

  void read_map(const OrderedView& root) {
    std::vector<AddedToken> before = extra_.value_or(std::vector<AddedToken>());
    read_lists(root);
    if (extra_) {
      for (AddedToken& token : std::exchange(*extra_, std::move(before))) {
        token.special = true;
        if (!contains(*extra_, token.content)) extra_->push_back(std::move(token));
      }
    }
    KeyedTokens all = tokens_by_key(root);
    add_all(by_key_, std::exchange(of_extra_, {}));
    add_all(all, std::move(by_key_));
    by_key_ = std::move(all);
  }

  void give_to(TokenizerSettings& settings) && {
    settings.model_special = std::move(by_key_);
    settings.lists_extra_special = extra_.has_value();
    if (const auto& list = extra_ ? extra_ : additional_) settings.more_special = *list;
  }

 private:
  static KeyedTokens all_of(const OrderedView& object) {
    if (!object.json.is_object()) object.json.fail("an object of tokens");
    return keyed_tokens(object, [](const std::string&, const OrderedJson&) { return true; });
  }
  static KeyedTokens tokens_by_key(const OrderedView& root) {
    return keyed_tokens(root, [](const std::string& key, const OrderedJson& value) {
      return key.ends_with("_token") &&
             std::find(kNameKeys.begin(), kNameKeys.end(), key) == kNameKeys.end() &&
             (value.is_string() || (value.is_object() && value.contains("content")));
    });
  }
  static std::vector<AddedToken> list_of(const JsonView& root, const char* key) {
    std::vector<AddedToken> tokens;
    if (!root.has(key)) return tokens;  // null
    const JsonView list = root.at(key);
    if (!list.is_array()) list.fail("a list of tokens");
    for (std::size_t i = 0; i < list.size(); ++i) {
      const JsonView token = list.at(i);
      // Of these, flags of an object say whether it is special.
      tokens.push_back(token.is_object() ? read_added_token(token) : named_token(token));
    }
    return tokens;
  }

  /// Whether `root` has any of the tokens that are called extra.
  bool read_lists(const OrderedView& root) {
    constexpr const char *kAdditional = "additional_special_tokens", *kExtra = "extra_special_tokens";
    const Json& raw = root.json.raw();
    if (raw.contains(kAdditional)) additional_ = list_of(root.json, kAdditional);
    if (!raw.contains(kExtra)) return false;
    if (raw.at(kExtra).is_object()) {
      of_extra_ = all_of(root.at(kExtra));
      extra_.reset();
      return !of_extra_.empty();
    }
    extra_ = list_of(root.json, kExtra);
    return !extra_->empty();
  }

  KeyedTokens by_key_, of_extra_;
  std::optional<std::vector<AddedToken>> additional_, extra_;  // nothing: there is no such key
};

std::vector<AddedToken> read_added_list(const JsonView& decoder) {
  std::vector<AddedToken> tokens;
  for (const auto& key : decoder.keys()) {
    AddedToken token = read_added_token(decoder.at(key));
    std::int64_t id;
    if (!util::parse_int(key, id) || id < 0 || id >= kMaxTokens) {
      throw util::format_error({.what = "an added token with an impossible id",
                                .where = decoder.where(),
                                .expected = cat("0 to ", kMaxTokens - 1),
                                .found = in_quotes(key)});
    }
    token.id = static_cast<TokenId>(id);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

void sort_by_id(std::vector<AddedToken>& tokens) {
  std::sort(tokens.begin(), tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
}

/// Tells of what may change ids elsewhere, but neither here nor, without more, in transformers.
void warn_of_unheeded(const JsonView& root) {
  const auto warn = [&](const char* key, const char* instead) {
    util::log_warning(cat(root.where(), ": ", key, " is not heeded; ", instead));
  };
  if (root.get_bool("do_lower_case", false)) warn("do_lower_case", "texts are read as they are");
  if (root.get_bool("fix_mistral_regex", false))
    warn("fix_mistral_regex", "texts are cut by the pattern of tokenizer.json");
  if (root.has("sp_model_kwargs") && root.at("sp_model_kwargs").is_object() &&
      root.at("sp_model_kwargs").get_bool("enable_sampling", false))
    warn("enable_sampling", "the most probable pieces are taken");
  if (root.has("auto_map") && (root.at("auto_map").is_array() || root.at("auto_map").has("AutoTokenizer")))
    warn("auto_map", "it names code of the model's own, which is not run, and the files are read without it");
  if (root.has("fast_tokenizer_files") &&
      root.at("fast_tokenizer_files").raw() != Json::array({"tokenizer.json"}))
    warn("fast_tokenizer_files", "tokenizer.json is read, not the file for a version of transformers");
}

void read_tokenizer_config(const JsonView& root, TokenizerSettings& settings) {
  settings.tokenizer_class = root.get_string("tokenizer_class", "");
  settings.class_file = root.where();
  settings.add_bos = optional_bool(root, "add_bos_token");
  settings.add_eos = optional_bool(root, "add_eos_token");
  settings.legacy = optional_bool(root, "legacy");
  // Absent is another thing than null to some classes, for which null is false.
  if (!settings.legacy && root.raw().contains("legacy")) settings.legacy = false;
  settings.add_prefix_space = optional_bool(root, "add_prefix_space");
  settings.split_special_tokens = root.get_bool("split_special_tokens", false);
  settings.names = read_names(root);
  settings.lists_added = root.has("added_tokens_decoder");
  if (settings.lists_added) settings.added = read_added_list(root.at("added_tokens_decoder"));
  sort_by_id(settings.added);
  warn_of_unheeded(root);
}

/// Files of transformers before 4.34, which tokenizer_config.json has taken over since.
void read_special_tokens_map(const JsonView& root, TokenizerSettings& settings) {
  for (const auto& [key, token] : read_names(root)) {
    const std::string theirs = token ? in_quotes(token->content) : "none";
    const auto known = settings.names.find(key);
    const bool is_new = known == settings.names.end();
    const std::string ours = !is_new && known->second ? in_quotes(known->second->content) : "none";
    if (theirs != ours && (!is_new || settings.lists_added)) {
      util::log_warning(cat(root.where(), " gives the ", key, " ", theirs, ", ", settings.where, " ", ours,
                            "; ", settings.lists_added ? "the latter" : "the former",
                            " counts, as in transformers"));
    }
    if (!settings.lists_added) settings.names[key] = token;
  }
}

void read_added_tokens_file(const JsonView& root, TokenizerSettings& settings) {
  std::vector<AddedToken> tokens;
  for (const auto& content : root.keys()) {
    AddedToken token;
    token.content = content;
    token.id = static_cast<TokenId>(root.at(content).as_integer(0, kMaxTokens - 1));
    token.special = contains(settings.more_special, content) ||
                    std::any_of(settings.names.begin(), settings.names.end(), [&](const auto& entry) {
                      return entry.second && entry.second->content == content;
                    });
    token.normalized = !token.special;
    tokens.push_back(std::move(token));
  }
  if (settings.lists_added) {
    for (const AddedToken& token : tokens) {
      const auto same = std::find_if(settings.added.begin(), settings.added.end(),
                                     [&](const AddedToken& other) { return other.content == token.content; });
      if (same != settings.added.end() && same->id == token.id) continue;
      util::log_warning(cat(root.where(), " gives ", in_quotes(token.content), " the id ", token.id, ", ",
                            settings.where, same == settings.added.end() ? " none" : cat(" ", same->id),
                            "; the latter counts, as in transformers"));
      return;
    }
    return;
  }
  settings.added = std::move(tokens);
  sort_by_id(settings.added);
}

/// Numbers of special tokens; what else stands there is for others to judge.
void read_stated_ids(const JsonView& root, TokenizerSettings& settings) {
  for (const bool is_bos : {true, false}) {
    const std::string key = is_bos ? "bos_token_id" : "eos_token_id";
    if (!root.has(key)) continue;
    const Json& value = root.raw().at(key);
    StatedIds stated = {.where = cat(root.where(), ": ", key), .is_bos = is_bos};
    for (const Json& id : value.is_array() ? value : Json::array({value})) {
      if (id.is_number_integer()) stated.ids.push_back(id.get<std::int64_t>());
    }
    if (!stated.ids.empty()) settings.stated_ids.push_back(std::move(stated));
  }
}

/// Where config.json has no model_type, the architecture tells the same.
std::string model_type_of(const JsonView& root) {
  if (root.has("model_type")) return root.at("model_type").as_string();
  if (!root.has("architectures") || !root.at("architectures").is_array() ||
      root.at("architectures").size() == 0)
    return "";
  const std::string architecture = root.at("architectures").at(std::size_t{0}).as_string();
  for (const auto& [prefix, type] : {std::pair{"GPT2", "gpt2"},
                                     {"GPTNeoX", "gpt_neox"},
                                     {"Llama", "llama"},
                                     {"Mistral", "mistral"},
                                     {"Qwen2", "qwen2"},
                                     {"Qwen3", "qwen3"}}) {
    if (architecture == cat(prefix, "ForCausalLM") || architecture == cat(prefix, "LMHeadModel") ||
        architecture == cat(prefix, "Model"))
      return type;
  }
  return "";
}

}  // namespace

void add_all(KeyedTokens& all, KeyedTokens more) {
  for (auto& [key, token] : more) {
    const auto same =
        std::find_if(all.begin(), all.end(), [&](const auto& entry) { return entry.first == key; });
    if (same == all.end()) {
      all.emplace_back(key, std::move(token));
    } else {
      same->second = std::move(token);
    }
  }
}

std::optional<std::string> TokenizerSettings::name_of(const std::string& key) const {
  const auto found = names.find(key);
  if (found == names.end() || !found->second) return std::nullopt;
  return found->second->content;
}

AddedToken read_added_token(const JsonView& json) {
  refuse_other_settings(
      json, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special", "__type"});
  AddedToken token;
  token.content = json.at("content").as_string();
  token.single_word = json.get_bool("single_word", false);
  token.lstrip = json.get_bool("lstrip", false);
  token.rstrip = json.get_bool("rstrip", false);
  token.special = json.get_bool("special", false);
  token.normalized = json.get_bool("normalized", !token.special);
  return token;
}

TokenizerSettings read_settings(const fs::path& folder) {
  TokenizerSettings settings;
  settings.where = (folder / "tokenizer_config.json").string();
  settings.config_file = (folder / "config.json").string();
  MoreSpecialTokens more;
  with_file(folder / "tokenizer_config.json", [&](const OrderedView& root) {
    read_tokenizer_config(root.json, settings);
    more.read_config(root);
  });
  with_file(folder / "special_tokens_map.json", [&](const OrderedView& root) {
    read_special_tokens_map(root.json, settings);
    if (!settings.lists_added) more.read_map(root);
  });
  std::move(more).give_to(settings);
  with_file(folder / "added_tokens.json",
            [&](const OrderedView& root) { read_added_tokens_file(root.json, settings); });
  with_file(folder / "config.json", [&](const OrderedView& root) {
    settings.model_type = model_type_of(root.json);
    if (settings.tokenizer_class.empty()) {
      settings.tokenizer_class = root.json.get_string("tokenizer_class", "");
      settings.class_file = root.json.where();
    }
    read_stated_ids(root.json, settings);
  });
  with_file(folder / "generation_config.json",
            [&](const OrderedView& root) { read_stated_ids(root.json, settings); });
  constexpr std::string_view kFast = "Fast";
  if (settings.tokenizer_class.ends_with(kFast))
    settings.tokenizer_class.resize(settings.tokenizer_class.size() - kFast.size());
  return settings;
}

void add_tokens_of(const TokenizerSettings& settings, AddedTokens& tokens) {
  for (const AddedToken& token : settings.added) tokens.add(token, settings.where);
  const AddedTokens of_files = tokens;
  std::vector<AddedToken> added;
  // One that the files list keeps their flags. Of one under several names each new spelling counts, and so
  // the last one.
  const auto add_special = [&](const AddedToken& token) {
    if (settings.plain_special_tokens) {
      tokens.add({.content = token.content, .special = true}, settings.where);
    } else if (of_files.find(token.content) == nullptr &&
               std::find(added.begin(), added.end(), token) == added.end()) {
      tokens.add(added.emplace_back(token), settings.where);
    }
  };
  // One of tokenizer.json that is not in added_tokens_decoder stays what it is.
  const auto add_named = [&](const AddedToken& token) {
    add_special(token);
    if (!settings.lists_added || contains(settings.added, token.content)) tokens.mark_special(token.content);
  };
  for (const std::string_view key : kNameKeys) {
    const auto named = settings.names.find(std::string(key));
    if (named == settings.names.end() || !named->second) continue;
    add_named(*named->second);
  }
  for (const auto& [key, token] : settings.model_special) add_named(token);
  for (const AddedToken& token : settings.more_special) add_special(token);
  tokens.warn_of_ids();
  if (!settings.split_special_tokens) return;
  util::log_warning(cat(settings.where,
                        ": split_special_tokens is true: special tokens that stand in a text are "
                        "read as text, as in transformers"));
  tokens.leave_special_as_text();
}

}  // namespace depthlens::text
