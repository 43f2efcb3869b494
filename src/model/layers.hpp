// The operations a decoder block is made of. All take and return tensors of rows, one row a token.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// Layer norm or RMS norm over the last dimension, computed in float32. `bias` may be undefined.
at::Tensor apply_norm(NormKind kind, const at::Tensor& input, const at::Tensor& weight,
                      const at::Tensor& bias, double epsilon);

at::Tensor activate(Activation kind, const at::Tensor& input);

/// Angle per position of each pair of values that is rotated, dims / 2 of them, with the model's scaling.
std::vector<double> rotary_frequencies(const RopeSpec& rope);

/// Cosines and sines [T, dims / 2] of the rotary embedding for these positions, in float32.
std::array<at::Tensor, 2> rotary_tables(const RopeSpec& rope, const std::vector<std::int64_t>& positions,
                                        at::Device device);

/// Attention of one window: queries, keys and values [1, H, T, dh]. Each position sees itself and the `span`
/// − 1 before it, or all before it where `span` is 0.
at::Tensor attend(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                  std::int64_t span);

/// Rotates the first `rope.dims` values of each head of x [T, H, dh].
at::Tensor rotate(const at::Tensor& x, const RopeSpec& rope, const std::array<at::Tensor, 2>& tables);

}  // namespace depthlens::model
