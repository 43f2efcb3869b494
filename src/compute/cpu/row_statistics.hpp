// The statistics of one row of logits within one tile of the vocabulary, for each instruction set at hand.
#pragma once

#include <cstdint>

namespace depthlens::compute {

/// Longest tile, in tokens.
inline constexpr int kMaxTile = 2048;

/// Sums over a tile, relative to the row's reference m and the final layer's m_f (see
/// reducers/row_state.hpp).
struct TileSums {
  float sum;       ///< Σ e^(z − m)
  float weighted;  ///< Σ e^(z − m) (z − m)
  float cross;     ///< Σ e^(z_f − m_f) (z − m)
  float reverse;   ///< Σ e^(z − m) (z_f − m_f)
  float max;       ///< greatest z
};

/// How far above m logits may be for the sums to hold.
inline constexpr float kMaxExcess = 60;

/// One instruction set's functions. All arrays have `width` entries, 1 … kMaxTile.
struct RowStatistics {
  /// Greatest logit.
  float (*max)(const float* logits, int width);
  /// The first place from `begin` on with a logit of at least `bar`, or `width`.
  int (*find_at_least)(const float* logits, int begin, int width, float bar);
  /// All places with a logit of at least `bar`, rising; returns how many. `places` has room for `width`.
  int (*find_all_at_least)(const float* logits, int width, float bar, std::int32_t* places);
  /// Number of logits strictly greater than `bar`.
  std::int32_t (*count_greater)(const float* logits, int width, float bar);
  /// shifted = logits − m, exponentials = e^shifted.
  void (*shift_and_exp)(const float* logits, int width, float m, float* shifted, float* exponentials);
  /// All sums of a row, whose logits are at most m + kMaxExcess; `exponentials` gets e^(z − m).
  TileSums (*sums)(const float* logits, int width, float m, const float* final_shifted,
                   const float* final_exponentials, float* exponentials);
  /// exponentials = e^(logits − m); returns the sum.
  float (*exponentials)(const float* logits, int width, float m, float* exponentials);
  /// logits += bias, where there is one; then scale · logits, or cap · tanh(scale · logits / cap) where
  /// cap > 0.
  void (*finish_logits)(float* logits, int width, const float* bias, float scale, float cap);
};

/// e^x is within 2.5e-7 relative of the true value for −87 ≤ x ≤ kMaxExcess (of AVX-512's within 1.8e-7), and
/// 0 below.
extern const RowStatistics kPortableStatistics;
#ifdef DEPTHLENS_X86
extern const RowStatistics kAvx2Statistics;    ///< needs AVX2 and FMA
extern const RowStatistics kAvx512Statistics;  ///< needs AVX-512 F, BW, DQ, VL
#endif

}  // namespace depthlens::compute
