// What all passes over the vocabulary share.
#include "depthlens/compute/vocabulary_pass.hpp"

#include "compute/reducers/device_statistics.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::compute {

StateRows StateRows::of(const at::Tensor& values, const at::Tensor& blocks, std::int64_t num_states) {
  DEPTHLENS_ASSERT(num_states >= 1 && values.size(0) % num_states == 0);
  return {.values = values,
          .blocks = blocks,
          .num_states = num_states,
          .num_positions = values.size(0) / num_states,
          .first_state = 0,
          .packed_states = num_states};
}

StateRows StateRows::states(std::int64_t first, std::int64_t count) const {
  DEPTHLENS_ASSERT(first >= 0 && count >= 0 && first + count <= num_states);
  StateRows some = *this;
  some.values = values.narrow(0, first * num_positions, count * num_positions);
  some.num_states = count;
  some.first_state = first_state + first;
  return some;
}

std::unique_ptr<DeviceStatistics> VocabularyPass::device_statistics(const DeviceChunk& /*chunk*/) const {
  return nullptr;
}

}  // namespace depthlens::compute
