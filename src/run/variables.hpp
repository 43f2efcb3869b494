// Whole numbers out of variables of the environment.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "depthlens/run/ranks.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::run {

/// Nothing where the variable is not set or empty; usage error where it is no number from `least` to `most`.
inline std::optional<std::int64_t> number_of(const Environment& environment, const char* name,
                                             std::int64_t least,
                                             std::int64_t most = std::numeric_limits<int>::max()) {
  const char* text = environment(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  std::int64_t value = 0;
  if (util::parse_int(text, value) && value >= least && value <= most) return value;
  throw util::usage_error({.what = util::cat("the environment variable ", name, " makes no sense"),
                           .expected = util::cat("a whole number from ", least, " to ", most),
                           .found = util::in_quotes(text)});
}

}  // namespace depthlens::run
