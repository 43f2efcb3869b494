// A tile of the vocabulary at a block of neighbouring positions, as reducers read it on the processor.
#pragma once

#include <algorithm>
#include <cstdint>

#include "compute/cpu/packed_gemm.hpp"
#include "compute/cpu/row_statistics.hpp"
#include "depthlens/compute/vocabulary_pass.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::compute {

/// Of a state, among the packed blocks.
inline std::int64_t place_of(const StateRows& rows, std::int64_t block, std::int64_t state) {
  return block * rows.packed_states + rows.first_state + state;
}

/// The packed block with index `block` of a state.
inline const std::uint8_t* block_of(const PackedGemm& gemm, const StateRows& rows, std::int64_t block,
                                    std::int64_t state) {
  return rows.blocks.const_data_ptr<std::uint8_t>() + place_of(rows, block, state) * gemm.block_bytes();
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
    PackedGemm::Tiling tiling;
    std::int64_t stride;  ///< of logits, in whole panels
  };
  /// For as many blocks as are multiplied at once: a buffer [blocks, block_rows, stride] for logits and,
  /// where a reducer wants expected rows, one for packed coefficients.
  struct Buffers {
    float* logits = nullptr;
    std::uint8_t* coefficients = nullptr;
  };
  HostTile(const Source& source, const Buffers& buffers) : source_(source), buffers_(buffers) {}

  /// Moves to other tokens, and to the first of the positions [first_position, end_position), which begin
  /// with a block. Packed weights [width]; the transposed ones are for expected rows.
  void enter(std::int64_t first_token, std::int64_t num_tokens, std::int64_t first_position,
             std::int64_t end_position, const std::uint8_t* panels,
             const std::uint8_t* transposed = nullptr) {
    first = first_token;
    width = static_cast<int>(num_tokens);
    end_position_ = end_position;
    panels_ = panels;
    transposed_ = transposed;
    made_ = 0;
    place(first_position);
  }
  /// Moves to the block of positions from `position` on.
  void place(std::int64_t position) {
    begin = position;
    count = static_cast<int>(std::min(source_.gemm.block_rows(), end_position_ - position));
  }

  const RowStatistics& statistics() const { return source_.statistics; }
  std::int64_t num_states() const { return source_.rows.num_states; }
  std::int64_t stride() const { return source_.stride; }

  /// The logits of a state, [count] rows of `width` that are stride() apart; valid until the next call.
  /// States are asked for in their order, and positions in theirs.
  const float* logits(std::int64_t state) {
    const std::int64_t place = place_of(source_.rows, block(), state);
    if (place < first_made_ || place >= first_made_ + made_) {
      first_made_ = place;
      made_ = std::min(source_.tiling.blocks, following(state));
      make(state, made_, buffers_.logits, stride());
    }
    return buffers_.logits + (place - first_made_) * source_.gemm.block_rows() * stride();
  }

  /// Writes them to out[i · out_stride + n]. There must be memory for a whole block of rows and whole panels
  /// of columns.
  void write(std::int64_t state, float* out, std::int64_t out_stride) {
    if (source_.tiling.blocks == 1) return make(state, 1, out, out_stride);
    const float* made = logits(state);
    for (int i = 0; i < count; ++i) std::copy_n(made + i * stride(), width, out + i * out_stride);
  }

  /// out [count, d] += c [count, width] · w, at the latest by finish_expected_rows(). As for `write`, `out`
  /// has whole blocks and panels; those of positions that follow each other do, too.
  void add_expected_rows(const float* c, float* out, std::int64_t stride) {
    const PackedGemm& gemm = source_.gemm;
    if (expected_.num_blocks == 0) expected_out_ = out;
    gemm.pack_coefficients(c, count, width,
                           buffers_.coefficients + expected_.num_blocks * gemm.coefficients_bytes(width));
    expected_.first = buffers_.coefficients;
    expected_.count = gemm.block_rows();
    expected_.last_count = count;
    expected_stride_ = stride;
    if (++expected_.num_blocks == source_.tiling.blocks) finish_expected_rows();
  }
  void finish_expected_rows() {
    if (expected_.num_blocks == 0) return;
    // Logits that were made have been read by now.
    source_.gemm.add_expected(expected_, width, transposed_, source_.tiling, buffers_.logits, expected_out_,
                              expected_stride_);
    expected_.num_blocks = made_ = 0;
  }

 private:
  std::int64_t block() const { return begin / source_.gemm.block_rows(); }
  /// How many packed blocks from that of the state on are asked for one after the other.
  std::int64_t following(std::int64_t state) const {
    const StateRows& rows = source_.rows;
    return rows.packed_states == 1 ? util::ceil_div(end_position_ - begin, source_.gemm.block_rows())
                                   : rows.num_states - state;
  }

  void make(std::int64_t first_state, std::int64_t num, float* out, std::int64_t out_stride) const {
    const PackedGemm& gemm = source_.gemm;
    const std::int64_t columns = source_.tiling.columns, distance = gemm.block_rows() * out_stride;
    // Several are blocks of positions, or states of the same one.
    const std::int64_t last_count =
        source_.rows.packed_states > 1
            ? count
            : std::min(gemm.block_rows(), end_position_ - begin - (num - 1) * gemm.block_rows());
    const PackedGemm::Blocks blocks = {.first = block_of(gemm, source_.rows, block(), first_state),
                                       .num_blocks = num,
                                       .count = count,
                                       .last_count = last_count};
    for (std::int64_t n = 0; n < width; n += columns)
      gemm.multiply(blocks, source_.tiling.depth, panels_ + gemm.columns_bytes(n),
                    std::min(columns, width - n), out + n, out_stride);
    const at::Tensor& bias = source_.unembedding.bias;
    const float* added = bias.defined() ? bias.const_data_ptr<float>() + first : nullptr;
    for (std::int64_t b = 0; b < num; ++b) {
      for (std::int64_t i = 0; i < (b + 1 < num ? count : last_count); ++i)
        finish_logits(source_.statistics, source_.unembedding.transform, added,
                      out + b * distance + i * out_stride, width);
    }
  }

  const Source& source_;
  Buffers buffers_;
  std::int64_t end_position_ = 0;
  const std::uint8_t *panels_ = nullptr, *transposed_ = nullptr;
  std::int64_t first_made_ = 0, made_ = 0;  // packed blocks whose logits are in the buffer
  PackedGemm::Blocks expected_ = {};        // packed coefficients that are not multiplied yet, and where to
  float* expected_out_ = nullptr;
  std::int64_t expected_stride_ = 0;
};

}  // namespace depthlens::compute
