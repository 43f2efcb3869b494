// A tile of the vocabulary at a block of neighbouring positions, as reducers read it on the processor.
#pragma once

#include <algorithm>
#include <cstdint>

#include "compute/cpu/packed_gemm.hpp"
#include "compute/cpu/row_statistics.hpp"
#include "depthlens/compute/vocabulary_pass.hpp"

namespace depthlens::compute {

/// The packed block with index `block` of a state.
inline const std::uint8_t* block_of(const PackedGemm& gemm, const StateRows& rows, std::int64_t block,
                                    std::int64_t state) {
  return rows.blocks.const_data_ptr<std::uint8_t>() +
         (block * rows.packed_states + rows.first_state + state) * gemm.block_bytes();
}

/// Makes logits of `width` products: their bias, which may be nullptr, and the transform.
inline void finish_logits(const RowStatistics& statistics, const LogitTransform& transform, const float* bias,
                          float* products, std::int64_t width) {
  if (bias == nullptr && transform.is_identity()) return;
  statistics.finish_logits(products, static_cast<int>(width), bias, static_cast<float>(transform.scale),
                           static_cast<float>(transform.soft_cap));
}

class HostTile {
 public:
  // Which part of the pass it is.
  std::int64_t slice = 0;
  std::int64_t first = 0;  ///< token
  int width = 0;           ///< tokens
  std::int64_t begin = 0;  ///< position; set by place()
  int count = 0;           ///< positions

  /// Of the pass.
  struct Source {
    const PackedGemm& gemm;
    const RowStatistics& statistics;
    const Unembedding& unembedding;
    const StateRows& rows;
  };
  explicit HostTile(const Source& source) : source_(source) {}

  /// Moves to the block of positions from `position` on.
  void place(std::int64_t position) {
    begin = position;
    count = static_cast<int>(std::min(source_.gemm.block_rows(), source_.rows.num_positions - position));
    made_ = 0;
  }

  // Of the tile: packed weights [width] and, where a reducer wants them, the transposed ones; a buffer for
  // the logits of `tiling.blocks` blocks, and one for a packed block of coefficients.
  const std::uint8_t* panels = nullptr;
  const std::uint8_t* transposed = nullptr;
  float* buffer = nullptr;
  std::uint8_t* coefficients = nullptr;
  PackedGemm::Tiling tiling = {};

  const RowStatistics& statistics() const { return source_.statistics; }
  std::int64_t num_states() const { return source_.rows.num_states; }
  std::int64_t stride() const { return tiling.columns; }

  /// The logits of a state, [count] rows of `width` that are stride() apart; valid until the next call.
  /// States are asked for in their order.
  const float* logits(std::int64_t state) {
    if (state < first_made_ || state >= first_made_ + made_) {
      first_made_ = state;
      made_ = std::min(tiling.blocks, num_states() - state);
      make(first_made_, made_, buffer, stride());
    }
    return buffer + (state - first_made_) * source_.gemm.block_rows() * stride();
  }

  /// Writes them to out[i · out_stride + n]. There must be memory for a whole block of rows and whole panels
  /// of columns.
  void write(std::int64_t state, float* out, std::int64_t out_stride) {
    if (tiling.blocks == 1) return make(state, 1, out, out_stride);
    const float* made = logits(state);
    for (int i = 0; i < count; ++i) std::copy_n(made + i * stride(), width, out + i * out_stride);
  }

  /// out [count, d] += c [count, width] · w. As for `write`, `out` has whole blocks and panels.
  void add_expected_rows(const float* c, float* out, std::int64_t stride) const {
    source_.gemm.add_expected(c, count, width, coefficients, transposed, out, stride);
  }

 private:
  void make(std::int64_t first_state, std::int64_t num, float* out, std::int64_t out_stride) const {
    const PackedGemm& gemm = source_.gemm;
    const std::int64_t distance = gemm.block_rows() * out_stride;
    const std::uint8_t* blocks = block_of(gemm, source_.rows, begin / gemm.block_rows(), first_state);
    gemm.multiply({.first = blocks, .num_blocks = num, .count = count, .last_count = count}, tiling.depth,
                  panels, width, out, out_stride);
    const at::Tensor& bias = source_.unembedding.bias;
    const float* added = bias.defined() ? bias.const_data_ptr<float>() + first : nullptr;
    for (std::int64_t s = 0; s < num; ++s) {
      for (int i = 0; i < count; ++i)
        finish_logits(source_.statistics, source_.unembedding.transform, added,
                      out + s * distance + i * out_stride, width);
    }
  }

  const Source& source_;
  std::int64_t first_made_ = 0, made_ = 0;  // states whose logits are in the buffer
};

}  // namespace depthlens::compute
