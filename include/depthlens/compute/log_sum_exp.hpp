// The log-sum-exp of logits and its gradient, in one pass over the vocabulary: what lens training needs from
// the unembedding.
//
// With logits z_v = w_v · x + b_v, F(x) = log Σ_v e^(z_v) has the gradient μ(x) = Σ_v softmax(z)_v w_v, the
// expected row of the unembedding. A divergence between the distributions at x and y follows without a second
// pass and without keeping a logit: KL(y ‖ x) = F(x) − F(y) − μ(y) · (x − y), and its gradient in x is
// μ(x) − μ(y) (docs/methods.md).
#pragma once

#include <ATen/core/Tensor.h>

#include "depthlens/compute/vocabulary_pass.hpp"

namespace depthlens::compute {

/// Of R rows of states after the final norm, on their device.
struct LogSumExpValues {
  at::Tensor value;     ///< [R] float64: F(x)
  at::Tensor gradient;  ///< [G, d] in the rows' dtype: μ(x), its terms multiplied by the token scale
  at::Tensor top;       ///< [R] int64: the token with the greatest logit, the lowest id among equals
};

/// Of rows [R, d], with the gradient of the first G of them. `token_scale` [V] float32 multiplies each
/// token's term of the gradient (not of the value); undefined: all 1. On processors a row's result depends
/// neither on the other rows nor on the number of threads.
LogSumExpValues log_sum_exp(const VocabularyPass& pass, const at::Tensor& rows, std::int64_t num_gradients,
                            const at::Tensor& token_scale = {});

}  // namespace depthlens::compute
