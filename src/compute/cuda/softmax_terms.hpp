// What a logit is to a softmax and its expected rows: plain code for both sides, compiled into the kernel
// soften_tile.cu and into tests on the processor.
#pragma once

#include "row_sums.hpp"

namespace depthlens::compute::cuda {

/// The greatest of some logits and its token, the first of equals.
struct Greatest {
  float z;
  int id;  // negative: none of the tokens seen is greater than what was known before
};

/// Takes four neighbouring tokens, which come after those seen. One that is not a number is not seen.
DEPTHLENS_BOTH_SIDES void take(Greatest& greatest, const float* z, int id) {
  const float of_four = fmaxf(fmaxf(z[0], z[1]), fmaxf(z[2], z[3]));
  if (!(of_four > greatest.z)) return;
  greatest.z = of_four;
  greatest.id = id + (z[0] == of_four ? 0 : z[1] == of_four ? 1 : z[2] == of_four ? 2 : 3);
}

/// Takes what others have found among other tokens.
DEPTHLENS_BOTH_SIDES void take(Greatest& greatest, const Greatest& other) {
  if (comes_before(other.z, other.id, greatest.z, greatest.id)) greatest = other;
}

/// The derivative of a logit by what it was before the model's transform, from the logit
/// (logit_tensors.hpp).
struct Slope {
  float scale;
  float by_cap;  // 1 / cap; 0: no cap
};
DEPTHLENS_BOTH_SIDES float slope_at(const Slope& slope, float z) {
  if (slope.by_cap == 0) return slope.scale;
  const float share = z * slope.by_cap;
  return (1 - share * share) * slope.scale;
}

}  // namespace depthlens::compute::cuda
