// Expectations on warnings: how many came, and what they tell.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "depthlens/util/log.hpp"

namespace depthlens::test {

/// The warnings that are given while it lives.
class Warnings {
 public:
  std::size_t count() const { return util::warnings().size() - before_; }
  /// Whether one of them holds all the parts.
  bool tell(const std::vector<std::string>& parts) const {
    const std::vector<std::string> all = util::warnings();
    return std::any_of(
        all.begin() + static_cast<std::ptrdiff_t>(before_), all.end(), [&](const std::string& text) {
          return std::all_of(parts.begin(), parts.end(),
                             [&](const std::string& part) { return text.find(part) != std::string::npos; });
        });
  }

 private:
  std::size_t before_ = util::warnings().size();
};

/// Those that were not given before: a warning is kept once.
template <typename Action>
std::vector<std::string> warnings_of(Action action) {
  const std::size_t before = util::warnings().size();
  action();
  const std::vector<std::string> all = util::warnings();
  return {all.begin() + static_cast<std::ptrdiff_t>(before), all.end()};
}

}  // namespace depthlens::test
