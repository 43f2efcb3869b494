// Products x · wᵀ or x · w tile by tile, of packed rows and packed weights of any stored type.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "compute/cpu/kernels.hpp"

namespace depthlens::compute {

struct GemmKernel;
struct GemmTile;
enum class WeightType;

/// Products with one matrix of weights, as one kernel makes them: with all split terms that it takes.
///
/// A *block* holds up to `block_rows` rows of x, a *panel* `panel_columns` columns of the product, each with
/// `depth` weights: of one output, or where it goes back, of one input. Both are packed, and begin at
/// multiples of 64 bytes. Every element of a product is summed over the dimensions in the same order whatever
/// stands beside it, so that it has the same bits in every panel and block.
class PackedGemm {
 public:
  /// `weights`: [out, in], contiguous, on the CPU, float32, bfloat16 or float16; it is shared, not copied.
  /// `kernel` must have a microkernel.
  PackedGemm(const CpuKernel& kernel, Precision precision, at::Tensor weights, Way way = Way::kForward);

  /// What is summed over, and what a product has.
  std::int64_t depth() const { return d_; }
  std::int64_t num_columns() const { return weights_.size(way_ == Way::kForward ? 0 : 1); }
  std::int64_t block_rows() const;
  std::int64_t panel_columns() const;
  /// Bytes of a packed block and of `columns` packed columns (whole panels), all terms included.
  std::int64_t block_bytes() const;
  std::int64_t columns_bytes(std::int64_t columns) const;
  /// Columns, in whole panels and at most `max`, whose packed weights stay in a processor's second cache.
  std::int64_t tile_columns(std::int64_t max) const;

  /// How several blocks are multiplied by one tile.
  struct Tiling {
    std::int64_t columns;  ///< of the tile, in whole panels
    std::int64_t depth;    ///< dimensions that all blocks are multiplied by before the next
    std::int64_t blocks;   ///< at once
  };
  /// Where few columns' weights of all dimensions stay in the second cache, rows go by too often: AMX
  /// multiplies faster than they come. Then wide tiles are multiplied slice by slice, for which the sums of
  /// all blocks come and go. That takes some blocks: `num_blocks` are at hand.
  Tiling tiling(std::int64_t max_columns, std::int64_t num_blocks) const;
  /// The same where the weights are packed a second time, for the way back; wide tiles have `max_sliced`
  /// columns.
  Tiling tiling_both_ways(std::int64_t max_columns, std::int64_t max_sliced) const;

  /// One block of `count` rows [d].
  void pack_block(const float* rows, std::int64_t count, std::uint8_t* block) const;
  /// Packs the `count` columns from `first` on, in whole panels.
  void pack_neighbours(std::int64_t first, std::int64_t count, std::uint8_t* panels) const;
  /// Forward only: packs `count` columns, the weights of output column_of(i), or zeros where that is
  /// negative; whole panels.
  void pack_columns(std::int64_t count, const std::function<std::int64_t(std::int64_t)>& column_of,
                    std::uint8_t* panels) const;
  /// out[i · stride + n] of the block's `count` rows and of `columns` columns, in whole panels. Of some
  /// kernels block_rows() rows are written whatever `count` is.
  void multiply(const std::uint8_t* block, std::int64_t count, const std::uint8_t* panels,
                std::int64_t columns, float* out, std::int64_t stride) const;
  /// Several packed rows at once.
  struct Blocks {
    const std::uint8_t* first;  ///< the others follow
    std::int64_t num_blocks;
    std::int64_t count, last_count;  ///< rows of each, and of the last
  };
  /// The same of several blocks, slice by slice; their products begin block_rows() · stride numbers apart.
  void multiply(const Blocks& blocks, std::int64_t depth, const std::uint8_t* panels, std::int64_t columns,
                float* out, std::int64_t stride) const;

  // Forward and back with the same weights: out [rows, d] += c [rows, width] · w, of the outputs
  // first … first + width − 1.

  /// Bytes of the packed weights of such outputs in `columns` dimensions, and of a packed block of their
  /// coefficients.
  std::int64_t transposed_bytes(std::int64_t width, std::int64_t columns) const;
  std::int64_t coefficients_bytes(std::int64_t width) const;
  /// Of the `count` dimensions from `first_column` on, in whole panels.
  void pack_transposed(std::int64_t first, std::int64_t width, std::int64_t first_column, std::int64_t count,
                       std::uint8_t* panels) const;
  /// `coefficients` [count, width].
  void pack_coefficients(const float* coefficients, std::int64_t count, std::int64_t width,
                         std::uint8_t* block) const;
  /// Of packed coefficients; `panels`: of all dimensions. `out` has `block_rows` rows for each block, and
  /// whole panels of columns. Several blocks go by slice by slice, and their sums are made in `sums`
  /// [blocks, block_rows, tiling.columns]: in `out`, rows would be too far apart for the cache.
  void add_expected(const Blocks& coefficients, std::int64_t width, const std::uint8_t* panels,
                    const Tiling& tiling, float* sums, float* out, std::int64_t stride) const;

 private:
  std::int64_t tile_bytes() const;
  std::int64_t whole_panels(std::int64_t columns) const;  // at most `columns`, but one
  Tiling whole(std::int64_t columns) const;
  Tiling sliced(std::int64_t columns) const;
  /// multiply() of blocks whose depth is `d`.
  void multiply_slices(const Blocks& blocks, std::int64_t d, std::int64_t depth, const std::uint8_t* panels,
                       std::int64_t columns, float* out, std::int64_t stride) const;
  std::int64_t block_term_bytes(std::int64_t d) const;
  std::int64_t panel_term_bytes(std::int64_t d) const;
  /// Panels whose columns are those of `depth` rows of the weights, from `first_row` on.
  void pack_turned(std::int64_t first_row, std::int64_t depth, std::int64_t first_column, std::int64_t count,
                   std::uint8_t* panels) const;
  /// A block's rows [d], in all terms.
  void pack_terms(const float* rows, std::int64_t count, std::int64_t d, std::uint8_t* block) const;
  GemmTile tile(const std::uint8_t* block, std::int64_t count, const std::uint8_t* panels,
                std::int64_t columns, std::int64_t d, float* out, std::int64_t stride) const;

  const GemmKernel& kernel_;
  at::Tensor weights_;
  Way way_;
  WeightType type_;
  std::int64_t d_;
  int row_terms_ = 1, weight_terms_ = 1;
};

/// Rows x [S · P, d], float32, as blocks of at most `block_rows` neighbouring positions of one of the S
/// states, in the order of use: [blocks of positions, S, block_bytes].
at::Tensor pack_blocks(const PackedGemm& gemm, const at::Tensor& x, std::int64_t num_states = 1);

/// Memory as packed blocks and panels want it, uninitialised.
at::Tensor aligned_bytes(std::int64_t size);

}  // namespace depthlens::compute
