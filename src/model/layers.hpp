// The operations a decoder block is made of. All take and return tensors of rows, one row a token.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// Moves tensors to a device, for which the host does not wait; what is there, or undefined, stays as it is.
std::function<at::Tensor(const at::Tensor&)> moved_to(at::Device device);

/// A norm over the last dimension, computed in float32. `weight` and `bias` may be undefined, or have the
/// input's last dimensions.
at::Tensor apply_norm(NormKind kind, const at::Tensor& input, const at::Tensor& weight,
                      const at::Tensor& bias, double epsilon);

at::Tensor activate(Activation kind, const at::Tensor& input);
/// Activation::kXielu (arXiv 2411.13010) with a block's numbers, in the order of their slots.
at::Tensor activate_xielu(const at::Tensor& input, const std::array<at::Tensor, 4>& numbers);

/// Each channel of x [W, T, n] as the sum of its last values by weight [n, 1, kernel], and `bias` [n] where
/// it is defined. Not libtorch's convolution: products and sums of whole rows have the same bits in a row of
/// any window.
at::Tensor causal_convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

at::Tensor scaled(const at::Tensor& input, double scale);  ///< itself where that is 1
at::Tensor logistic(const at::Tensor& input);              ///< 1 / (1 + exp(−x))

/// What becomes of gate x and up x, both [T, m]: act(gate x) · up x, or the clamped form of the spec. May
/// change its arguments where they record no gradient.
at::Tensor gated(const ArchSpec& spec, const at::Tensor& gate, const at::Tensor& up);

/// Angle per position of each pair of values that is rotated, dims / 2 of them, in a window of so many
/// positions.
std::vector<double> rotary_frequencies(const RopeSpec& rope, std::int64_t length);

/// Cosines and sines [T, dims / 2] for windows of these lengths, T positions in all, in float32.
using RotaryTables = std::array<at::Tensor, 2>;
RotaryTables rotary_tables(const RopeSpec& rope, const std::vector<std::int64_t>& lengths, at::Device device);

/// Rows [n, d] of the position embedding of `ArchSpec::sinusoidal_positions`, in float32; an odd d has a zero
/// at its end.
at::Tensor sinusoidal_positions(const std::vector<std::int64_t>& rows, std::int64_t d, at::Device device);

/// Rotates the first `rope.dims` values of each head of x [T, H, dh].
at::Tensor rotate(const at::Tensor& x, const RopeSpec& rope, const RotaryTables& tables);

/// What position 0, 1, … adds to the scores of each head, [H, length] float32; undefined where nothing.
at::Tensor position_bias(const ArchSpec& spec, std::int64_t length, at::Device device);

}  // namespace depthlens::model
