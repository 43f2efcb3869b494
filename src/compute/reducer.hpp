// What a pass over the vocabulary hands its tiles to. A reducer is one file of reducers/: how it reads a tile
// on the processor, and how on any other device.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "depthlens/compute/vocabulary_pass.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::compute {

class HostTile;

/// How work on the processor is dealt out.
enum class Split {
  kVocabulary,  ///< each slice of the vocabulary is one thread's, which takes all rows in order
  kBoth,        ///< each slice of the vocabulary at a group of positions is one thread's
  kRows         ///< each group of positions is one thread's, which takes the whole vocabulary in order
};

/// Of a pass on the processor.
struct PassLayout {
  std::int64_t num_slices;     ///< of the vocabulary; 1 where it is not split
  std::int64_t max_width;      ///< tokens of a tile
  std::int64_t block_rows;     ///< positions of a tile
  std::int64_t panel_columns;  ///< products write multiples of so many columns
  std::int64_t num_positions;  ///< P
};

/// What is kept on a device of a softmax over each row while tiles go by. With m the greatest logit so far,
/// the first token that has it, Σ e^(z − m), and of the first G rows Σ e^(z − m) w, where each token has the
/// slope of the model's transform and its own scale as factors.
struct SoftmaxRows {
  at::Tensor m;            ///< [S · P] in the logits' type; −∞ before the first tile
  at::Tensor top;          ///< [S · P] int64
  at::Tensor sum;          ///< [S · P] float64; 0 before the first tile
  at::Tensor expected;     ///< [G, d] in the logits' type; 0 before the first tile
  at::Tensor token_scale;  ///< [V] float32; undefined: 1
};

/// What the products of all rows with neighbouring tokens become, on any device.
class DeviceTile {
 public:
  /// Makes logits of products where they lie: their bias and the transform.
  using Finish = std::function<void(at::Tensor& products)>;

  /// Of logits [S · P, width] in the rows' type; with `finish` of products, of which it makes them.
  DeviceTile(at::Tensor values, std::int64_t first_token, Finish finish = nullptr)
      : first(first_token), values_(std::move(values)), finish_(std::move(finish)) {}
  DeviceTile(const DeviceTile&) = delete;
  DeviceTile& operator=(const DeviceTile&) = delete;

  /// [S · P, width]; the reducer may change them. The first call makes them, which ends the products.
  const at::Tensor& logits() {
    if (finish_) std::exchange(finish_, nullptr)(values_);
    return values_;
  }
  /// [S · P, width]: for those who make logits themselves. Only of a tile that was made of products, and
  /// before its logits are asked for.
  const at::Tensor& products() const {
    DEPTHLENS_ASSERT(finish_ != nullptr);
    return values_;
  }
  std::int64_t num_rows() const { return values_.size(0); }
  std::int64_t width() const { return values_.size(1); }

  const std::int64_t first;  ///< token
  /// Coefficients [G, width] times the tile's part of the unembedding: [G, d]. For those who want expected
  /// rows.
  std::function<at::Tensor(const at::Tensor& coefficients)> times_weights = nullptr;
  /// Brings all of it up to date in one reading of the tile's logits. Undefined, or false with nothing done,
  /// where there is no kernel for it.
  std::function<bool(const SoftmaxRows& rows)> soften = nullptr;

 private:
  at::Tensor values_;
  Finish finish_;  // undefined: these are logits
};

class Reducer {
 public:
  /// A thread's own memory.
  struct Workspace {
    virtual ~Workspace() = default;
  };

  virtual ~Reducer() = default;
  virtual Split split() const { return Split::kVocabulary; }
  /// Tokens of a slice at least. Results may depend on it: it must not depend on what else is in the chunk,
  /// nor on how many positions that is.
  virtual std::int64_t min_slice_tokens() const { return 1; }
  /// Whether tiles must be able to add expected rows of the unembedding; then Split::kRows.
  virtual bool wants_expected_rows() const { return false; }

  virtual void begin(const PassLayout& /*layout*/) {}
  virtual std::unique_ptr<Workspace> make_workspace() const { return nullptr; }
  /// Called on several threads, never at once for the same slice (kVocabulary), the same positions (kRows),
  /// or both (kBoth). A row's tiles of a slice come in the order of tokens, and the positions that a thread
  /// takes of a tile in theirs.
  virtual void add(HostTile& tile, Workspace* workspace) = 0;
  /// Tiles come in the order of tokens.
  virtual void add(DeviceTile& tile) = 0;
};

}  // namespace depthlens::compute
