// The small JSON files beside a tokenizer, and which of them counts where they disagree.
#include "settings.hpp"

#include <algorithm>
#include <functional>

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

constexpr std::uint64_t kLargestSettings = std::uint64_t{64} << 20;

/// In the order in which transformers adds tokens that have no id yet.
constexpr const char* kNameKeys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                     "pad_token", "cls_token", "mask_token"};

using Names = std::map<std::string, std::optional<AddedToken>>;

void with_file(const fs::path& path, const std::function<void(const JsonView&)>& use) {
  if (!util::exists(path)) return;
  const Json document = util::parse_config(util::read_file(path, kLargestSettings), path.string());
  const JsonView root(document, path.string());
  if (!root.is_object()) root.fail("an object");
  use(root);
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
  for (const char* key : kNameKeys) {
    if (!json.raw().contains(key)) continue;
    names[key] = json.has(key) ? std::optional(named_token(json.at(key))) : std::nullopt;
  }
  return names;
}

std::vector<AddedToken> read_more_special(const JsonView& json) {
  std::vector<AddedToken> tokens;
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    if (!json.has(key)) continue;
    const JsonView list = json.at(key);
    if (list.is_object()) {
      for (const auto& name : list.keys()) tokens.push_back(named_token(list.at(name)));
    } else if (list.is_array()) {
      for (std::size_t i = 0; i < list.size(); ++i) tokens.push_back(named_token(list.at(i)));
    } else {
      list.fail("a list of tokens");
    }
  }
  return tokens;
}

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
  settings.more_special = read_more_special(root);
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
  if (settings.lists_added) return;
  for (AddedToken& token : read_more_special(root)) {
    if (!contains(settings.more_special, token.content)) settings.more_special.push_back(std::move(token));
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
  with_file(folder / "tokenizer_config.json",
            [&](const JsonView& root) { read_tokenizer_config(root, settings); });
  with_file(folder / "special_tokens_map.json",
            [&](const JsonView& root) { read_special_tokens_map(root, settings); });
  with_file(folder / "added_tokens.json",
            [&](const JsonView& root) { read_added_tokens_file(root, settings); });
  with_file(folder / "config.json", [&](const JsonView& root) {
    settings.model_type = model_type_of(root);
    if (settings.tokenizer_class.empty()) {
      settings.tokenizer_class = root.get_string("tokenizer_class", "");
      settings.class_file = root.where();
    }
    read_stated_ids(root, settings);
  });
  with_file(folder / "generation_config.json",
            [&](const JsonView& root) { read_stated_ids(root, settings); });
  constexpr std::string_view kFast = "Fast";
  if (settings.tokenizer_class.ends_with(kFast))
    settings.tokenizer_class.resize(settings.tokenizer_class.size() - kFast.size());
  return settings;
}

void add_tokens_of(const TokenizerSettings& settings, AddedTokens& tokens) {
  for (const AddedToken& token : settings.added) tokens.add(token, settings.where);
  const auto add_special = [&](const AddedToken& token) {
    if (settings.plain_special_tokens) {
      tokens.add({.content = token.content, .special = true}, settings.where);
    } else if (tokens.find(token.content) == nullptr) {
      tokens.add(token, settings.where);
    }
  };
  for (const char* key : kNameKeys) {
    const auto named = settings.names.find(key);
    if (named == settings.names.end() || !named->second) continue;
    add_special(*named->second);
    tokens.mark_special(named->second->content);
  }
  for (const AddedToken& token : settings.more_special) add_special(token);
  tokens.warn_of_ids();
  if (!settings.split_special_tokens) return;
  util::log_warning(cat(settings.where,
                        ": split_special_tokens is true: special tokens that stand in a text are "
                        "read as text, as in transformers"));
  tokens.leave_special_as_text();
}

}  // namespace depthlens::text
