// Numbers that stand for an item: two that differ must not become one.
#pragma once

#include <cmath>

#include "depthlens/util/json.hpp"

namespace depthlens::data {

/// Whether it is a number that is here what the file says: an integer of 64 bits, or another where doubles
/// lie close enough.
inline bool is_exact_number(const util::JsonView& value) {
  constexpr double kExact = 9007199254740992.0;  // 2^53
  return value.is_integer() || (value.is_number() && std::abs(value.as_number()) < kExact);
}

}  // namespace depthlens::data
