// The arithmetics of this processor, one after the other.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/model/arithmetic.hpp"

namespace depthlens::test {

/// Sets DEPTHLENS_KERNEL for as long as it lives.
class KernelWish {
 public:
  explicit KernelWish(const std::string& name) {
    if (const char* before = std::getenv("DEPTHLENS_KERNEL")) before_ = before;
    ::setenv("DEPTHLENS_KERNEL", name.c_str(), 1);
  }
  ~KernelWish() {
    if (before_) {
      ::setenv("DEPTHLENS_KERNEL", before_->c_str(), 1);
    } else {
      ::unsetenv("DEPTHLENS_KERNEL");
    }
  }
  KernelWish(const KernelWish&) = delete;
  KernelWish& operator=(const KernelWish&) = delete;

 private:
  std::optional<std::string> before_;
};

/// The names of all kernels that run here.
inline std::vector<std::string> usable_kernels(model::Precision precision = model::Precision::kExact) {
  std::vector<std::string> usable;
  for (const model::Arithmetic& arithmetic : model::usable_arithmetics(precision))
    usable.push_back(arithmetic.name);
  return usable;
}

/// Whether it multiplies bfloat16: of exact numbers two parts, 16 bits.
inline bool is_bfloat16(const std::string& kernel) {
  return kernel.find("bf16") != std::string::npos;
}

/// How near readouts of the small golden checkpoints must come to float64, in nats (docs/methods.md): logits
/// have 16 bits where products are of bfloat16 in parts, else 24. By default of the kernel that this
/// processor chooses.
inline double readout_margin(const std::string& kernel = model::cpu_arithmetic().name) {
  return is_bfloat16(kernel) ? 1e-4 : 2e-5;
}

}  // namespace depthlens::test
