// Whole numbers rounded up.
#pragma once

#include <cstdint>

namespace depthlens::util {

/// How many parts of at most `part` make up `whole`; neither is negative, `part` ≥ 1.
constexpr std::int64_t ceil_div(std::int64_t whole, std::int64_t part) {
  return (whole + part - 1) / part;
}

constexpr std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return ceil_div(value, multiple) * multiple;
}

}  // namespace depthlens::util
