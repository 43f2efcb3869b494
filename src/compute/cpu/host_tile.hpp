// A tile of the vocabulary at a block of neighbouring positions, as reducers read it on the processor.
#pragma once

#include <cstdint>

#include "compute/cpu/packed_gemm.hpp"
#include "compute/cpu/row_statistics.hpp"
#include "depthlens/compute/vocabulary_pass.hpp"

namespace depthlens::compute {

class HostTile {
 public:
  // Which part of the pass it is.
  std::int64_t slice = 0;
  std::int64_t first = 0;  ///< token
  int width = 0;           ///< tokens
  std::int64_t begin = 0;  ///< position
  int count = 0;           ///< positions

  /// Of the pass.
  struct Source {
    const PackedGemm& gemm;
    const RowStatistics& statistics;
    const Unembedding& unembedding;
    const StateRows& rows;
  };
  explicit HostTile(const Source& source) : source_(source) {}

  // Of the tile: packed weights [width] and, where a reducer wants them, the transposed ones; a buffer for a
  // block's logits, and one for a packed block of coefficients.
  const std::uint8_t* panels = nullptr;
  const std::uint8_t* transposed = nullptr;
  float* buffer = nullptr;
  std::uint8_t* coefficients = nullptr;
  std::int64_t buffer_stride = 0;

  const RowStatistics& statistics() const { return source_.statistics; }
  std::int64_t num_states() const { return source_.rows.num_states; }
  std::int64_t stride() const { return buffer_stride; }

  /// The logits of a state, [count] rows of `width` that are stride() apart; valid until the next call.
  const float* logits(std::int64_t state) {
    write(state, buffer, buffer_stride);
    return buffer;
  }

  /// Writes them to out[i · stride + n]. There must be memory for a whole block of rows and whole panels of
  /// columns.
  void write(std::int64_t state, float* out, std::int64_t stride) const {
    const StateRows& rows = source_.rows;
    const auto* blocks = rows.blocks.const_data_ptr<std::uint8_t>();
    const std::int64_t block = begin / source_.gemm.block_rows();
    source_.gemm.multiply(
        blocks + (block * rows.packed_states + rows.first_state + state) * source_.gemm.block_bytes(), count,
        panels, width, out, stride);
    const at::Tensor& bias = source_.unembedding.bias;
    const LogitTransform& transform = source_.unembedding.transform;
    if (!bias.defined() && transform.is_identity()) return;
    const float* added = bias.defined() ? bias.const_data_ptr<float>() + first : nullptr;
    for (int i = 0; i < count; ++i) {
      source_.statistics.finish_logits(out + i * stride, width, added, static_cast<float>(transform.scale),
                                       static_cast<float>(transform.soft_cap));
    }
  }

  /// out [count, d] += c [count, width] · w. As for `write`, `out` has whole blocks and panels.
  void add_expected_rows(const float* c, float* out, std::int64_t stride) const {
    source_.gemm.add_expected(c, count, width, coefficients, transposed, out, stride);
  }

 private:
  const Source& source_;
};

}  // namespace depthlens::compute
