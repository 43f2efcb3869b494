// What the small JSON files beside a tokenizer say: tokenizer_config.json, special_tokens_map.json,
// added_tokens.json, config.json and generation_config.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "added_tokens.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::text {

/// Special tokens by key, in the order in which they are added, without ids.
using KeyedTokens = std::vector<std::pair<std::string, AddedToken>>;

/// A later token of a key takes the place of the earlier one.
void add_all(KeyedTokens& all, KeyedTokens more);

/// Ids that config.json or generation_config.json gives for a special token.
struct StatedIds {
  std::string where;  ///< file and key
  bool is_bos = false;
  std::vector<std::int64_t> ids = {};
};

struct TokenizerSettings {
  std::string where;            ///< tokenizer_config.json, for messages
  std::string config_file;      ///< config.json, for messages
  std::string class_file;       ///< the file that names the class
  std::string tokenizer_class;  ///< without "Fast"; "" where none is reported
  std::string model_type;       ///< "" where none is reported
  std::optional<bool> add_bos, add_eos, legacy, add_prefix_space;  ///< null is absent, but false for legacy
  bool split_special_tokens = false;  ///< special tokens that stand in a text are text

  /// By key ("bos_token", …), as special tokens without ids; nothing: told to be none.
  std::map<std::string, std::optional<AddedToken>> names;
  KeyedTokens model_special;             ///< by keys of the model's own ("image_token", …)
  std::vector<AddedToken> more_special;  ///< without ids and keys; added behind those
  bool lists_extra_special = false;      ///< they are of the list that counts first, were it null
  bool plain_special_tokens = false;     ///< these and the named ones are stripped of flags such as lstrip
  std::vector<AddedToken> added;         ///< with ids, in their order
  /// tokenizer_config.json lists all added tokens: the other files' are not read.
  bool lists_added = false;
  std::vector<StatedIds> stated_ids;

  /// Names a token where no file does.
  void name_token(const std::string& key, const AddedToken& token) { names.try_emplace(key, token); }
  /// The text of a named token, if any.
  std::optional<std::string> name_of(const std::string& key) const;
};

/// Reads those of the files that are there; warns where they disagree. Throws format errors.
TokenizerSettings read_settings(const std::filesystem::path& folder);

/// Adds the tokens of the settings to those of the tokenizer's own file, as Hugging Face's transformers does.
void add_tokens_of(const TokenizerSettings& settings, AddedTokens& tokens);

/// An element of `added_tokens` or `added_tokens_decoder`; the id is not read.
AddedToken read_added_token(const util::JsonView& json);

}  // namespace depthlens::text
