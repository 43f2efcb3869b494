// Prompts, answers and spaces.
#include "depthlens/text/continuation.hpp"

#include <algorithm>
#include <string>

#include "depthlens/util/text.hpp"

namespace depthlens::text {
namespace {

std::size_t common_prefix(const std::vector<TokenId>& a, const std::vector<TokenId>& b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  return static_cast<std::size_t>(end - a.begin());
}

}  // namespace

Continuation continuation(const Tokenizer& tokenizer, std::string_view prompt, std::string_view separator,
                          std::string_view answer) {
  const std::vector<TokenId> alone = tokenizer.encode(prompt);
  std::vector<TokenId> joined = tokenizer.encode(std::string(prompt).append(separator).append(answer));
  const auto split = joined.begin() + static_cast<std::ptrdiff_t>(common_prefix(alone, joined));
  return {.prompt = {joined.begin(), split}, .answer = {split, joined.end()}};
}

std::vector<TokenId> bare_tokens(const Tokenizer& tokenizer, std::string_view text) {
  // After an anchor that joins nothing a word stands without its space. A line break is one for almost every
  // vocabulary; punctuation is for the rest.
  for (const std::string_view anchor : {"\n", "(", "/"}) {
    const std::vector<TokenId> before = tokenizer.encode(anchor);
    std::vector<TokenId> joined = tokenizer.encode(std::string(anchor).append(text));
    if (before.empty() || common_prefix(before, joined) != before.size()) continue;
    joined.erase(joined.begin(), joined.begin() + static_cast<std::ptrdiff_t>(before.size()));
    return joined;
  }
  return tokenizer.encode(text);
}

TokenId option_token(const Tokenizer& tokenizer, std::string_view option) {
  const std::vector<TokenId> tokens = tokenizer.encode(std::string(" ").append(option));
  return tokens.empty() ? kNoToken : tokens.back();
}

bool is_whitespace(const Tokenizer& tokenizer, TokenId id) {
  const std::string& bytes = tokenizer.token_bytes(id);
  return !bytes.empty() && util::trimmed(bytes).empty();
}

}  // namespace depthlens::text
