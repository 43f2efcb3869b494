// What a run is reported an input in one line, however often it is there.
#pragma once

#include <cstdint>
#include <string>

#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::data {

/// How often something is there, and where first.
struct Tally {
  std::int64_t count = 0;
  std::string first;

  void add(const std::string& place) {
    if (count++ == 0) first = place;
  }
  /// Warns, where there is any: "INPUT: WHAT: COUNT (first: PLACE); MEANING".
  void warn(const std::string& input, const std::string& what, const std::string& meaning) const {
    if (count > 0)
      util::log_warning(util::cat(input, ": ", what, ": ", count, " (first: ", first, "); ", meaning));
  }
};

}  // namespace depthlens::data
