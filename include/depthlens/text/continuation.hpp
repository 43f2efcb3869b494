// How an answer continues a prompt, in tokens: the one place that knows about leading spaces.
#pragma once

#include <string_view>
#include <vector>

#include "depthlens/text/tokenizer.hpp"

namespace depthlens::text {

/// A prompt and what follows it, without BOS.
struct Continuation {
  std::vector<TokenId> prompt;
  std::vector<TokenId> answer;  ///< empty where the text adds no token
};

/// Tokenizes `prompt` + `separator` + `answer` together. The answer is the part after the prompt's own
/// tokens. Where the tokenizer joins characters of both into one token, the answer begins with that token.
Continuation continuation(const Tokenizer& tokenizer, std::string_view prompt, std::string_view separator,
                          std::string_view answer);

/// The tokens of `text` in the middle of a text, without the space that a tokenizer may put before a text or
/// attach to a word.
std::vector<TokenId> bare_tokens(const Tokenizer& tokenizer, std::string_view text);

/// An option of a question: the last token of " " + `option`, as in the paper; kNoToken where there is none.
TokenId option_token(const Tokenizer& tokenizer, std::string_view option);

/// Whether the token is nothing but white space, a "▁" or a line break for instance. Special tokens are not.
bool is_whitespace(const Tokenizer& tokenizer, TokenId id);

}  // namespace depthlens::text
