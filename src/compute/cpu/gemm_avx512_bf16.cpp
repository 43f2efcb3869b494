// GEMM microkernel of bfloat16, compiled for AVX-512 BF16: each instruction adds two products to a float32.
#include <immintrin.h>

#include "compute/cpu/packing.hpp"

namespace depthlens::compute {
namespace {

constexpr int kRows = 8, kVectors = 3, kColumns = kVectors * 16;

template <int kCount>
void multiply_rows(const std::uint32_t* block, const std::uint32_t* panel, std::int64_t pairs, bool add,
                   float* out, std::int64_t stride) {
  __m512 sums[kCount][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) sums[i][j] = _mm512_setzero_ps();
  }
  for (std::int64_t k = 0; k < pairs; ++k) {
    __m512bh weights[kVectors];
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j)
      weights[j] = reinterpret_cast<__m512bh>(_mm512_load_si512(panel + (k * kVectors + j) * 16));
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) {
      const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(block[k * kCount + i])));
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], x, weights[j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      float* to = out + i * stride + j * 16;
      _mm512_storeu_ps(to, add ? _mm512_add_ps(_mm512_loadu_ps(to), sums[i][j]) : sums[i][j]);
    }
  }
}

template <int kMax>
void multiply(const void* block, std::int64_t count, const void* panel, std::int64_t d, bool add, float* out,
              std::int64_t stride) {
  if constexpr (kMax > 1) {
    if (count < kMax) return multiply<kMax - 1>(block, count, panel, d, add, out, stride);
  }
  multiply_rows<kMax>(static_cast<const std::uint32_t*>(block), static_cast<const std::uint32_t*>(panel),
                      GemmKernel::depth(d) / 2, add, out, stride);
}

}  // namespace

const GemmKernel kAvx512Bf16Gemm = {.panel_columns = kColumns,
                                    .block_rows = kRows,
                                    .element_size = 2,
                                    .pack_columns = pack_panel<64, kColumns, true>,
                                    .pack_transposed = pack_transposed_panel<kColumns, true>,
                                    .pack_rows = pack_block<kRows, true>,
                                    .multiply = multiply_by_terms<kColumns, 2, kRows, multiply<kRows>>};

}  // namespace depthlens::compute
