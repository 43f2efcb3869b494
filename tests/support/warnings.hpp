// The warnings that an action gives.
#pragma once

#include <string>
#include <vector>

#include "depthlens/util/log.hpp"

namespace depthlens::test {

/// Those that were not given before: a warning is kept once.
template <typename Action>
std::vector<std::string> warnings_of(Action action) {
  const std::size_t before = util::warnings().size();
  action();
  const std::vector<std::string> all = util::warnings();
  return {all.begin() + static_cast<std::ptrdiff_t>(before), all.end()};
}

}  // namespace depthlens::test
