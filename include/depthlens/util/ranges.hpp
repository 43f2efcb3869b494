// Numbers from 0 and ranges of them, as flags name them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace depthlens::util {

/// Both included.
struct IndexRange {
  std::int64_t first = 0, last = 0;
};

/// "7": digits alone, none of them a 0 before others.
std::optional<std::int64_t> parse_index(std::string_view text);
/// "3-9", or "7" for 7 to 7; the first may be beyond the last.
std::optional<IndexRange> parse_range(std::string_view text);

}  // namespace depthlens::util
