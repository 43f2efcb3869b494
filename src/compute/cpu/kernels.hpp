// What processors can do: the table of kernels, of which one is chosen when a backend is made.
#pragma once

#include <string>
#include <vector>

#include "compute/cpu/row_statistics.hpp"
#include "depthlens/compute/backend.hpp"

namespace depthlens::compute {

struct GemmKernel;

struct CpuKernel {
  std::string name;        ///< by which DEPTHLENS_KERNEL chooses it
  const GemmKernel* gemm;  ///< nullptr: libtorch's products and operations
  const RowStatistics* statistics;
  bool splits = false;  ///< products are of bfloat16, and numbers are split into terms

  /// Into how many terms each number is split (weights in no more than they need). One keeps 8 bits, two 16,
  /// three all 24 of a float32.
  int terms(Precision precision) const {
    if (!splits) return 1;
    return precision == Precision::kFloat32 ? 3 : precision == Precision::kExact ? 2 : 1;
  }
};

/// All that this processor runs, the quickest for this precision first.
std::vector<CpuKernel> usable_kernels(Precision precision);

/// The quickest, or the one of that name. Throws a usage error where none of that name runs here.
CpuKernel choose_kernel(const std::string& name, Precision precision);

}  // namespace depthlens::compute
