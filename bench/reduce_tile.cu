// Holds the reduction kernel against float64 on a card, and times it:
//
//   nvcc -std=c++17 -O3 -arch=native -I src -I tests -o reduce_tile bench/reduce_tile.cu && ./reduce_tile
//   [check]
//
// -DDEPTHLENS_BIAS=1, -DDEPTHLENS_TRANSFORM=2 and the like make other forms of it. With `check` no times are
// taken (for compute-sanitizer). A launch over a tile is timed as the decoder makes it: 16 tiles of fresh
// columns in a row, either all in one buffer, which the cache may hold, or in buffers beyond its size; the
// final layer's logits are those of the whole vocabulary. "TB/s" counts the tile's own four bytes a logit.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "compute/cuda/reduce_tile.cu"
#include "on_card.hpp"
#include "support/reduce_case.hpp"

namespace {

using namespace depthlens::compute::cuda;
using depthlens::bench::check;
using depthlens::bench::fill;
using depthlens::test::ReduceCase;
using depthlens::test::ReduceErrors;

/// The logits of a row, a block a row.
__global__ void write_logits(const TileWork work, float* z) {
  const long long place = blockIdx.x * work.stride;
  for (int v = threadIdx.x; v < work.width; v += blockDim.x)
    z[place + v] = logit_at(work, work.products + place, v);
}

class Card {
 public:
  template <typename T>
  T* copy(const std::vector<T>& values) {
    T* const place = memory.reserve<T>(values.size());
    check(cudaMemcpy(place, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    return place;
  }
  template <typename T>
  void fetch(const T* place, std::vector<T>& values) {
    check(cudaMemcpy(values.data(), place, values.size() * sizeof(T), cudaMemcpyDeviceToHost));
  }
  void make_logits(const TileWork& work, int rows, std::vector<float>& z) {
    float* const place = memory.reserve<float>(z.size());
    write_logits<<<rows, 256>>>(work, place);
    check(cudaGetLastError());
    fetch(place, z);
  }
  void launch(const TileWork& work) {
    const int rows = work.num_states * work.num_positions;
    if (work.first == 0) depthlens_begin_rows<<<(rows + 255) / 256, 256>>>(work);
    const dim3 grid(work.num_positions, (work.num_states + kStates - 1) / kStates);
    depthlens_reduce_tile<<<grid, kThreads>>>(work);
    check(cudaGetLastError());
  }

  depthlens::bench::CardMemory memory;
};

bool holds(const ReduceCase& shape, unsigned seed) {
  Card card;
  const ReduceErrors e = depthlens::test::ReduceTrial<Card>(card, shape, seed).run();
  const bool good = e.wrong_best + e.wrong_counts + e.wrong_logits == 0 && e.logits < 1e-6 &&
                    e.log_sum_exp < 1e-6 && e.entropy < 5e-6 && e.kl_final < 5e-6 && e.kl_reverse < 5e-6 &&
                    e.mass < 1e-6;
  std::printf(
      "%s S %d P %d V %d tile %d K %d groups %d spread %g levels %g: logits %.1e log-sum-exp %.1e entropy "
      "%.1e KL %.1e %.1e mass %.1e; wrong lists %d, counts %d, logits %d\n",
      good ? "ok " : "BAD", shape.num_states, shape.num_positions, shape.vocab_size, shape.tile,
      shape.num_best, shape.num_groups, shape.spread, shape.levels, e.logits, e.log_sum_exp, e.entropy,
      e.kl_final, e.kl_reverse, e.mass, e.wrong_best, e.wrong_counts, e.wrong_logits);
  return good;
}

void time_tiles(int S, int P, int tile, bool one_buffer) {
  constexpr int kTiles = 16, kBest = 10, kGroups = 3, kRounds = 12;
  const long long R = 1LL * S * P, V = 1LL * kTiles * tile, bytes = 4 * R * tile;
  const int num_buffers = one_buffer ? 1 : static_cast<int>(std::max(2LL, (512LL << 20) / bytes + 1));
  Card card;
  float* const z = card.memory.reserve<float>(static_cast<std::size_t>(num_buffers * R * tile));
  float* const final_z = card.memory.reserve<float>(static_cast<std::size_t>(P * V));
  fill<<<1024, 256>>>(z, num_buffers * R * tile, 1);
  fill<<<1024, 256>>>(final_z, P * V, 2);
  // Tokens of 16 tiles in groups of 10, 90 and 900, about.
  std::vector<int> begin, tokens;
  for (int t = 0; t < kTiles; ++t) {
    for (int g = 0; g <= kGroups; ++g) {
      begin.push_back(static_cast<int>(tokens.size()));
      const int count = g == 0 ? 1 : g == 1 ? 6 : g == 2 ? 56 : 0;
      for (int i = 0; i < count; ++i) tokens.push_back(t * tile + (i * 97 + g) % tile);
    }
  }
  const auto rows = static_cast<std::size_t>(R);
  TileWork work{};
  work.num_states = S;
  work.num_positions = P;
  work.stride = tile;
  work.final_stride = V;
  work.bias = card.copy(std::vector<float>(static_cast<std::size_t>(V), 0.25F));
  work.scale = 1 / 30.0F;
  work.cap = 30;
  work.final_max = card.copy(std::vector<float>(P, 6.0F));
  work.states = card.copy(std::vector<RowState>(rows));
  work.best_logits = card.copy(std::vector<float>(rows * kBest, 0));
  work.best_ids = card.copy(std::vector<int>(rows * kBest, 0));
  work.num_found = card.copy(std::vector<int>(rows, 0));
  work.watched = card.copy(std::vector<int>(P * kWatched, 5));
  work.watched_logits = card.copy(std::vector<float>(rows * kWatched, 1.5F));
  work.num_greater = card.copy(std::vector<int>(rows * kWatched, 0));
  work.group_mass = card.copy(std::vector<double>(rows * kGroups, 0));
  work.group_tokens = card.copy(tokens);
  const int* const group_begin = card.copy(begin);
  cudaEvent_t from, to;
  check(cudaEventCreate(&from));
  check(cudaEventCreate(&to));
  std::printf("S %2d P %4d tile %5d, %6.1f MiB, %s:", S, P, tile, bytes / double(1 << 20),
              one_buffer ? "one buffer  " : "many buffers");
  const char* const names[] = {"all", "no best", "no best, no groups"};
  for (int variant = 0; variant < 3; ++variant) {
    work.num_best = variant == 0 ? kBest : 0;
    work.num_groups = variant < 2 ? kGroups : 0;
    std::vector<float> times;
    for (int round = 0; round < kRounds; ++round) {
      check(cudaEventRecord(from));
      for (int t = 0; t < kTiles; ++t) {
        work.first = t * tile;
        work.width = tile;
        work.products = z + t % num_buffers * R * tile;
        work.final_logits = final_z + work.first;
        work.group_begin = group_begin + t * (kGroups + 1);
        card.launch(work);
      }
      check(cudaEventRecord(to));
      check(cudaEventSynchronize(to));
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, from, to));
      if (round > 1) times.push_back(milliseconds);
    }
    std::sort(times.begin(), times.end());
    const double seconds = times[times.size() / 2] * 1e-3, logits = static_cast<double>(R * V);
    std::printf("  %s %.2f ps a logit, %.2f TB/s;", names[variant], seconds / logits * 1e12,
                4e-12 * logits / seconds);
  }
  std::printf("\n");
  check(cudaEventDestroy(from));
  check(cudaEventDestroy(to));
}

}  // namespace

int main(int argc, char** argv) {
  const bool only_check = argc > 1 && std::strcmp(argv[1], "check") == 0;
  const ReduceCase cases[] = {{13, 7, 50277, 8192, 10, 4, 2, 0},   {33, 3, 128256, 32768, 32, 4, 4, 0},
                              {12, 20, 20001, 2048, 10, 3, 1, 0},  {5, 4, 10007, 4096, 10, 2, 1, 50},
                              {4, 3, 10007, 4096, 10, 2, 1, 0.1F}, {6, 5, 9, 4, 12, 1, 3, 0},
                              {1, 1, 100000, 16384, 1, 0, 8, 0},   {1, 9, 50277, 50277, 10, 4, 2, 0, false},
                              {7, 2, 3001, 512, 32, 3, 20, 0}};
  bool good = true;
  unsigned seed = 1;
  for (const ReduceCase& shape : cases) good = holds(shape, seed++) && good;
  std::printf(good ? "all right\n" : "NOT right\n");
  if (!good || only_check) return good ? 0 : 1;
  std::printf("%d states a block, %d watched tokens, %s bias, transform %d\n", kStates, kWatched,
              DEPTHLENS_BIAS ? "a" : "no", DEPTHLENS_TRANSFORM);
  for (const bool one_buffer : {true, false}) {
    for (const int tile : {2048, 4096, 8192}) time_tiles(32, 32, tile, one_buffer);
    time_tiles(32, 8, 8192, one_buffer);
    time_tiles(12, 64, 8192, one_buffer);
    time_tiles(12, 256, 4096, one_buffer);
  }
  time_tiles(32, 128, 8192, false);
  time_tiles(32, 64, 32768, false);
  time_tiles(12, 683, 8192, false);
  return 0;
}
