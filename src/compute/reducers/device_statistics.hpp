// The statistics of a chunk by what a pass has for its device that is better than libtorch's operations.
#pragma once

#include "compute/reducers/statistics_reducer.hpp"

namespace depthlens::compute {

struct DeviceChunk : StatisticsChunk {};

/// The device may still be at work after the last tile: `finished` waits for it, on any thread, and needs
/// nothing of the chunk but the groups.
class DeviceStatistics : public StatisticsReducer {
 public:
  /// No tile comes any more: lets go of what only they need.
  virtual void end() = 0;
};

}  // namespace depthlens::compute
