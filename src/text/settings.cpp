// The small JSON files beside a tokenizer.
#include "settings.hpp"

#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::text {
namespace {

namespace fs = std::filesystem;
using util::Json;
using util::JsonView;

constexpr std::uint64_t kLargestSettings = std::uint64_t{64} << 20;

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

void read_named_tokens(const JsonView& json, TokenizerSettings& settings) {
  const auto add = [&](const AddedToken& token) {
    const bool known = std::any_of(settings.named.begin(), settings.named.end(),
                                   [&](const AddedToken& other) { return other.content == token.content; });
    if (!known) settings.named.push_back(token);
  };
  const auto read = [&](const std::string& key, std::optional<std::string>* name) {
    if (name != nullptr && json.raw().is_object() && json.raw().contains(key))
      settings.tells_special_tokens = true;
    if (!json.has(key)) return;
    const AddedToken token = named_token(json.at(key));
    if (name != nullptr && !name->has_value()) *name = token.content;
    add(token);
  };
  read("bos_token", &settings.bos);
  read("eos_token", &settings.eos);
  std::optional<std::string>* const unk = &settings.unk;
  if (json.has("unk_token")) {
    const AddedToken token = named_token(json.at("unk_token"));
    if (!unk->has_value()) *unk = token.content;
    add(token);
  }
  for (const char* key : {"sep_token", "pad_token", "cls_token", "mask_token"}) read(key, nullptr);
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    if (!json.has(key)) continue;
    const JsonView list = json.at(key);
    if (list.is_object()) {
      for (const auto& name : list.keys()) add(named_token(list.at(name)));
    } else if (list.is_array()) {
      for (std::size_t i = 0; i < list.size(); ++i) add(named_token(list.at(i)));
    } else {
      list.fail("a list of tokens");
    }
  }
}

}  // namespace

AddedToken read_added_token(const JsonView& json) {
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
  const auto with_file = [&](const char* name, const auto& use) {
    const fs::path path = folder / name;
    if (!util::exists(path)) return;
    const Json document = util::parse_json(util::read_file(path, kLargestSettings), path.string());
    const JsonView root(document, path.string());
    if (!root.is_object()) root.fail("an object");
    use(root);
  };
  with_file("tokenizer_config.json", [&](const JsonView& root) {
    settings.tokenizer_class = root.get_string("tokenizer_class", "");
    settings.add_bos = optional_bool(root, "add_bos_token");
    settings.add_eos = optional_bool(root, "add_eos_token");
    settings.legacy = optional_bool(root, "legacy");
    settings.add_prefix_space = optional_bool(root, "add_prefix_space");
    read_named_tokens(root, settings);
    if (!root.has("added_tokens_decoder")) return;
    const JsonView decoder = root.at("added_tokens_decoder");
    for (const auto& key : decoder.keys()) {
      AddedToken token = read_added_token(decoder.at(key));
      std::int64_t id;
      if (!util::parse_int(key, id) || id < 0 || id >= kMaxTokens) {
        throw util::format_error({.what = "an added token with an impossible id",
                                  .where = decoder.where(),
                                  .expected = util::cat("0 to ", kMaxTokens - 1),
                                  .found = util::in_quotes(key)});
      }
      token.id = static_cast<TokenId>(id);
      settings.added.push_back(std::move(token));
    }
    std::sort(settings.added.begin(), settings.added.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  });
  with_file("special_tokens_map.json", [&](const JsonView& root) { read_named_tokens(root, settings); });
  with_file("added_tokens.json", [&](const JsonView& root) {
    std::vector<AddedToken> tokens;
    for (const auto& content : root.keys()) {
      const auto is_it = [&](const AddedToken& token) { return token.content == content; };
      if (std::any_of(settings.added.begin(), settings.added.end(), is_it)) continue;
      AddedToken token;
      token.content = content;
      token.id = static_cast<TokenId>(root.at(content).as_integer(0, kMaxTokens - 1));
      token.special = std::any_of(settings.named.begin(), settings.named.end(), is_it);
      tokens.push_back(std::move(token));
    }
    std::sort(tokens.begin(), tokens.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
    settings.added.insert(settings.added.end(), tokens.begin(), tokens.end());
  });
  return settings;
}

void add_tokens_of(const TokenizerSettings& settings, AddedTokens& tokens) {
  for (const AddedToken& token : settings.added) tokens.add(token, settings.where);
  for (const AddedToken& token : settings.named) {
    if (tokens.find(token.content) == nullptr) tokens.add(token, settings.where);
  }
}

}  // namespace depthlens::text
