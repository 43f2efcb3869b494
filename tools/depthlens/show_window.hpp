// Which positions of a text `show` shows, and what the model is given for them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "depthlens/decode/readout.hpp"
#include "depthlens/run/session.hpp"
#include "depthlens/text/tokenizer.hpp"

namespace depthlens::tool {

/// As the flags ask for them; neither: all.
struct ShownPositions {
  std::int64_t last = 0;  ///< 0: not given
  std::string positions;

  bool chosen() const { return last > 0 || !positions.empty(); }
};

/// The window that shows positions of a text, and which these are.
struct Window {
  decode::Query query;
  std::vector<std::int64_t> positions;  // [T] in the text
};

/// As much of the text before the last position as the model may be given. `tokens`: BOS included.
Window window_of(const std::vector<text::TokenId>& tokens, const ShownPositions& options,
                 const run::Session& session);

}  // namespace depthlens::tool
