// The selective scan (Mamba; Gu and Dao, arXiv 2312.00752): states that fade by a factor of each of their
// numbers. docs/methods.md has the formulas.
#pragma once

#include <ATen/core/Tensor.h>

namespace depthlens::compute {

/// What the states of D channels show, [W, T, D], all in float32; a channel's state has N numbers and is 0
/// before the first position. Steps [W, T, D], not negative, and rates [D, N], not positive: a state fades by
/// exp(step · rate). Values [W, T, D]; writers and readers [W, T, N]. Can be differentiated; what is recorded
/// grows with T · D · N. Not checked.
at::Tensor selective_scan(const at::Tensor& steps, const at::Tensor& rates, const at::Tensor& values,
                          const at::Tensor& writers, const at::Tensor& readers);

}  // namespace depthlens::compute
