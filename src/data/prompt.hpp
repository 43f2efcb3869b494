// Prompts of tasks: what all of them have done to them before they are put to a model.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "depthlens/text/tokenizer.hpp"

namespace depthlens::data {

inline std::vector<text::TokenId> with_bos(std::optional<text::TokenId> bos,
                                           const std::vector<text::TokenId>& tokens) {
  std::vector<text::TokenId> all;
  if (bos) all.push_back(*bos);
  all.insert(all.end(), tokens.begin(), tokens.end());
  return all;
}

/// A prompt that ends in a space would ask for a token without one.
inline std::string_view without_space_at_end(std::string_view text) {
  const std::size_t last = text.find_last_not_of(" \t\r\n");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

}  // namespace depthlens::data
