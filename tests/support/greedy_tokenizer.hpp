// A tokenizer for tests that normalises as many SentencePiece models do: a space stands before every text,
// runs of white space, line breaks too, are one space, and none stands at the end. Tokens are matched from
// left to right, the longest that fits; characters that no token begins with are left out.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "depthlens/text/tokenizer.hpp"

namespace depthlens::test {

class GreedyTokenizer final : public text::Tokenizer {
 public:
  explicit GreedyTokenizer(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {}

  std::vector<text::TokenId> encode(std::string_view text) const override {
    const std::string normal = normalised(text);
    std::vector<text::TokenId> ids;
    for (std::size_t i = 0; i < normal.size();) {
      std::size_t best = tokens_.size();
      for (std::size_t id = 0; id < tokens_.size(); ++id) {
        const bool fits = normal.compare(i, tokens_[id].size(), tokens_[id]) == 0;
        if (fits && (best == tokens_.size() || tokens_[id].size() > tokens_[best].size())) best = id;
      }
      if (best < tokens_.size()) ids.push_back(static_cast<text::TokenId>(best));
      i += best < tokens_.size() ? tokens_[best].size() : 1;
    }
    return ids;
  }
  const std::string& token_bytes(text::TokenId id) const override {
    return tokens_.at(static_cast<std::size_t>(id));
  }
  text::TokenId size() const override { return static_cast<text::TokenId>(tokens_.size()); }
  std::string kind() const override { return "greedy"; }

 private:
  static std::string normalised(std::string_view text) {
    std::string normal;
    bool space = true;
    for (const char c : text) {
      const bool white = c == ' ' || c == '\n';
      if (!white && space) normal += ' ';
      if (!white) normal += c;
      space = white;
    }
    return normal;
  }

  std::vector<std::string> tokens_;
};

}  // namespace depthlens::test
