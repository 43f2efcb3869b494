// Matrix products x · wᵀ tile by tile. What needs a whole product calls `linear` (linear.hpp); the decoder
// reads each tile while it is in the cache.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "depthlens/model/arithmetic.hpp"

namespace depthlens::model {

struct PanelProducts;
enum class WeightType;

/// Products with one matrix of weights, as one kind of arithmetic makes them: with all parts that it takes.
///
/// A *block* holds up to `block_rows` rows of x, a *panel* `panel_columns` columns of the product, each the
/// weights [d] of one output; both are packed, and begin at multiples of 64 bytes. Every element of a product
/// is summed over the dimensions in the same order whatever stands beside it, so that it has the same bits in
/// every panel and block.
class Multiplier {
 public:
  /// `weights`: [n, d], contiguous, on the CPU, float32, bfloat16 or float16; it is shared, not copied.
  /// `arithmetic` must have products.
  Multiplier(const Arithmetic& arithmetic, at::Tensor weights);

  std::int64_t depth() const { return d_; }
  std::int64_t block_rows() const;
  std::int64_t panel_columns() const;
  /// Bytes of a packed block and of `columns` packed columns (whole panels), all parts included.
  std::int64_t block_bytes() const;
  std::int64_t columns_bytes(std::int64_t columns) const;
  /// Columns, in whole panels and at most `most`, whose packed weights stay in a processor's second cache.
  std::int64_t tile_columns(std::int64_t most) const;

  /// Rows of x as blocks: [blocks, block_bytes], block after block.
  at::Tensor pack_rows(const at::Tensor& x) const;
  /// One block of `count` rows [d].
  void pack_block(const float* rows, std::int64_t count, std::uint8_t* block) const;
  /// Packs `count` columns, the weights of output column_of(i), or zeros where that is negative; whole
  /// panels.
  void pack_columns(std::int64_t count, const std::function<std::int64_t(std::int64_t)>& column_of,
                    std::uint8_t* panels) const;
  /// out[i · stride + n] of the block's `count` rows and of `columns` columns, in whole panels. Of some
  /// arithmetics block_rows() rows are written whatever `count` is.
  void multiply(const std::uint8_t* block, std::int64_t count, const std::uint8_t* panels,
                std::int64_t columns, float* out, std::int64_t stride) const;

 private:
  std::int64_t part_of_block_bytes() const;
  std::int64_t part_of_panel_bytes() const;

  const PanelProducts& products_;
  at::Tensor weights_;
  WeightType type_;
  std::int64_t d_;
  int row_parts_ = 1, weight_parts_ = 1;
};

/// Memory as packed blocks and panels want it, uninitialised.
at::Tensor aligned_bytes(std::int64_t size);

}  // namespace depthlens::model
