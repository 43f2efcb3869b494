// What the programs that hold a kernel against float64 on a card share; for nvcc.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace depthlens::bench {

inline void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::printf("CUDA: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

/// Memory of the card, given back at the end.
class CardMemory {
 public:
  CardMemory() = default;
  ~CardMemory() {
    for (void* place : places_) check(cudaFree(place));
  }
  CardMemory(const CardMemory&) = delete;
  CardMemory& operator=(const CardMemory&) = delete;

  template <typename T>
  T* reserve(std::size_t count) {
    places_.push_back(nullptr);
    check(cudaMalloc(&places_.back(), std::max<std::size_t>(count * sizeof(T), 16)));
    return static_cast<T*>(places_.back());
  }

 private:
  std::vector<void*> places_;
};

/// Sums of two even numbers, spread like logits.
static __global__ void fill(float* place, long long count, unsigned seed) {
  for (long long i = blockIdx.x * 256LL + threadIdx.x; i < count; i += 256LL * gridDim.x) {
    unsigned h = static_cast<unsigned>(i) * 2654435761U + seed;
    h ^= h >> 16;
    h *= 0x85ebca6bU;
    h ^= h >> 13;
    h *= 0xc2b2ae35U;
    h ^= h >> 16;
    place[i] = (static_cast<float>(h & 0xffff) + static_cast<float>(h >> 16) - 65536.0F) * (3.0F / 32768);
  }
}

}  // namespace depthlens::bench
