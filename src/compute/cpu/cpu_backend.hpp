// The backend of processors: packed products by microkernels.
#pragma once

#include <memory>

#include "compute/cpu/kernels.hpp"
#include "compute/parallel.hpp"
#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/vocabulary_pass.hpp"

namespace depthlens::compute {

/// `exact` and `fast` must both have microkernels.
std::shared_ptr<const Backend> make_cpu_backend(const BackendOptions& options);

/// The unembedding must be on the CPU, in float32, bfloat16 or float16; `kernel` must have a microkernel.
std::unique_ptr<VocabularyPass> make_cpu_pass(const CpuKernel& kernel, Precision precision,
                                              const Unembedding& unembedding, ShouldStop should_stop);

/// Rows times weights by this kernel, that way. `blocks`: the rows as `pack_for_product` packs them for it
/// and this precision.
at::Tensor packed_product(const CpuKernel& kernel, Precision precision, const at::Tensor& blocks,
                          std::int64_t num_rows, const at::Tensor& weight, Way way,
                          const ShouldStop& should_stop);
at::Tensor pack_for_product(const CpuKernel& kernel, Precision precision, const at::Tensor& x);

}  // namespace depthlens::compute
