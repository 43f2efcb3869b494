// Numbers as terms of bfloat16 (split_terms.hpp), two in a word: plain code for both sides, beside a card's
// own instruction for the same rounding.
#pragma once

#include "both_sides.hpp"
#ifndef __CUDACC_RTC__
#include <cstring>
#endif

namespace depthlens::compute::cuda {

/// Two numbers to nearest, ties to even: `low` in the lower half.
DEPTHLENS_BOTH_SIDES unsigned bfloat16_pair(float low, float high) {
#ifdef __CUDA_ARCH__
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  const auto rounded = [](float value) {
    unsigned bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffU) > 0x7f800000U) return 0x7fffU;
    return (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  };
  return rounded(low) | rounded(high) << 16;
#endif
}

/// The number of which these are the bits.
DEPTHLENS_BOTH_SIDES float number_of_bits(unsigned bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float number = 0;
  std::memcpy(&number, &bits, sizeof number);
  return number;
#endif
}

/// The next term of each of four numbers, which keep what is left: exact.
DEPTHLENS_BOTH_SIDES void take_term(float* numbers, unsigned* pairs) {
  for (int i = 0; i < 2; ++i) {
    pairs[i] = bfloat16_pair(numbers[2 * i], numbers[2 * i + 1]);
    numbers[2 * i] -= number_of_bits(pairs[i] << 16);
    numbers[2 * i + 1] -= number_of_bits(pairs[i] & 0xffff0000U);
  }
}

}  // namespace depthlens::compute::cuda
