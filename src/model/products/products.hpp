// Products of panels and blocks for each instruction set at hand. Included by files that are compiled for an
// instruction set: no standard library but integer types (see decode/kernels/row_statistics_impl.hpp).
#pragma once

#include <cstdint>

namespace depthlens::model {

enum class WeightType { kFloat32, kBfloat16, kFloat16 };

/// One instruction set's products. A *block* holds up to `block_rows` rows of x, a *panel* `panel_columns`
/// columns of the product, each the weights [d] of one output; both in the order in which `multiply` reads
/// them, and both begin at multiples of 64 bytes. Every element of a product is summed over the dimensions in
/// the same order whatever stands beside it, so that it has the same bits in every panel and block.
///
/// Where elements are bfloat16, a number can be kept in parts: part 0 is the number rounded, each other what
/// those before left, rounded again. Two parts keep 16 bits of it, three 24.
struct PanelProducts {
  std::int64_t panel_columns;
  std::int64_t block_rows;
  std::int64_t element_size;  ///< bytes: 4 (float32) or 2 (bfloat16)

  /// The panel of the weights [d] at `columns` [panel_columns]; nullptr gives zeros.
  void (*pack_columns)(const void* const* columns, WeightType type, std::int64_t d, int part, void* panel);
  /// The block of `count` ≤ block_rows rows [d] that follow each other.
  void (*pack_rows)(const float* rows, std::int64_t count, std::int64_t d, int part, void* block);
  /// out[i · stride + n] = row i of the block · column n of the panel, or, with `add`, that much more. Of
  /// kBrgemmProducts all block_rows rows are written, of others `count`.
  void (*multiply)(const void* block, std::int64_t count, const void* panel, std::int64_t d, bool add,
                   float* out, std::int64_t stride);
  /// Each thread calls it when it has made its last product for now. May be nullptr.
  void (*release)() = nullptr;

  /// Dimensions in a block or panel: d and zeros up to a whole number of vectors.
  static constexpr std::int64_t kDepth = 32;
  static constexpr std::int64_t depth(std::int64_t d) { return (d + kDepth - 1) / kDepth * kDepth; }
};

extern const PanelProducts kPortableProducts;
#ifdef DEPTHLENS_X86
extern const PanelProducts kAvx2Products;            ///< needs AVX2 and FMA
extern const PanelProducts kAvx512Products;          ///< needs AVX-512 F, BW, DQ, VL
extern const PanelProducts kAvx512Bfloat16Products;  ///< needs AVX-512 BF16 too
/// libtorch's small products (brgemm) of bfloat16, which use AMX where there is one; needs AVX-512 BF16.
extern const PanelProducts kBrgemmProducts;
void pack_columns_for_brgemm(const void* const* columns, WeightType type, std::int64_t d, int part,
                             void* panel);
#endif

}  // namespace depthlens::model
