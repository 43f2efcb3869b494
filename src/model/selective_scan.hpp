// The selective scan as Mamba has it (Gu and Dao, arXiv 2312.00752), of windows. docs/methods.md has the
// formulas.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// A block's tensors beside its products, all in float32.
struct SelectiveScanWeights {
  at::Tensor step_bias, skip;  ///< [channels]
  at::Tensor log_decay;        ///< [channels, state_size]
};

/// [..., T, n] in float32: n is channels of values and steps, and state_size of writers and readers.
struct SelectiveScanRows {
  at::Tensor values, steps, writers, readers;
};

/// How many numbers the intermediate results of one position are, about, and how many a recorded pass keeps.
std::int64_t selective_scan_floats(const SelectiveScanSpec& spec);
std::int64_t recorded_selective_scan_floats(const SelectiveScanSpec& spec);

/// What the states show, and the values that skip them, [W, T, channels], of W windows of T positions each.
/// Rows behind a window change nothing before them. Every operation can be differentiated.
at::Tensor mix_by_selective_scan(const SelectiveScanWeights& weights, const SelectiveScanRows& rows);

/// The same of windows of these lengths one behind the other, [T, …] with T the sum of the lengths, on the
/// processor and without a gradient. A window has the same bits whatever is beside it.
at::Tensor mix_windows_by_selective_scan(const SelectiveScanWeights& weights, const SelectiveScanRows& rows,
                                         const std::vector<std::int64_t>& lengths);

}  // namespace depthlens::model
