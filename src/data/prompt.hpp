// Prompts of tasks: what all of them have done to them before they are put to a model.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "depthlens/text/tokenizer.hpp"

namespace depthlens::data {

inline bool begins_with(std::optional<text::TokenId> bos, const std::vector<text::TokenId>& tokens) {
  return bos && !tokens.empty() && tokens.front() == *bos;
}

/// BOS once: the prompts of chat templates bring their own.
inline std::vector<text::TokenId> with_bos(std::optional<text::TokenId> bos,
                                           const std::vector<text::TokenId>& tokens) {
  std::vector<text::TokenId> all;
  if (bos && !begins_with(bos, tokens)) all.push_back(*bos);
  all.insert(all.end(), tokens.begin(), tokens.end());
  return all;
}

/// A prompt that ends in a space would ask for a token without one.
inline std::string_view without_space_at_end(std::string_view text,
                                             std::string_view white_space = " \t\n\v\f\r") {
  const std::size_t last = text.find_last_not_of(white_space);
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

}  // namespace depthlens::data
