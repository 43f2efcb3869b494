// The form in which libtorch's small products (brgemm) take weights: panels of neighbouring tokens.
#pragma once

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace depthlens::decode {

inline constexpr std::int64_t kPanel = 64;       ///< tokens of a panel: the widest product at full speed
inline constexpr std::int64_t kRowsAtOnce = 32;  ///< rows of one product

/// Products of bfloat16 sum pairs, and so want pairs of rows interleaved.
template <typename T>
inline constexpr std::int64_t kPairs = std::is_same_v<T, float> ? 1 : 2;

inline constexpr std::int64_t rounded_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Elements of a panel over d dimensions.
template <typename T>
constexpr std::int64_t panel_size(std::int64_t d) {
  return kPanel * rounded_up(d, kPairs<T>);
}

/// Writes kPanel columns of d dimensions; column n is what `row_of(n)` points to, or zeros for nullptr.
template <typename T, typename RowOf>
void pack_panel(T* panel, std::int64_t d, const RowOf& row_of) {
  if (d % kPairs<T> != 0) std::fill(panel, panel + panel_size<T>(d), T(0.0F));
  // A few dimensions at a time: their lines of the panel stay in the first-level cache for all tokens.
  constexpr std::int64_t kDimensions = 16;
  for (std::int64_t first = 0; first < d; first += kDimensions) {
    const std::int64_t width = std::min(kDimensions, d - first);
    for (std::int64_t n = 0; n < kPanel; ++n) {
      const auto* row = row_of(n);
      for (std::int64_t i = 0; i < width; ++i) {
        const std::int64_t k = first + i;
        panel[(k / kPairs<T> * kPanel + n) * kPairs<T> + k % kPairs<T>] =
            row == nullptr ? T(0.0F) : static_cast<T>(static_cast<float>(row[k]));
      }
    }
  }
}

/// Whether libtorch's small products take bfloat16 on this processor.
bool multiplies_bfloat16();
/// Whether they take float32; elsewhere they throw.
bool multiplies_float32_panels();

}  // namespace depthlens::decode
