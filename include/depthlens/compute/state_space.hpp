// State spaces whose states fade by one factor a head (Mamba 2; Dao and Gu, arXiv 2405.21060).
// docs/methods.md has the formulas.
#pragma once

#include <ATen/core/Tensor.h>

namespace depthlens::compute {

/// What the states of some heads show, [chunks, N, chunk, value size] with N = W · groups · heads, in
/// float32; the states are 0 before the first chunk. Readers (C) and writers (B) [chunks, W, groups, 1,
/// chunk, state size], values [chunks, W, groups, heads, chunk, value size], logarithms of decays, at most 0,
/// [chunks, W, groups, heads, chunk, 1]. Can be differentiated. Not checked.
at::Tensor state_space(const at::Tensor& readers, const at::Tensor& writers, const at::Tensor& values,
                       const at::Tensor& log_decays);

}  // namespace depthlens::compute
