#include "support/card_arithmetic.hpp"

#include <cstdint>

#include "compute/cuda/cuda_backend.hpp"
#include "support/plain_kernels.hpp"

namespace depthlens::test {

std::shared_ptr<const compute::Backend> card_arithmetic() {
  return compute::make_cuda_backend({}, at::kCPU, std::make_shared<PlainKernels>(),
                                    [] { return std::uint64_t{1} << 30; });
}

}  // namespace depthlens::test
