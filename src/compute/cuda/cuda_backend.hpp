// The backend of CUDA devices: products in bfloat16 with float32 sums, of as many split terms as the
// precision asks for, by libtorch; statistics by a kernel of our own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "compute/cuda/kernels.hpp"
#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/vocabulary_pass.hpp"

namespace depthlens::compute {

/// Where the card multiplies no bfloat16 (before sm_80) libtorch's operations serve, which the log says.
std::shared_ptr<const Backend> make_cuda_backend(const BackendOptions& options, at::Device device);
/// The same with kernels that are given, as those of tests, which compute on the processor. `free_memory`:
/// bytes that tensors to come may have.
std::shared_ptr<const Backend> make_cuda_backend(const BackendOptions& options, at::Device device,
                                                 std::shared_ptr<cuda::Kernels> kernels,
                                                 std::function<std::uint64_t()> free_memory);

/// The unembedding must be there, in float32, bfloat16 or float16. `tile_bytes`: of the logits of a
/// tile.
std::unique_ptr<VocabularyPass> make_cuda_pass(std::shared_ptr<cuda::Kernels> kernels, Precision precision,
                                               const Unembedding& unembedding, std::int64_t tile_bytes);

}  // namespace depthlens::compute
