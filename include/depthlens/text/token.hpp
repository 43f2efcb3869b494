// Which token it is, or that there is none.
#pragma once

#include <cstdint>

namespace depthlens::text {

using TokenId = std::int32_t;
/// In the place of an id where there is no token.
inline constexpr TokenId kNoToken = -1;

}  // namespace depthlens::text
