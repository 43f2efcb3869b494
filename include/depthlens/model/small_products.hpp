// The form in which libtorch's small products (brgemm) take weights: panels of neighbouring tokens.
#pragma once

#include <cstdint>
#include <type_traits>

namespace depthlens::model {

inline constexpr std::int64_t kPanel = 64;       ///< tokens of a panel: the widest product at full speed
inline constexpr std::int64_t kRowsAtOnce = 32;  ///< rows of one product

/// Products of bfloat16 sum pairs, and so want pairs of rows interleaved.
template <typename T>
inline constexpr std::int64_t kPairs = std::is_same_v<T, float> ? 1 : 2;

/// Whether libtorch's small products take bfloat16 on this processor, faster than float32.
bool multiplies_bfloat16();

}  // namespace depthlens::model
