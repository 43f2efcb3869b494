// What makes the statistics of a chunk, as the decoder of statistics.cpp asks for it: on the processor
// (host_statistics.cpp), by a form of the device's own that the pass may have (DeviceStatistics), or else
// with libtorch's operations (aten_statistics.cpp).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "compute/reducer.hpp"
#include "compute/reducers/kept_logits.hpp"
#include "compute/reducers/row_state.hpp"
#include "depthlens/compute/statistics.hpp"

namespace depthlens::compute {

/// What such a reducer is made from. The groups outlive it, everything else the tiles that it is handed.
struct StatisticsChunk {
  const StatisticsInput& input;
  const TokenGroups& groups;
  const StateRows& rows;           ///< packed, all states
  const KeptLogits& final_logits;  ///< of state 0
  KeptLogits* kept;                ///< where the logits of the other states go too, or nullptr

  std::int64_t S() const { return input.num_states; }
  std::int64_t P() const { return input.num_positions; }
  std::int64_t K() const { return input.top_k; }
  std::int64_t W() const { return input.num_watched; }
  std::int64_t G() const { return groups.count(); }
};

/// Is handed the tiles of all states but the first.
class StatisticsReducer : public Reducer {
 public:
  /// After the last tile. With `watched` filled in; ranks are 1 + the number of greater logits.
  virtual Statistics finished() = 0;
};

/// Tokens of a slice of the vocabulary at least, for each of which a row has sums of its own on the
/// processor.
inline constexpr std::int64_t kSliceTokens = 2048;

std::unique_ptr<StatisticsReducer> make_host_statistics(const VocabularyPass& pass,
                                                        const StatisticsChunk& chunk);
std::unique_ptr<StatisticsReducer> make_aten_statistics(const VocabularyPass& pass,
                                                        const StatisticsChunk& chunk);

}  // namespace depthlens::compute
