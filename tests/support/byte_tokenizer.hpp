// A tokenizer for tests: the ids are the bytes of the text, and a token's text is what a test says it is.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "depthlens/text/tokenizer.hpp"

namespace depthlens::test {

class ByteTokenizer final : public text::Tokenizer {
 public:
  explicit ByteTokenizer(std::map<text::TokenId, std::string> texts = {}) {
    for (int byte = 0; byte < 256; ++byte) bytes_.emplace_back(1, static_cast<char>(byte));
    for (auto& [id, bytes] : texts) bytes_.at(static_cast<std::size_t>(id)) = std::move(bytes);
  }

  std::vector<text::TokenId> encode(std::string_view text) const override {
    std::vector<text::TokenId> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  const std::string& token_bytes(text::TokenId id) const override {
    return bytes_.at(static_cast<std::size_t>(id));
  }
  text::TokenId size() const override { return static_cast<text::TokenId>(bytes_.size()); }
  std::string kind() const override { return "bytes"; }

 private:
  std::vector<std::string> bytes_;
};

}  // namespace depthlens::test
