// A tokenizer for tests: a token is a letter, with the space before it where there is one. Other spaces are
// tokens of their own, so that "a: " + "b" and "a:" + " b" are tokenized as byte-level tokenizers do it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "depthlens/text/tokenizer.hpp"

namespace depthlens::test {

class LetterTokenizer final : public text::Tokenizer {
 public:
  /// The id of a letter with a space before it.
  static text::TokenId spaced(char letter) { return 256 + static_cast<unsigned char>(letter); }

  LetterTokenizer() {
    for (int id = 0; id < 512; ++id)
      bytes_.push_back((id < 256 ? "" : " ") + std::string(1, static_cast<char>(id % 256)));
  }

  std::vector<text::TokenId> encode(std::string_view text) const override {
    std::vector<text::TokenId> ids;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool joins = text[i] == ' ' && i + 1 < text.size() && text[i + 1] > ' ';
      ids.push_back(joins ? spaced(text[++i]) : static_cast<unsigned char>(text[i]));
    }
    return ids;
  }
  const std::string& token_bytes(text::TokenId id) const override {
    return bytes_.at(static_cast<std::size_t>(id));
  }
  text::TokenId size() const override { return 512; }
  std::string kind() const override { return "letters"; }

 private:
  std::vector<std::string> bytes_;
};

}  // namespace depthlens::test
