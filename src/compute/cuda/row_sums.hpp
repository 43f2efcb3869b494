// What a row of logits is reduced to, one logit at a time: plain code for both sides, compiled into the
// kernels of cards (reduce_tile.cu) and into tests on the processor.
//
// With m the row's reference, not less than any logit z seen: S = Σ e^(z − m), A = Σ e^(z − m) (z − m);
// against the final layer f with its reference m_f, which does not change: C = Σ e^(z_f − m_f) (z − m), D = Σ
// e^(z − m) (z_f − m_f). When m grows, S, A and D are scaled and C is shifted, which takes F = Σ e^(z_f −
// m_f) over the same tokens.
#pragma once

#include "both_sides.hpp"
#ifndef __CUDACC_RTC__
#include <cmath>
#endif

namespace depthlens::compute::cuda {

/// Stands for a logit that is not there: finite, so that products with e^(−∞) = 0 are 0. Less than any real
/// one.
constexpr float kNoLogit = -1e30F;

DEPTHLENS_BOTH_SIDES float exponential(float x) {
#ifdef __CUDA_ARCH__
  float power;  // below 2^−126: 0
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * 1.44269504F));
  return power;
#else
  return std::exp(x);
#endif
}
DEPTHLENS_BOTH_SIDES double exponential(double x) {
  return exp(x);
}

/// Relative to m; float within a thread and a tile, double over tiles.
template <typename Number>
struct RowSums {
  Number m, sum, weighted, cross, reverse;  // m, S, A, C, D
};

/// Of no token.
template <typename Number>
DEPTHLENS_BOTH_SIDES RowSums<Number> no_sums() {
  return {kNoLogit, 0, 0, 0, 0};
}

/// Takes another reference, greater or equal. `final_sum` is F of the tokens in `sums`. Returns the factor
/// for what else is summed relative to m.
template <typename Number>
DEPTHLENS_BOTH_SIDES Number raise(RowSums<Number>& sums, Number greater, Number final_sum) {
  const Number shift = sums.m - greater, scale = exponential(shift);
  sums.weighted = scale * (sums.weighted + shift * sums.sum);
  sums.sum *= scale;
  sums.cross += shift * final_sum;
  sums.reverse *= scale;
  sums.m = greater;
  return scale;
}

/// Adds one logit, at most m. `final_shifted` = z_f − m_f, `final_exponential` = e^(z_f − m_f). Returns e^(z
/// − m).
template <typename Number>
DEPTHLENS_BOTH_SIDES Number add(RowSums<Number>& sums, Number z, Number final_shifted,
                                Number final_exponential) {
  const Number shifted = z - sums.m, e = exponential(shifted);
  sums.sum += e;
  sums.weighted += e * shifted;
  sums.cross += final_exponential * shifted;
  sums.reverse += e * final_shifted;
  return e;
}

/// The sums of two sets of tokens as those of both. `final_sum`, `part_final_sum`: F of each.
template <typename Number>
DEPTHLENS_BOTH_SIDES void merge(RowSums<Number>& sums, Number final_sum, RowSums<Number> part,
                                Number part_final_sum) {
  if (part.m > sums.m) {
    raise(sums, part.m, final_sum);
  } else if (part.m < sums.m) {
    raise(part, sums.m, part_final_sum);
  }
  sums.sum += part.sum;
  sums.weighted += part.weighted;
  sums.cross += part.cross;
  sums.reverse += part.reverse;
}

DEPTHLENS_BOTH_SIDES RowSums<double> in_double(const RowSums<float>& sums) {
  return {sums.m, sums.sum, sums.weighted, sums.cross, sums.reverse};
}

/// Whether a token comes before another among the best: a greater logit, or an equal one and a lower id.
DEPTHLENS_BOTH_SIDES bool comes_before(float z, int id, float other_z, int other_id) {
  return z > other_z || (z == other_z && id < other_id);
}

/// The place of a token in the order of a list that has it, from 0: the list may be in any order.
DEPTHLENS_BOTH_SIDES int place_among(const float* logits, const int* ids, int count, float z, int id) {
  int place = 0;
  for (int i = 0; i < count; ++i) place += comes_before(logits[i], ids[i], z, id) ? 1 : 0;
  return place;
}

}  // namespace depthlens::compute::cuda
