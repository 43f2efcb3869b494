// GEMM microkernels of float32. Included once by each file that is compiled for an instruction set; no
// standard library here (see row_statistics_impl.hpp).
#pragma once

#include "compute/cpu/packing.hpp"

namespace depthlens::compute {
namespace {

/// kRows × kVectors sums stay in registers while the dimensions go by.
template <int kBytes, int kRows, int kVectors>
void multiply_rows(const float* block, const float* panel, std::int64_t depth, bool add, float* out,
                   std::int64_t stride) {
  using Floats = typename VectorOf<kBytes>::Floats;
  using Unaligned = typename VectorOf<kBytes>::Unaligned;
  constexpr int kLanes = kBytes / 4;
  Floats sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) sums[i][j] = Floats{};
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    Floats weights[kVectors];
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j)
      weights[j] = *reinterpret_cast<const Floats*>(panel + (k * kVectors + j) * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Floats x = block[k * kRows + i] - Floats{};  // to every lane
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) sums[i][j] += x * weights[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      Unaligned& to = *reinterpret_cast<Unaligned*>(out + i * stride + j * kLanes);
      if (add) {
        const Floats before = to;
        sums[i][j] += before;
      }
      to = sums[i][j];
    }
  }
}

/// Blocks of fewer rows than `kRows` have loops of their own.
template <int kBytes, int kRows, int kVectors>
void multiply_float32(const void* block, std::int64_t count, const void* panel, std::int64_t d, bool add,
                      float* out, std::int64_t stride) {
  if constexpr (kRows > 1) {
    if (count < kRows)
      return multiply_float32<kBytes, kRows - 1, kVectors>(block, count, panel, d, add, out, stride);
  }
  multiply_rows<kBytes, kRows, kVectors>(static_cast<const float*>(block), static_cast<const float*>(panel),
                                         GemmKernel::depth(d), add, out, stride);
}

template <int kBytes, int kRows, int kVectors>
constexpr GemmKernel float32_gemm() {
  constexpr int kColumns = kVectors * kBytes / 4;
  return {.panel_columns = kColumns,
          .block_rows = kRows,
          .element_size = 4,
          .pack_columns = pack_panel<kBytes, kColumns, false>,
          .pack_transposed = pack_transposed_panel<kColumns, false>,
          .pack_rows = pack_block<kRows, false>,
          .multiply = multiply_by_terms<kColumns, 4, kRows, multiply_float32<kBytes, kRows, kVectors>>};
}

}  // namespace
}  // namespace depthlens::compute
