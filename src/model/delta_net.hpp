// The gated delta rule (Yang, Kautz, Hatamizadeh, arXiv 2412.06464) as Qwen 3.5 has it: what mixes the
// positions of a window by a state in place of attention. docs/methods.md has the formulas.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// A block's tensors beside its products, all in float32.
struct DeltaNetWeights {
  at::Tensor query_convolution, key_convolution, value_convolution;  ///< [heads · size, 1, kernel]
  at::Tensor decay_bias, log_decay;                                  ///< [value_heads]
  at::Tensor norm;                                                   ///< [value_size]
  double norm_epsilon = 1e-6;
  Activation activation = Activation::kSilu;  ///< behind the convolution
};

/// What the block's input is projected to, [..., T, n] in float32: n is heads · size of queries, keys, values
/// and gates, and value_heads of the last two.
struct DeltaNetRows {
  at::Tensor queries, keys, values, gates, updates, decays;
};

/// How many numbers the intermediate results of one position are, about, and how many a recorded pass keeps.
std::int64_t delta_net_floats(const DeltaNetSpec& spec);
std::int64_t recorded_delta_net_floats(const DeltaNetSpec& spec);

/// What a block's output projection reads, [W, T, value_heads · value_size], of W windows of T positions
/// each. Rows behind a window change nothing before them. Every operation can be differentiated; memory grows
/// with T.
at::Tensor mix_by_delta_rule(const DeltaNetSpec& spec, const DeltaNetWeights& weights,
                             const DeltaNetRows& rows);

/// The same of windows of these lengths one behind the other, [T, …] with T the sum of the lengths, on the
/// processor and without a gradient. A window has the same bits whatever is beside it.
at::Tensor mix_windows_by_delta_rule(const DeltaNetSpec& spec, const DeltaNetWeights& weights,
                                     const DeltaNetRows& rows, const std::vector<std::int64_t>& lengths);

}  // namespace depthlens::model
