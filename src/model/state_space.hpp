// State spaces as Mamba 2 has them (Dao and Gu, arXiv 2405.21060): what mixes the positions of a window by a
// state in place of attention, or beside it. docs/methods.md has the formulas.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// A block's tensors beside its products and its norm, all in float32.
struct StateSpaceWeights {
  at::Tensor convolution;                 ///< [channels, 1, kernel]
  at::Tensor convolution_bias;            ///< [channels], or undefined
  at::Tensor step_bias, log_decay, skip;  ///< [heads]
};

/// What the block's input is projected to, [..., T, n] in float32.
struct StateSpaceRows {
  at::Tensor channels;  ///< values, writers and readers one behind the other
  at::Tensor steps;     ///< [..., heads]
};

/// How many numbers the intermediate results of one position are, about, and how many a recorded pass keeps.
std::int64_t state_space_floats(const StateSpaceSpec& spec);
std::int64_t recorded_state_space_floats(const StateSpaceSpec& spec);

/// What the states show, and the values that skip them, [W, T, heads · head_size], of W windows of T
/// positions each. Rows behind a window change nothing before them. Every operation can be differentiated;
/// memory grows with T.
at::Tensor mix_by_state_space(const StateSpaceSpec& spec, const StateSpaceWeights& weights,
                              const StateSpaceRows& rows);

/// The same of windows of these lengths one behind the other, [T, …] with T the sum of the lengths, on the
/// processor and without a gradient. A window has the same bits whatever is beside it.
at::Tensor mix_windows_by_state_space(const StateSpaceSpec& spec, const StateSpaceWeights& weights,
                                      const StateSpaceRows& rows, const std::vector<std::int64_t>& lengths);

}  // namespace depthlens::model
