// From a text to words: what all tokenizers of our own do alike, whatever they make of a word.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "added_tokens.hpp"
#include "depthlens/text/tokenizer.hpp"
#include "pre_tokenizer.hpp"

namespace depthlens::text {

struct SpecialIds {
  std::optional<TokenId> bos, eos;
  bool adds_bos = false;
};

/// What the tokens of a vocabulary stand for.
struct TokenBytes {
  std::vector<std::string> by_id = {};  ///< "": there is no such token
  std::string space = {};               ///< what stands for a space in added tokens; "": nothing
  /// An added token that the vocabulary has, too, stands for what it is there.
  bool vocabulary_counts = false;
};

/// Added tokens are found, the text between them is normalized and cut; a derived class does the rest.
class WordTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> encode(std::string_view text) const final;
  const std::string& token_bytes(TokenId id) const final;
  TokenId size() const final { return static_cast<TokenId>(token_bytes_.by_id.size()); }

 protected:
  WordTokenizer(TokenBytes token_bytes, const AddedTokens& added, TextSteps steps, const SpecialIds& special);

  /// Appends the ids of words that follow each other; of an empty one none.
  virtual void encode_words(std::span<const std::string_view> words, std::vector<TokenId>& ids) const = 0;

 private:
  TokenBytes token_bytes_;
  AddedTokenMatcher raw_tokens_;         // looked for before normalization
  AddedTokenMatcher normalized_tokens_;  // and after
  TextSteps steps_;
};

/// The byte of a token such as "<0x0A>", or -1.
int fallback_byte(std::string_view token);

/// The token with spaces in place of `space`, where that is not empty.
std::string with_spaces(std::string_view token, std::string_view space);

}  // namespace depthlens::text
