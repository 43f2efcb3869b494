// Weights of 4 bits as the MX formats specification has them (OCP MX v1.0): e2m1 numbers, each 32 of which
// share a scale that is a power of two.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace depthlens::compute {

inline constexpr std::int64_t kMxfp4Group = 32;  // numbers to a scale

/// Codes [R, n, 16], two numbers in a byte, the low half first, and exponents [R, n], each 127 more than it
/// says; both uint8. Returns their exact values, bfloat16 [R, 32 · n], on the same device.
at::Tensor unfold_mxfp4(const at::Tensor& codes, const at::Tensor& exponents);

}  // namespace depthlens::compute
