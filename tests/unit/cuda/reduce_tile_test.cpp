// The reduction kernel for cards, run on the processor, against float64: the layout of threads,
// merging, ranks, best tokens and groups. What only a card can show is checked by bench/reduce_tile.cu.
#include "support/cuda_on_processor.hpp"

// The kernel converts as CUDA code does.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include "compute/cuda/reduce_tile.cu"
#pragma GCC diagnostic pop

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "support/catch.hpp"
#include "support/reduce_case.hpp"

namespace depthlens {
namespace {

class Processor {
 public:
  template <typename T>
  T* copy(const std::vector<T>& values) {
    const std::size_t bytes = (values.size() * sizeof(T) / 16 + 1) * 16;
    memory_.emplace_back(::operator new (bytes, std::align_val_t{16}));
    T* const place = static_cast<T*>(memory_.back().get());
    std::copy(values.begin(), values.end(), place);
    return place;
  }
  template <typename T>
  void fetch(const T* place, std::vector<T>& values) {
    std::copy(place, place + values.size(), values.begin());
  }
  void launch(const compute::cuda::TileWork& work) {
    using namespace compute::cuda;
    const auto rows = static_cast<unsigned>(work.num_states * work.num_positions);
    if (work.first == 0)
      test::launch_on_processor((rows + 31) / 32, 1, 32, [&] { depthlens_begin_rows(work); });
    const auto P = static_cast<unsigned>(work.num_positions), S = static_cast<unsigned>(work.num_states);
    test::launch_on_processor(P, (S + kStates - 1) / kStates, kThreads, [&] { depthlens_reduce_tile(work); });
  }
  void make_logits(const compute::cuda::TileWork& work, int rows, std::vector<float>& z) {
    for (int r = 0; r < rows; ++r) {
      for (int v = 0; v < work.width; ++v)
        z[static_cast<std::size_t>(r * work.stride + v)] =
            compute::cuda::logit_at(work, work.products + r * work.stride, v);
    }
  }

 private:
  struct Free {
    void operator()(void* place) const { ::operator delete (place, std::align_val_t{16}); }
  };
  std::vector<std::unique_ptr<void, Free>> memory_;
};

void check(const test::ReduceCase& shape, unsigned seed) {
  Processor device;
  const test::ReduceErrors errors = test::ReduceTrial<Processor>(device, shape, seed).run();
  CHECK(errors.wrong_best == 0);
  CHECK(errors.wrong_counts == 0);
  CHECK(errors.wrong_logits == 0);
  CHECK(errors.logits < 5e-7);
  CHECK(errors.log_sum_exp < 2e-7);
  CHECK(errors.entropy < 2e-6);
  CHECK(errors.kl_final < 2e-6);
  CHECK(errors.kl_reverse < 2e-6);
  CHECK(errors.mass < 2e-7);
}

TEST_CASE("the reduction kernel makes the sums, ranks and best tokens that float64 makes", "[cuda-kernels]") {
  check({.num_states = 3,
         .num_positions = 2,
         .vocab_size = 1502,
         .tile = 600,
         .num_best = 10,
         .num_groups = 3,
         .spread = 2},
        1);
  check({.num_states = 5,
         .num_positions = 1,
         .vocab_size = 2999,
         .tile = 1024,
         .num_best = 32,
         .num_groups = 4,
         .spread = 5},
        2);
  check({.num_states = 4,
         .num_positions = 1,
         .vocab_size = 1100,
         .tile = 256,
         .num_best = 1,
         .num_groups = 0,
         .spread = 20},
        3);
}

TEST_CASE("the reduction kernel takes the final layer by itself", "[cuda-kernels]") {
  check({.num_states = 1,
         .num_positions = 3,
         .vocab_size = 2503,
         .tile = 2503,
         .num_best = 10,
         .num_groups = 2,
         .spread = 3,
         .beside_final = false},
        8);
}

TEST_CASE("a vocabulary of fewer tokens than are wanted gives all of them in order", "[cuda-kernels]") {
  check({.num_states = 2,
         .num_positions = 2,
         .vocab_size = 9,
         .tile = 4,
         .num_best = 12,
         .num_groups = 1,
         .spread = 3},
        4);
}

TEST_CASE("equal logits are put in the order of their ids, however many there are", "[cuda-kernels]") {
  // Some, more than a list has room for, and nothing else.
  check({.num_states = 2,
         .num_positions = 1,
         .vocab_size = 2100,
         .tile = 1052,
         .num_best = 5,
         .num_groups = 2,
         .spread = 1,
         .levels = 50},
        5);
  check({.num_states = 2,
         .num_positions = 1,
         .vocab_size = 2100,
         .tile = 1052,
         .num_best = 10,
         .num_groups = 2,
         .spread = 1,
         .levels = 2},
        6);
  check({.num_states = 1,
         .num_positions = 1,
         .vocab_size = 1300,
         .tile = 700,
         .num_best = 32,
         .num_groups = 0,
         .spread = 0.001F,
         .levels = 0.1F},
        7);
}

}  // namespace
}  // namespace depthlens
