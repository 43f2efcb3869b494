// Runs a CUDA kernel on the processor, so that its logic can be tested where there is no card: the threads of
// a block take turns, each until it waits for others, one block after the other. Only what our kernels use of
// CUDA; a kernel's source is included after this file. Says nothing of speed, or of the card's own
// arithmetic.
// With DEPTHLENS_REAL_THREADS a block's threads run at once, so that a sanitizer sees where they do not wait
// for each other.
#pragma once

#ifdef DEPTHLENS_REAL_THREADS
#include <barrier>
#include <thread>
#else
#include <ucontext.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct float4 {
  float x, y, z, w;
};
struct uint2 {
  unsigned x, y;
};
inline uint2 make_uint2(unsigned x, unsigned y) {
  return {x, y};
}
struct CudaIndex {
  unsigned x = 0, y = 0, z = 0;
};
#ifdef DEPTHLENS_REAL_THREADS
inline thread_local CudaIndex threadIdx, blockIdx, blockDim;
#else
inline CudaIndex threadIdx, blockIdx, blockDim;
#endif

namespace depthlens::test {

#ifdef DEPTHLENS_REAL_THREADS

class CudaBlock {
 public:
  CudaBlock(unsigned num_threads, std::function<void()> kernel)
      : exchanged(num_threads), kernel_(std::move(kernel)), all_(num_threads) {
    for (unsigned warp = 0; warp < num_threads / 32; ++warp)
      warps_.push_back(std::make_unique<std::barrier<>>(32));
  }

  void run() {
    running = this;
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < exchanged.size(); ++t) {
      threads.emplace_back([this, t, block = blockIdx] {
        threadIdx.x = t;
        blockIdx = block;
        blockDim.x = static_cast<unsigned>(exchanged.size());
        kernel_();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  void wait_for_all() { all_.arrive_and_wait(); }
  void wait_for_warp() { warps_[threadIdx.x / 32]->arrive_and_wait(); }

  static inline CudaBlock* running = nullptr;
  std::vector<double> exchanged;

 private:
  std::function<void()> kernel_;
  std::barrier<> all_;
  std::vector<std::unique_ptr<std::barrier<>>> warps_;
};

#else

class CudaBlock {
 public:
  CudaBlock(unsigned num_threads, std::function<void()> kernel)
      : kernel_(std::move(kernel)), threads_(num_threads), warps_(num_threads / 32), exchanged(num_threads) {
    for (Thread& thread : threads_) thread.stack = std::make_unique<char[]>(kStack);
  }

  void run() {
    running = this;
    blockDim.x = static_cast<unsigned>(threads_.size());
    for (Thread& thread : threads_) {
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = thread.stack.get();
      thread.context.uc_stack.ss_size = kStack;
      thread.context.uc_link = &turns_;
      thread.done = false;
      makecontext(&thread.context, &CudaBlock::start, 0);
    }
    for (bool all_done = false; !all_done;) {
      all_done = true;
      for (unsigned t = 0; t < threads_.size(); ++t) {
        if (threads_[t].done) continue;
        all_done = false;
        threadIdx.x = t;
        swapcontext(&turns_, &threads_[t].context);
      }
    }
  }

  void wait_for_all() { wait(all_, static_cast<unsigned>(threads_.size())); }
  void wait_for_warp() { wait(warps_[threadIdx.x / 32], 32); }

  static inline CudaBlock* running = nullptr;

 private:
  static constexpr std::size_t kStack = 256 << 10;
  struct Thread {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done = true;
  };
  struct Barrier {
    unsigned arrived = 0, passed = 0;
  };

  static void start() {
    running->kernel_();
    running->threads_[threadIdx.x].done = true;
  }
  void wait(Barrier& barrier, unsigned members) {
    const unsigned before = barrier.passed;
    if (++barrier.arrived == members) {
      barrier.arrived = 0;
      ++barrier.passed;
      return;
    }
    while (barrier.passed == before) swapcontext(&threads_[threadIdx.x].context, &turns_);
  }

  std::function<void()> kernel_;
  ucontext_t turns_;
  std::vector<Thread> threads_;
  Barrier all_;
  std::vector<Barrier> warps_;

 public:
  std::vector<double> exchanged;
};

#endif

/// Calls the kernel as a launch of blocks_x × blocks_y blocks does; `num_threads` is a multiple of 32.
inline void launch_on_processor(unsigned blocks_x, unsigned blocks_y, unsigned num_threads,
                                const std::function<void()>& kernel) {
  CudaBlock block(num_threads, kernel);
  for (blockIdx.y = 0; blockIdx.y < blocks_y; ++blockIdx.y) {
    for (blockIdx.x = 0; blockIdx.x < blocks_x; ++blockIdx.x) block.run();
  }
}

}  // namespace depthlens::test

inline void __syncthreads() {
  depthlens::test::CudaBlock::running->wait_for_all();
}
template <typename T>
T __shfl_xor_sync(unsigned /*mask*/, T value, int distance) {
  depthlens::test::CudaBlock& block = *depthlens::test::CudaBlock::running;
  block.exchanged[threadIdx.x] = static_cast<double>(value);
  block.wait_for_warp();
  const T other = static_cast<T>(block.exchanged[threadIdx.x ^ static_cast<unsigned>(distance)]);
  block.wait_for_warp();
  return other;
}
inline unsigned __ballot_sync(unsigned /*mask*/, bool is_in) {
  depthlens::test::CudaBlock& block = *depthlens::test::CudaBlock::running;
  block.exchanged[threadIdx.x] = is_in ? 1 : 0;
  block.wait_for_warp();
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    lanes |= block.exchanged[threadIdx.x / 32 * 32 + lane] != 0 ? 1U << lane : 0;
  block.wait_for_warp();
  return lanes;
}
inline void __syncwarp() {
  depthlens::test::CudaBlock::running->wait_for_warp();
}
inline int __popc(unsigned bits) {
  return __builtin_popcount(bits);
}
inline int __ffs(int bits) {
  return __builtin_ffs(bits);
}
inline int __reduce_add_sync(unsigned mask, int value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(mask, value, distance);
  return value;
}
using std::max;
using std::min;
