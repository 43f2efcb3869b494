// The reduction kernel on the processor, in the form that CMakeLists.txt defines; by itself, for its names
// are those of a card's code.
#include "support/cuda_on_processor.hpp"

#define DEPTHLENS_WATCHED 4
// The kernel converts as CUDA code does.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include "compute/cuda/reduce_tile.cu"
#pragma GCC diagnostic pop

#include <cstring>

namespace depthlens::test {

template <int states, int bias, int transform>
void reduce_on_processor(const void* work);

template <>
void reduce_on_processor<DEPTHLENS_STATES, DEPTHLENS_BIAS, DEPTHLENS_TRANSFORM>(const void* given) {
  using namespace compute::cuda;
  TileWork work;
  std::memcpy(static_cast<void*>(&work), given, sizeof work);
  launch_on_processor(static_cast<unsigned>(work.num_positions),
                      (static_cast<unsigned>(work.num_states) + kStates - 1) / kStates, kThreads,
                      [&] { depthlens_reduce_tile(work); });
}

}  // namespace depthlens::test
