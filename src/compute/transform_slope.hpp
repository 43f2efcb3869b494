// The derivative of a logit by what it was before the model's transform, from the logit.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full_like.h>

#include "depthlens/compute/logit_transform.hpp"

namespace depthlens::compute {

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
