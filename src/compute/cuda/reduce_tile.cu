// Reads a tile of logits once and brings every row's sums, ranks and best tokens up to date; for any card
// from sm_80 on. Compiled at run time (NVRTC) with the macros below, or by nvcc as a check; no host headers.
//
// A block takes one position and kStates states of it: the final layer's logits and exponentials are read and
// made once for all of them. A thread keeps float32 sums of its own tokens for each state; these are merged
// within warps, over warps, and in float64 into the row's state in global memory. All in one order: results
// are the same bits on every run, whatever else is in the launch.
//
// The best K: a token is a candidate if it is greater than the row's K-th best so far and, where that leaves
// many, not less than the K-th greatest of the threads' own maxima. Candidates and those kept before are put
// in order by counting, which does not depend on the order in which they were found. Where equal logits make
// more candidates than there is room, the best are found one by one.
#include "row_sums.hpp"

#ifndef DEPTHLENS_STATES
#define DEPTHLENS_STATES 4  // states of a block
#endif
#ifndef DEPTHLENS_WATCHED
#define DEPTHLENS_WATCHED 2  // watched tokens of a position
#endif
#ifndef DEPTHLENS_BIAS
#define DEPTHLENS_BIAS 0  // whether logits take a bias
#endif
#ifndef DEPTHLENS_TRANSFORM
#define DEPTHLENS_TRANSFORM 0  // 0: none; 1: scale · z; 2: cap · tanh(scale · z / cap)
#endif

namespace depthlens::compute::cuda {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kStates = DEPTHLENS_STATES, kWatched = DEPTHLENS_WATCHED;
constexpr int kMostBest = 32;     // K
constexpr int kCandidates = 224;  // room for new ones
constexpr int kPool = kMostBest + kCandidates;
static_assert(kPool == kThreads, "a thread for each of the pool");

/// What is kept of a row between tiles.
struct RowState {
  double m, sum, weighted, cross, reverse;
  double final_sum;
};

/// A launch: S states at P positions, row s · P + p, for tokens first … first + width − 1. Rows of logits are
/// aligned to 16 bytes (strides and `first` are multiples of 4), and readable to a multiple of 4.
struct TileWork {
  const float* logits;  // [S · P, stride]
  long long stride;
  int num_states, num_positions, first, width;
  const float* final_logits;  // [P, final_stride], the same tokens; nullptr: these are the final layer's, C
                              // and D stay 0
  long long final_stride;
  const float* final_max;  // [P]
  const float* bias;       // [V], with DEPTHLENS_BIAS; aligned and readable like the logits
  float scale, cap;        // with DEPTHLENS_TRANSFORM
  int num_best;            // K
  int num_groups;
  RowState* states;         // [S · P]
  float* best_logits;       // [S · P, K]
  int* best_ids;            // [S · P, K]
  int* num_found;           // [S · P]
  const int* watched;       // [P, W], negative: none
  float* watched_logits;    // [S · P, W]: compared with; replaced by the tile's own where it has the token
  int* num_greater;         // [S · P, W]
  const int* group_begin;   // [num_groups + 1] places in group_tokens of this tile's tokens
  const int* group_tokens;  // token ids, by tile and group
  double* group_mass;       // [S · P, num_groups], relative to m
};

__device__ inline float transformed([[maybe_unused]] const TileWork& work, float z) {
#if DEPTHLENS_TRANSFORM == 1
  return work.scale * z;
#elif DEPTHLENS_TRANSFORM == 2
  return work.cap * tanhf(work.scale * z / work.cap);
#else
  return z;
#endif
}

/// The logit of the token at `column` of a row of the tile.
__device__ inline float logit_at(const TileWork& work, const float* row, int column) {
  float z = row[column];
#if DEPTHLENS_BIAS
  z += work.bias[work.first + column];
#endif
  return transformed(work, z);
}

/// Four neighbouring logits; those beyond the tile's width are kNoLogit.
struct Four {
  float z[4];
};
__device__ inline Four load_four(const TileWork& work, const float* row, int column) {
  const float4 raw = *reinterpret_cast<const float4*>(row + column);
  Four four = {{raw.x, raw.y, raw.z, raw.w}};
#if DEPTHLENS_BIAS
  const float4 bias = *reinterpret_cast<const float4*>(work.bias + work.first + column);
  four = {{raw.x + bias.x, raw.y + bias.y, raw.z + bias.z, raw.w + bias.w}};
#endif
  for (int i = 0; i < 4; ++i) four.z[i] = transformed(work, four.z[i]);
  if (column + 4 > work.width) {
    for (int i = 0; i < 4; ++i) {
      if (column + i >= work.width) four.z[i] = kNoLogit;
    }
  }
  return four;
}

/// Σ over a warp, in every lane.
__device__ inline int warp_sum(int value) {
  return __reduce_add_sync(~0U, value);
}
__device__ inline float warp_sum(float value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(~0U, value, distance);
  return value;
}

/// Of one warp, for every state.
struct WarpPart {
  RowSums<float> sums[kStates];
  float final_sum;
  int greater[kStates][kWatched];
};

struct Pool {
  float logits[kPool];
  int ids[kPool];
  int count;
  float bar;
};

struct Shared {
  WarpPart parts[kWarps];
  float thread_max[kStates][kThreads];
  Pool pool;
  float m[kStates];      // the rows' new references
  float shift[kStates];  // from those before to the new ones
  float warp_z[kWarps];  // for ties in numbers
  int warp_id[kWarps];
  float best_z;
  int best_id;
};

/// The next token after (z, id) in the order of the best, among the tile's: all threads call it. For ties in
/// numbers.
__device__ inline void find_next(const TileWork& work, const float* row, float bar, float last_z, int last_id,
                                 Shared& shared) {
  float z = kNoLogit;
  int id = -1;
  for (int column = threadIdx.x; column < work.width; column += kThreads) {
    const float own = logit_at(work, row, column);
    const int own_id = work.first + column;
    if (own > bar && comes_before(last_z, last_id, own, own_id) &&
        (id < 0 || comes_before(own, own_id, z, id))) {
      z = own;
      id = own_id;
    }
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(~0U, z, distance);
    const int other_id = __shfl_xor_sync(~0U, id, distance);
    if (other_id >= 0 && (id < 0 || comes_before(other, other_id, z, id))) {
      z = other;
      id = other_id;
    }
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) {
    shared.warp_z[threadIdx.x / 32] = z;
    shared.warp_id[threadIdx.x / 32] = id;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int warp = 0; warp < kWarps; ++warp) {
      const float other = shared.warp_z[warp];
      const int other_id = shared.warp_id[warp];
      if (warp == 0 || (other_id >= 0 && (id < 0 || comes_before(other, other_id, z, id)))) {
        z = other;
        id = other_id;
      }
    }
    shared.best_z = z;
    shared.best_id = id;
  }
  __syncthreads();
}

/// Brings a row's best tokens up to date. `maxima` are the greatest of the logits that each thread has read.
__device__ inline void update_best(const TileWork& work, long long r, const float* maxima, Shared& shared) {
  const float thread_max = maxima[threadIdx.x];
  const int K = work.num_best, found = work.num_found[r];
  float* const kept_logits = work.best_logits + r * K;
  int* const kept_ids = work.best_ids + r * K;
  // Later tokens have higher ids: an equal logit comes after those that are kept.
  float bar = found == K ? kept_logits[K - 1] : 2 * kNoLogit;
  const int with_candidates = __syncthreads_count(thread_max > bar);
  if (with_candidates == 0) return;
  const float* const row = work.logits + r * work.stride;

  // Few threads make few candidates; where they are more, the bar is raised first.
  bool at_bar = false;  // whether equals of the bar are candidates
  if (with_candidates > K) {
    int place = 0;
    for (int i = 0; i < kThreads; ++i) {
      const float other = maxima[i];
      place += other > thread_max || (other == thread_max && i < static_cast<int>(threadIdx.x)) ? 1 : 0;
    }
    if (place == K - 1) shared.pool.bar = thread_max;
    __syncthreads();
    if (shared.pool.bar > bar) {
      bar = shared.pool.bar;
      at_bar = true;
    }
  }
  if (threadIdx.x == 0) shared.pool.count = found;
  if (static_cast<int>(threadIdx.x) < found) {
    shared.pool.logits[threadIdx.x] = kept_logits[threadIdx.x];
    shared.pool.ids[threadIdx.x] = kept_ids[threadIdx.x];
  }
  __syncthreads();
  if (thread_max > bar || (at_bar && thread_max == bar)) {
    for (int column = 4 * static_cast<int>(threadIdx.x); column < work.width; column += 4 * kThreads) {
      for (int i = 0; i < 4 && column + i < work.width; ++i) {
        const float z = logit_at(work, row, column + i);
        if (!(z > bar || (at_bar && z == bar))) continue;
        const int place = atomicAdd(&shared.pool.count, 1);
        if (place < kPool) {
          shared.pool.logits[place] = z;
          shared.pool.ids[place] = work.first + column + i;
        }
      }
    }
  }
  __syncthreads();
  int count = shared.pool.count;
  if (count > kPool) {  // one by one
    count = found;
    float last_z = 1 / 0.0F;
    int last_id = -1;
    const float kept_bar = found == K ? shared.pool.logits[K - 1] : 2 * kNoLogit;
    for (int i = 0; i < K; ++i) {
      find_next(work, row, kept_bar, last_z, last_id, shared);
      last_z = shared.best_z;
      last_id = shared.best_id;
      if (last_id < 0) break;
      if (threadIdx.x == 0) {
        shared.pool.logits[count] = last_z;
        shared.pool.ids[count] = last_id;
      }
      ++count;
    }
    __syncthreads();
  }
  if (static_cast<int>(threadIdx.x) < count) {
    const float z = shared.pool.logits[threadIdx.x];
    const int id = shared.pool.ids[threadIdx.x];
    const int place = place_among(shared.pool.logits, shared.pool.ids, count, z, id);
    if (place < K) {
      kept_logits[place] = z;
      kept_ids[place] = id;
    }
  }
  if (threadIdx.x == 0) work.num_found[r] = count < K ? count : K;
  __syncthreads();
}

extern "C" __global__ void __launch_bounds__(kThreads) depthlens_reduce_tile(const TileWork work) {
  __shared__ Shared shared;
  const int p = blockIdx.x, first_state = blockIdx.y * kStates;
  const int num_states = min(kStates, work.num_states - first_state);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const bool with_final = work.final_logits != nullptr;
  const float final_max = with_final ? work.final_max[p] : 0;
  const auto row_of = [&](int g) {
    // States that are not there read the last one's row; nothing is written for them.
    return static_cast<long long>(first_state + min(g, num_states - 1)) * work.num_positions + p;
  };

  RowSums<float> sums[kStates];
  float thread_max[kStates];
  float bars[kStates][kWatched];
  int greater[kStates][kWatched];
  const float* rows[kStates];
  float final_sum = 0;
#pragma unroll
  for (int g = 0; g < kStates; ++g) {
    const long long r = row_of(g);
    rows[g] = work.logits + r * work.stride;
    thread_max[g] = 2 * kNoLogit;
    sums[g] = no_sums<float>();
    sums[g].m = static_cast<float>(work.states[r].m);
#pragma unroll
    for (int w = 0; w < kWatched; ++w) {
      bars[g][w] = work.watched_logits[r * kWatched + w];
      greater[g][w] = 0;
    }
  }

  const float* const final_row = work.final_logits + p * work.final_stride;
  for (int column = 4 * static_cast<int>(threadIdx.x); column < work.width; column += 4 * kThreads) {
    Four shifted = {{0, 0, 0, 0}}, e = {{0, 0, 0, 0}};
    if (with_final) {
      const Four final_z = load_four(work, final_row, column);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        shifted.z[i] = final_z.z[i] - final_max;
        e.z[i] = exponential(shifted.z[i]);
      }
    }
    Four z[kStates];
#pragma unroll
    for (int g = 0; g < kStates; ++g) z[g] = load_four(work, rows[g], column);
#pragma unroll
    for (int g = 0; g < kStates; ++g) {
      const float greatest = fmaxf(fmaxf(z[g].z[0], z[g].z[1]), fmaxf(z[g].z[2], z[g].z[3]));
      thread_max[g] = fmaxf(thread_max[g], greatest);
      if (greatest > sums[g].m) raise(sums[g], greatest, final_sum);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        add(sums[g], z[g].z[i], shifted.z[i], e.z[i]);
#pragma unroll
        for (int w = 0; w < kWatched; ++w) greater[g][w] += z[g].z[i] > bars[g][w] ? 1 : 0;
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) final_sum += e.z[i];
  }

  // Merged within warps: first to the warp's common reference, then plain sums.
#pragma unroll
  for (int g = 0; g < kStates; ++g) {
    float m = sums[g].m;
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) m = fmaxf(m, __shfl_xor_sync(~0U, m, distance));
    if (m > sums[g].m) raise(sums[g], m, final_sum);
    sums[g].sum = warp_sum(sums[g].sum);
    sums[g].weighted = warp_sum(sums[g].weighted);
    sums[g].cross = warp_sum(sums[g].cross);
    sums[g].reverse = warp_sum(sums[g].reverse);
    if (lane == 0) shared.parts[warp].sums[g] = sums[g];
    shared.thread_max[g][threadIdx.x] = thread_max[g];
#pragma unroll
    for (int w = 0; w < kWatched; ++w) {
      const int count = warp_sum(greater[g][w]);
      if (lane == 0) shared.parts[warp].greater[g][w] = count;
    }
  }
  final_sum = warp_sum(final_sum);
  if (lane == 0) shared.parts[warp].final_sum = final_sum;
  __syncthreads();

  // Merged over warps and into the row's state, one thread a state.
  if (static_cast<int>(threadIdx.x) < num_states) {
    const int g = threadIdx.x;
    const long long r = row_of(g);
    RowState& state = work.states[r];
    RowSums<float> tile = shared.parts[0].sums[g];
    float tile_final_sum = shared.parts[0].final_sum;
    for (int other = 1; other < kWarps; ++other) {
      const WarpPart& part = shared.parts[other];
      merge(tile, tile_final_sum, part.sums[g], part.final_sum);
      tile_final_sum += part.final_sum;
    }
    RowSums<double> all = {state.m, state.sum, state.weighted, state.cross, state.reverse};
    merge(all, state.final_sum, in_double(tile), static_cast<double>(tile_final_sum));
    shared.m[g] = static_cast<float>(all.m);
    shared.shift[g] = static_cast<float>(state.m - all.m);
    state = {all.m, all.sum, all.weighted, all.cross, all.reverse, state.final_sum + tile_final_sum};
  }
  // Counts, one thread a state and watched token; the token itself never counts.
  for (int i = threadIdx.x; i < num_states * kWatched; i += kThreads) {
    const int g = i / kWatched, w = i % kWatched;
    const long long r = row_of(g);
    int count = 0;
    for (int other = 0; other < kWarps; ++other) count += shared.parts[other].greater[g][w];
    const int column = work.watched[p * kWatched + w] - work.first;
    if (column >= 0 && column < work.width) {
      const float own = logit_at(work, work.logits + r * work.stride, column);
      float& bar = work.watched_logits[r * kWatched + w];
      if (own > bar) --count;
      bar = own;
    }
    work.num_greater[r * kWatched + w] += count;
  }
  __syncthreads();

  // Groups of tokens: a warp takes a state and a group.
  for (int i = warp; i < num_states * work.num_groups; i += kWarps) {
    const int g = i / work.num_groups, group = i % work.num_groups;
    const long long r = row_of(g);
    const float* const row = work.logits + r * work.stride;
    float mass = 0;
    for (int t = work.group_begin[group] + lane; t < work.group_begin[group + 1]; t += 32)
      mass += exponential(logit_at(work, row, work.group_tokens[t] - work.first) - shared.m[g]);
    mass = warp_sum(mass);
    if (lane == 0) {
      double& kept = work.group_mass[r * work.num_groups + group];
      kept = kept * exponential(static_cast<double>(shared.shift[g])) + mass;
    }
  }

  if (work.num_best == 0) return;
#pragma unroll 1
  for (int g = 0; g < num_states; ++g) update_best(work, row_of(g), shared.thread_max[g], shared);
}

/// Before the first tile: every row of no token. One thread a row.
extern "C" __global__ void depthlens_begin_rows(const TileWork work) {
  const long long r = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (r >= static_cast<long long>(work.num_states) * work.num_positions) return;
  work.states[r] = {kNoLogit, 0, 0, 0, 0, 0};
  work.num_found[r] = 0;
  for (int w = 0; w < kWatched; ++w) work.num_greater[r * kWatched + w] = 0;
  for (int group = 0; group < work.num_groups; ++group) work.group_mass[r * work.num_groups + group] = 0;
}

}  // namespace depthlens::compute::cuda
