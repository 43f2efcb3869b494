// The backend of cards on the processor: split terms, products of bfloat16 with float32 sums, the passes and
// sizes that cards have. Its kernels are libtorch's operations; those for cards are tried by unit tests.
#pragma once

#include <memory>

#include "depthlens/compute/backend.hpp"

namespace depthlens::test {

std::shared_ptr<const compute::Backend> card_arithmetic();

}  // namespace depthlens::test
