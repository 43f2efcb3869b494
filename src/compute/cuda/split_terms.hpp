// Products of float32 numbers by units that multiply bfloat16 and sum in float32: a factor x is the sum of
// terms t_0 = bf16(x), t_1 = bf16(x − t_0), …, of 8 bits each, and the product is that of all pairs of terms
// that matter. The product of two matrices is a parameter, so that tests do with plain ones what a card does
// with its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "depthlens/compute/backend.hpp"

namespace depthlens::compute::cuda {

/// Terms of float32 rows: 3 hold all of their bits, 2 hold 16, 1 holds 8.
constexpr std::int64_t row_terms(Precision precision) {
  return precision == Precision::kFloat32 ? 3 : precision == Precision::kExact ? 2 : 1;
}

/// Terms of weights beside so many of the rows: bfloat16 is one, float16 with its 11 bits at most two.
inline std::int64_t weight_terms(at::ScalarType type, std::int64_t row_terms) {
  if (type == at::kBFloat16) return 1;
  return std::min<std::int64_t>(row_terms, type == at::kHalf ? 2 : 3);
}

/// x of any floating type as `count` terms, [count, …] in bfloat16.
at::Tensor split_terms(const at::Tensor& x, std::int64_t count);

/// Σ of the terms, in float32.
at::Tensor sum_of_terms(const at::Tensor& terms);

/// out [T, n] = Σ rows[r] · weights[s]ᵀ over r + s < the number of row terms, small products first; with
/// `add` it joins what is there. `rows`: [row terms, T, d], `weights`: [weight terms, n, d]. `multiply(out,
/// a, b, add)` is as in kernels.hpp.
template <typename Multiply>
void multiply_terms(const at::Tensor& out, const at::Tensor& rows, const at::Tensor& weights,
                    const Multiply& multiply, bool add = false) {
  const std::int64_t terms = rows.size(0);
  for (std::int64_t order = terms - 1; order >= 0; --order) {
    for (std::int64_t s = std::min(order, weights.size(0) - 1); s >= 0; --s) {
      multiply(out, rows.select(0, order - s), weights.select(0, s).t(), add);
      add = true;
    }
  }
}

}  // namespace depthlens::compute::cuda
