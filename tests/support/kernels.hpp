// The kernels of this processor, one after the other.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "depthlens/compute/backend.hpp"

namespace depthlens::test {

/// The backend of that kernel of this processor.
inline std::shared_ptr<const compute::Backend> backend(
    const std::string& kernel, compute::Precision decode = compute::Precision::kExact) {
  return compute::Backend::create({.kernel = kernel, .decode = decode});
}

/// Whether it multiplies bfloat16: of exact numbers two terms, 16 bits.
inline bool is_bfloat16(const std::string& kernel) {
  return kernel.find("bf16") != std::string::npos;
}

/// How near readouts of the small golden checkpoints must come to float64, in nats (docs/methods.md): logits
/// have 16 bits where products are of bfloat16 in split terms, else 24. `kernel`: of the backend that
/// decodes, which a card's is not the processor's.
inline double readout_margin(const std::string& kernel) {
  return is_bfloat16(kernel) ? 1e-4 : 2e-5;
}

}  // namespace depthlens::test
