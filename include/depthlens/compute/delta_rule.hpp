// The gated delta rule (Yang, Kautz, Hatamizadeh, arXiv 2412.06464). docs/methods.md has the formulas.
#pragma once

#include <ATen/core/Tensor.h>

namespace depthlens::compute {

/// What the states of some heads show, [chunks, N, chunk, value size] with N = W · groups · heads, in
/// float32; the states are 0 before the first chunk. Queries and keys [chunks, W, groups, 1, chunk, key
/// size], values [chunks, W, groups, heads, chunk, value size], updates and logarithms of decays, at most 0,
/// [chunks, W, groups, heads, chunk, 1]. Can be differentiated. Not checked.
at::Tensor gated_delta_rule(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                            const at::Tensor& updates, const at::Tensor& log_decays);

}  // namespace depthlens::compute
