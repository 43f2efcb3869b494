// GEMM microkernels for each instruction set at hand. Included by files that are compiled for an instruction
// set: no standard library but integer types (see row_statistics_impl.hpp).
#pragma once

#include <cstdint>

namespace depthlens::compute {

enum class WeightType { kFloat32, kBfloat16, kFloat16 };

/// A block of rows times the panels of a tile.
struct GemmTile {
  const void* block;   ///< `row_terms` packed blocks, one behind the other
  std::int64_t count;  ///< rows in them
  int row_terms;
  const void* panels;    ///< for each panel its `weight_terms` packed panels
  std::int64_t columns;  ///< in whole panels
  int weight_terms;      ///< at most row_terms
  std::int64_t d;        ///< dimensions that are packed
  /// Those that are multiplied: a multiple of GemmKernel::kDepth, and up to one or to `d`.
  std::int64_t first_dimension, end_dimension;
  float* out;  ///< out[i · stride + n]
  std::int64_t stride;
  /// To what is in `out`. Except by AMX the product's own sum is made first: so a sum of very many products
  /// loses few bits.
  bool add = false;
  /// Whether the same dimensions of the block behind this one are multiplied next.
  bool block_follows = false;
};

/// One instruction set's microkernel. A *block* holds up to `block_rows` rows of x, a *panel* `panel_columns`
/// columns of the product, each the weights [d] of one output; both in the order in which `multiply` reads
/// them, and both begin at multiples of 64 bytes. Every element of a product is summed over the dimensions in
/// the same order whatever stands beside it, so that it has the same bits in every panel and block.
///
/// Where elements are bfloat16, a number can be split into terms: term 0 is the number rounded, each other
/// what those before left, rounded again. Two terms keep 16 bits of it, three 24.
struct GemmKernel {
  std::int64_t panel_columns;
  std::int64_t block_rows;
  std::int64_t element_size;  ///< bytes: 4 (float32) or 2 (bfloat16)
  /// Whether it multiplies a block faster than the third-level cache gives the next, unless by many columns.
  bool outruns_cache = false;

  /// The panel of the weights [d] at `columns` [panel_columns]; nullptr gives zeros.
  void (*pack_columns)(const void* const* columns, WeightType type, std::int64_t d, int term, void* panel);
  /// The panel whose columns are `count` ≤ panel_columns neighbouring entries of `d` rows that are `stride`
  /// weights apart: of the transposed matrix. The columns beyond `count` are zeros.
  void (*pack_transposed)(const void* rows, WeightType type, std::int64_t stride, std::int64_t d,
                          std::int64_t count, int term, void* panel);
  /// The block of `count` ≤ block_rows rows [d] that follow each other.
  void (*pack_rows)(const float* rows, std::int64_t count, std::int64_t d, int term, void* block);
  /// The sum over terms r of the rows and w of the weights with r + w < row_terms: what a term of either
  /// gives is as much smaller as it is further back, and beyond the last term below what is kept. Of
  /// kAmxGemm all block_rows rows are written, of others `count`.
  void (*multiply)(const GemmTile& tile);

  /// Dimensions in a block or panel: d and zeros up to a whole number of vectors.
  static constexpr std::int64_t kDepth = 32;
  static constexpr std::int64_t depth(std::int64_t d) { return (d + kDepth - 1) / kDepth * kDepth; }
};

extern const GemmKernel kPortableGemm;
#ifdef DEPTHLENS_X86
extern const GemmKernel kAvx2Gemm;        ///< needs AVX2 and FMA
extern const GemmKernel kAvx512Gemm;      ///< needs AVX-512 F, BW, DQ, VL
extern const GemmKernel kAvx512Bf16Gemm;  ///< needs AVX-512 BF16 too
extern const GemmKernel kAmxGemm;         ///< needs AMX-BF16, see `amx_is_usable`, and AVX-512 BF16
/// Whether the processor has AMX for bfloat16 and the system lets this process use it.
bool amx_is_usable();
#endif

}  // namespace depthlens::compute
