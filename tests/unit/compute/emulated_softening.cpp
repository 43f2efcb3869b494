// The kernel of the softmax on the processor, by itself: its names are those of a card's code.
#include "support/cuda_on_processor.hpp"

// The kernel converts as CUDA code does.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include "compute/cuda/soften_tile.cu"
#pragma GCC diagnostic pop

#include <cstring>

namespace depthlens::test {

void soften_on_processor(const void* given) {
  using namespace compute::cuda;
  SoftenTileWork work;
  std::memcpy(static_cast<void*>(&work), given, sizeof work);
  launch_on_processor(static_cast<unsigned>(work.num_rows), 1, kSoftenThreads,
                      [&] { depthlens_soften_tile(work); });
}

}  // namespace depthlens::test
