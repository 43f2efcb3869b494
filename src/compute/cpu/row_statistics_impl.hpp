// Included once by each file that is compiled for an instruction set; the compiler vectorises these loops. No
// standard library here: an inline function compiled for AVX-512 could be the one that the linker keeps for
// everybody.
#include "compute/cpu/row_statistics.hpp"

namespace depthlens::compute {
namespace {

/// e^x for x ≤ kMaxExcess: 2^n · 2^f with n the nearest integer to x log₂ e, and a polynomial for 2^f, |f| ≤
/// ½ (Taylor's, degree 6: 1.2e-7 relative at the ends).
inline float exp_of(float x) {
  constexpr float kLog2E = 1.44269504088896341F;
  constexpr float kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;  // their sum is ln 2
  constexpr float kLowest = -87.0F;
  const float bounded = x < kLowest ? kLowest : x;
  const float n = __builtin_rintf(bounded * kLog2E);
  const float r = (bounded - n * kLn2High) - n * kLn2Low;  // |r| ≤ ln 2 / 2
  float p = 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const std::int32_t bits = (static_cast<std::int32_t>(n) + 127) << 23;
  const float e = p * __builtin_bit_cast(float, bits);
  return x < kLowest ? 0.0F : e;
}

float row_max(const float* logits, int width) {
  float best = logits[0];
#pragma omp simd reduction(max : best)
  for (int i = 0; i < width; ++i) best = logits[i] > best ? logits[i] : best;
  return best;
}

int row_find_at_least(const float* logits, int begin, int width, float bar) {
  constexpr int kBlock = 64;
  int i = begin;
  for (; i + kBlock <= width; i += kBlock) {
    int found = 0;
#pragma omp simd reduction(| : found)
    for (int j = 0; j < kBlock; ++j) found |= logits[i + j] >= bar ? 1 : 0;
    if (found != 0) break;
  }
  while (i < width && !(logits[i] >= bar)) ++i;
  return i;
}

int row_find_all_at_least(const float* logits, int width, float bar, std::int32_t* places) {
  int found = 0;
  for (int i = row_find_at_least(logits, 0, width, bar); i < width;
       i = row_find_at_least(logits, i + 1, width, bar)) {
    places[found++] = i;
  }
  return found;
}

std::int32_t row_count_greater(const float* logits, int width, float bar) {
  std::int32_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int i = 0; i < width; ++i) count += logits[i] > bar ? 1 : 0;
  return count;
}

void row_shift_and_exp(const float* logits, int width, float m, float* shifted, float* exponentials) {
#pragma omp simd
  for (int i = 0; i < width; ++i) {
    shifted[i] = logits[i] - m;
    exponentials[i] = exp_of(shifted[i]);
  }
}

TileSums row_sums(const float* logits, int width, float m, const float* final_shifted,
                  const float* final_exponentials, float* exponentials) {
  float sum = 0, weighted = 0, cross = 0, reverse = 0, max = logits[0];
#pragma omp simd reduction(+ : sum, weighted, cross, reverse) reduction(max : max)
  for (int i = 0; i < width; ++i) {
    max = logits[i] > max ? logits[i] : max;
    const float x = logits[i] - m;
    const float e = exp_of(x);
    exponentials[i] = e;
    sum += e;
    weighted += e * x;
    cross += final_exponentials[i] * x;
    reverse += e * final_shifted[i];
  }
  return {sum, weighted, cross, reverse, max};
}

float row_exponentials(const float* logits, int width, float m, float* exponentials) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < width; ++i) {
    const float e = exp_of(logits[i] - m);
    exponentials[i] = e;
    sum += e;
  }
  return sum;
}

/// tanh x within 2e-7. e^(−2|x|) loses what is small, where a series does better.
inline float tanh_of(float x) {
  const float size = x < 0 ? -x : x, square = x * x;
  const float e = exp_of(-2 * size);
  const float far = (1 - e) / (1 + e);
  float near = 62.0F / 2835;
  near = near * square - 17.0F / 315;
  near = near * square + 2.0F / 15;
  near = near * square - 1.0F / 3;
  near = size + size * square * near;
  const float y = size < 0.25F ? near : far;
  return x < 0 ? -y : y;
}

void row_finish_logits(float* logits, int width, const float* bias, float scale, float cap) {
  if (bias != nullptr) {
#pragma omp simd
    for (int i = 0; i < width; ++i) logits[i] += bias[i];
  }
  if (cap > 0) {
    const float inner = scale / cap;
#pragma omp simd
    for (int i = 0; i < width; ++i) logits[i] = cap * tanh_of(logits[i] * inner);
  } else if (scale != 1) {
#pragma omp simd
    for (int i = 0; i < width; ++i) logits[i] *= scale;
  }
}

}  // namespace
}  // namespace depthlens::compute
