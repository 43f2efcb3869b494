// The statistics of a chunk on a device, as the decoder of statistics.cpp asks for them. There is one form of
// libtorch's operations, in statistics.cpp; a pass whose device has a better one makes it itself.
#pragma once

#include <ATen/core/Tensor.h>

#include "compute/reducer.hpp"
#include "compute/reducers/kept_logits.hpp"
#include "compute/reducers/row_state.hpp"
#include "depthlens/compute/statistics.hpp"

namespace depthlens::compute {

/// What such a form is made from. The groups outlive it, everything else the tiles that it is handed.
struct DeviceChunk {
  const StatisticsInput& input;
  const TokenGroups& groups;
  const StateRows& rows;           ///< packed, all states
  const KeptLogits& final_logits;  ///< of state 0
  KeptLogits* kept;                ///< where the logits of the other states go too, or nullptr
};

/// Is handed the tiles of all states but the first.
class DeviceStatistics : public Reducer {
 public:
  /// No tile comes any more: lets go of what only they need.
  virtual void end() {}
  /// After the end, on any thread; waits for the device. With `watched` filled in; ranks are 1 + the number
  /// of greater logits.
  virtual Statistics finished() = 0;
};

}  // namespace depthlens::compute
