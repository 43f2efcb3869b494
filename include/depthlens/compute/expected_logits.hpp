// What rows' logits are on average under given distributions, and how that changes with the row: what the
// divergence from a final distribution needs where logits are capped, so that it is not a difference of
// log-sum-exps.
#pragma once

#include <ATen/core/Tensor.h>

#include "depthlens/compute/vocabulary_pass.hpp"

namespace depthlens::compute {

struct ExpectedLogits {
  at::Tensor value;  ///< [R] float64: Σ_v q(v) z_v
  at::Tensor
      gradient;  ///< [R, d] in the rows' dtype: Σ_v q(v) ∂z_v/∂x, its terms multiplied by the token scale
};

/// Of rows [R, d] under `distributions` [P, V] in the rows' type, R a multiple of P: row r has that of r mod
/// P. `token_scale` as in `log_sum_exp`.
ExpectedLogits expected_logits(const VocabularyPass& pass, const at::Tensor& rows,
                               const at::Tensor& distributions, const at::Tensor& token_scale = {});

}  // namespace depthlens::compute
