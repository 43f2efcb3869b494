// What a model makes of its unembedding's products, as libtorch's operations, and the derivative.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full_like.h>

#include "depthlens/compute/logit_transform.hpp"

namespace depthlens::compute {

/// Makes logits of products where they lie; `bias`: of their tokens, or undefined.
inline void finish_logits(at::Tensor& products, const at::Tensor& bias, const LogitTransform& transform) {
  if (bias.defined()) products.add_(bias);
  const auto& [scale, cap] = transform;
  if (cap > 0) {
    products.mul_(scale / cap).tanh_().mul_(cap);
  } else if (scale != 1) {
    products.mul_(scale);
  }
}

/// The derivative of logits by what they were before the transform.
inline at::Tensor slope(const LogitTransform& transform, const at::Tensor& logits) {
  if (transform.soft_cap == 0) return at::full_like(logits, transform.scale);
  at::Tensor slopes = logits / transform.soft_cap;
  return slopes.mul_(slopes).neg_().add_(1).mul_(transform.scale);
}

inline float slope(const LogitTransform& transform, float logit) {
  const auto scale = static_cast<float>(transform.scale);
  if (transform.soft_cap == 0) return scale;
  const float share = logit / static_cast<float>(transform.soft_cap);
  return (1 - share * share) * scale;
}

}  // namespace depthlens::compute
