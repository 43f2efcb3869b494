// The parameters of a tuned lens as two tensors.
#pragma once

#include <ATen/core/Tensor.h>

namespace depthlens::lens {

struct TunedParameters {
  at::Tensor weights;  ///< [L, d, d] float32, (out, in)
  at::Tensor biases;   ///< [L, d] float32, or undefined
};

}  // namespace depthlens::lens
