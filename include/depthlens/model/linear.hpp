// Products with weights: the one place that decides how a matrix product is computed.
#pragma once

#include <ATen/core/Tensor.h>

namespace depthlens::model {

/// input [T, in] · weightᵀ [out, in] + bias, in the input's dtype, whatever the weight is stored as; returns
/// float32 [T, out]. `bias` may be undefined. A row's result does not depend on how many other rows there
/// are.
at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace depthlens::model
