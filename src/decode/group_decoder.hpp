// What a group of lenses decodes, chunk by chunk: from residual states to readouts.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "decode/decoded_states.hpp"
#include "decode/self_check.hpp"
#include "depthlens/compute/statistics.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/decode/engine.hpp"
#include "depthlens/decode/listener.hpp"
#include "depthlens/decode/readout.hpp"
#include "depthlens/model/model.hpp"

namespace depthlens::decode {

/// One position of a batch: which query it belongs to, and its row among the batch's tokens.
struct BatchPosition {
  const Query* query;
  const Query::Position* where;
  std::int64_t row;
  bool is_checked = false;  ///< compared with a plain product
};

/// "document 0, window 2, position 17"
std::string place_of(const Query& query, std::int64_t position);

/// The residual states [P, d] of a layer at some positions, on the model's device.
using StateRows = std::function<at::Tensor(std::int64_t layer)>;

/// What a group of lenses decodes at some positions.
struct GroupStates {
  std::vector<at::Tensor> values;  ///< [P, d] of each state, translated by its lens where it has one
  /// Magnitudes of those that are translated, in their order; nullptr: none is.
  std::shared_ptr<const compute::HostCopy> largest;
};

/// A chunk of a group, at which the device may be.
struct BegunChunk {
  const BatchPosition* positions;
  std::int64_t count;
  std::vector<CheckedPosition> checked;
  compute::HostCopy plain;  ///< of each of `checked`, as `plain_statistics` gives it
  std::shared_ptr<const compute::HostCopy> largest;
  compute::PendingStatistics statistics;
};

/// A group of lenses in a run: which states it decodes, in what sizes, and who is shown them.
class GroupDecoder {
 public:
  GroupDecoder(const model::Model& model, const LensGroup& group, const EngineOptions& options);

  const ReadoutShape& shape() const { return shape_; }
  const std::vector<Listener*>& listeners() const { return listeners_; }
  bool wants_sums() const { return wants_sums_; }
  /// Of these: the more tokens they watch, the fewer.
  std::int64_t positions_per_chunk(const BatchPosition* positions, std::int64_t count) const;
  std::int64_t positions_translated() const { return positions_translated_; }
  /// From now on, memory not having sufficed for more.
  void chunk_at_most(std::int64_t positions) { positions_per_chunk_ = positions; }
  void translate_at_most(std::int64_t positions) { positions_translated_ = positions; }

  /// Neither this nor `begin` changes anything where it throws that memory does not suffice.
  GroupStates states(const StateRows& rows_of) const;
  /// Gives the device the work of a chunk of `count` positions, whose states are those of `states` from
  /// `first` on. With `checks` some are compared with a plain product. `memory`: of the chunk before.
  BegunChunk begin(const GroupStates& states, std::int64_t first, const BatchPosition* positions,
                   std::int64_t count, bool checks, compute::LogitMemory& memory);
  /// Waits for the device. `errors` gets one error for each position that is checked.
  LayerReadout read_out(const BegunChunk& chunk, std::vector<double>& errors) const;

  /// Shows the sums of a part to those who want them, and begins anew.
  void end_part(std::int64_t positions);

 private:
  void choose_chunk();
  /// At most so many positions, of which a chunk's working memory is at hand.
  std::int64_t that_fit(std::int64_t positions, std::int64_t num_watched) const;
  /// Rows [S · P, d] after the final norm, of the positions from `first` on.
  at::Tensor normed(const GroupStates& states, std::int64_t first, std::int64_t count) const;

  const model::Model& model_;
  std::vector<Listener*> listeners_;
  std::uint64_t memory_;  // bytes
  std::unique_ptr<compute::VocabularyPass> pass_;
  std::unique_ptr<compute::StatisticsDecoder> decoder_;
  ReadoutShape shape_;
  std::vector<DecodedState> states_;
  std::int64_t positions_per_chunk_ = 0, positions_translated_ = 0;
  bool wants_sums_ = false;
  std::optional<compute::ProbabilitySums> sums_;  // of the part in progress, where they are wanted
};

}  // namespace depthlens::decode
