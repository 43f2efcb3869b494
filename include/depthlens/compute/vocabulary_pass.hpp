// One walk along the unembedding: logits of packed rows, tile by tile, each handed to what reduces it.
// Nothing of the size of the vocabulary is kept unless a reducer keeps it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/logit_transform.hpp"
#include "depthlens/text/token.hpp"

namespace depthlens::compute {

class DeviceStatistics;
class Reducer;
struct DeviceChunk;
struct RowStatistics;
using text::kNoToken;
using text::TokenId;

/// What makes logits of states after the final norm.
struct Unembedding {
  at::Tensor weight;  ///< [V, d]
  at::Tensor bias;    ///< [V], or undefined
  LogitTransform transform = {};
  std::int64_t vocab_size() const { return weight.size(0); }
};

/// S states at each of P positions, in the form in which a pass multiplies them; row s · P + p.
struct StateRows {
  at::Tensor values;  ///< [S · P, d]
  at::Tensor blocks;  ///< packed, or undefined
  std::int64_t num_states = 0, num_positions = 0;
  std::int64_t first_state = 0, packed_states = 0;  ///< which of those in `blocks` these are

  /// Of all states of rows [S · P, d].
  static StateRows of(const at::Tensor& values, const at::Tensor& blocks, std::int64_t num_states);
  std::int64_t num_rows() const { return num_states * num_positions; }
  /// Some of the states, sharing the memory.
  StateRows states(std::int64_t first, std::int64_t count) const;
};

class VocabularyPass {
 public:
  virtual ~VocabularyPass() = default;
  VocabularyPass(const VocabularyPass&) = delete;
  VocabularyPass& operator=(const VocabularyPass&) = delete;

  const Unembedding& unembedding() const { return unembedding_; }
  std::int64_t vocab_size() const { return unembedding_.vocab_size(); }
  virtual std::string kernel_name() const = 0;
  /// The type in which it multiplies rows of float32: "float32" or "bfloat16".
  virtual std::string products() const = 0;

  /// Rows [S · P, d] on the device of the unembedding.
  virtual StateRows pack(const at::Tensor& rows, std::int64_t num_states) const = 0;
  virtual void run(const StateRows& rows, Reducer& reducer) const = 0;
  /// The logits of W tokens of each position, [S, P, W] in the rows' type, from products as in `run`: on
  /// processors the same bits. `tokens`: [P, W]; of a negative one any logit.
  virtual at::Tensor gather(const StateRows& rows, const std::vector<TokenId>& tokens) const = 0;

  /// Bytes that a walk along the vocabulary takes for such rows, packed rows included.
  virtual std::uint64_t working_memory(std::int64_t num_states, std::int64_t num_positions) const = 0;
  /// What one row of kept logits takes, in float32s.
  virtual std::int64_t logit_stride() const = 0;
  /// The loops over rows of tiles on the processor; nullptr where tiles are tensors of a device.
  virtual const RowStatistics* row_statistics() const = 0;
  /// This device's own form of the statistics of a chunk (compute/reducers/device_statistics.hpp); nullptr:
  /// that of libtorch's operations serves.
  virtual std::unique_ptr<DeviceStatistics> device_statistics(const DeviceChunk& chunk) const;

 protected:
  explicit VocabularyPass(Unembedding unembedding) : unembedding_(std::move(unembedding)) {}

 private:
  Unembedding unembedding_;
};

}  // namespace depthlens::compute
