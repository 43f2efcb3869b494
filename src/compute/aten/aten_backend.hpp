// The backend of libtorch's operations: on any device, and the reference for others.
#pragma once

#include <memory>

#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/vocabulary_pass.hpp"

namespace depthlens::compute {

std::shared_ptr<const Backend> make_aten_backend(const BackendOptions& options, at::Device device);

/// Multiplies in the rows' type, float64 too.
std::unique_ptr<VocabularyPass> make_aten_pass(const Unembedding& unembedding);

/// x [T, in] · weightᵀ [out, in] in the type of x. On processors, a row's float32 result does not depend on
/// how many other rows there are where the weight is contiguous.
at::Tensor aten_product(const at::Tensor& x, const at::Tensor& weight);

/// `Backend::product` by libtorch.
at::Tensor aten_linear(const at::Tensor& x, const at::Tensor& weight, Way way);

}  // namespace depthlens::compute
