// What tokenizer_config.json, special_tokens_map.json and added_tokens.json say besides the tokenizer itself.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "added_tokens.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::text {

struct TokenizerSettings {
  std::string where;            ///< the file, for messages
  std::string tokenizer_class;  ///< "" where none is told
  std::optional<bool> add_bos, add_eos, legacy, add_prefix_space;
  std::optional<std::string> bos, eos, unk;
  bool tells_special_tokens = false;  ///< some file names a BOS or EOS, or says that there is none
  std::vector<AddedToken> named;      ///< bos, eos, unk, pad, …, as special tokens without ids
  std::vector<AddedToken> added;      ///< with ids
};

/// Reads those of the files that are there. Throws format errors.
TokenizerSettings read_settings(const std::filesystem::path& folder);

/// Adds the tokens of the settings to those of the tokenizer's own file, as Hugging Face's transformers does.
void add_tokens_of(const TokenizerSettings& settings, AddedTokens& tokens);

/// An element of `added_tokens` or `added_tokens_decoder`; the id is not read.
AddedToken read_added_token(const util::JsonView& json);

}  // namespace depthlens::text
