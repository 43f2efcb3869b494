// Tokens in the order in which they merge, as tiktoken and Mistral's Tekken store them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "bpe_tokenizer.hpp"

namespace depthlens::text {

/// False where `text` is not base64.
bool decode_base64(std::string_view text, std::string& bytes);

/// How a tokenizer's token of that id differs from `bytes`; "": it has them.
std::string token_difference(const Tokenizer& tokenizer, std::int64_t id, const std::string& bytes);

/// Tokens by rank.
class Ranks {
 public:
  /// The bytes of the token with the next rank. Throws a format error for one that is there; only then asks
  /// for `where` it stands.
  void add(const std::string& token, const std::function<std::string()>& where);
  std::size_t size() const { return tokens_.size(); }
  /// Any two tokens that make up a third merge, at the rank of the third. Ids are ranks behind `first_id`.
  /// Throws a format error that names `where` where a byte is no token.
  BpeModel model(TokenId first_id, const std::string& where) &&;

 private:
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, TokenId> rank_of_;
};

}  // namespace depthlens::text
