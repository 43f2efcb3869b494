// Reads a tile of products once, makes logits of them (bias, scale, soft cap) and brings every row's sums,
// ranks and best tokens up to date; for any card from sm_80 on. Compiled at run time (NVRTC) with the macros
// below, or by nvcc as a check; no host headers.
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
#define DEPTHLENS_BIAS 0  // whether products take a bias
#endif
#ifndef DEPTHLENS_TRANSFORM
#define DEPTHLENS_TRANSFORM 0  // 0: none; 1: scale · z; 2: cap · tanh(scale · z)
#endif

namespace depthlens::compute::cuda {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kStates = DEPTHLENS_STATES, kWatched = DEPTHLENS_WATCHED;
constexpr int kMaxBest = 32;      // K
constexpr int kCandidates = 224;  // room for new ones
constexpr int kPool = kMaxBest + kCandidates;
static_assert(kPool == kThreads, "a thread for each of the pool");

/// What is kept of a row between tiles.
struct RowState {
  double m, sum, weighted, cross, reverse;
  double final_sum;
};

/// A launch: S states at P positions, row s · P + p, for tokens first … first + width − 1. Rows of numbers
/// are aligned to 16 bytes (strides and `first` are multiples of 4), and readable to a multiple of 4.
struct TileWork {
  const float* products;  // [S · P, stride]
  long long stride;
  int num_states, num_positions, first, width;
  const float* final_logits;  // [P, final_stride], the same tokens, with bias and transform; nullptr: the
                              // products are the final layer's, C and D stay 0
  long long final_stride;
  const float* final_max;  // [P]
  const float* bias;       // [V], with DEPTHLENS_BIAS; aligned and readable like the products
  float scale, cap;        // with DEPTHLENS_TRANSFORM; with a soft cap `scale` is the head's by its cap
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
  return work.cap * tanhf(work.scale * z);
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

/// Four neighbouring logits.
struct Four {
  float z[4];
};
/// Of what stands at `column` of a row; at the tile's end those beyond its width are kNoLogit. NVRTC takes no
/// function of any type here (a lambda with `auto`), though nvcc does.
__device__ inline Four masked(const TileWork& work, const float4& raw, int column, bool at_end) {
  Four four = {{raw.x, raw.y, raw.z, raw.w}};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (at_end && column + i >= work.width) four.z[i] = kNoLogit;
  }
  return four;
}
/// The same of products, of which it makes logits.
__device__ inline Four finished([[maybe_unused]] const TileWork& work, float4 raw, int column, bool at_end) {
#if DEPTHLENS_BIAS
  const float4 bias = *reinterpret_cast<const float4*>(work.bias + work.first + column);
  raw = {raw.x + bias.x, raw.y + bias.y, raw.z + bias.z, raw.w + bias.w};
#endif
  raw = {transformed(work, raw.x), transformed(work, raw.y), transformed(work, raw.z),
         transformed(work, raw.w)};
  return masked(work, raw, column, at_end);
}

/// Counts a logit that is greater than the bar.
__device__ inline void count_above(int& count, float z, float bar) {
#ifdef __CUDA_ARCH__
  asm("{ .reg .pred above; setp.gt.f32 above, %1, %2; @above add.s32 %0, %0, 1; }"
      : "+r"(count)
      : "f"(z), "f"(bar));
#else
  count += z > bar ? 1 : 0;
#endif
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

/// Candidates for a row's best tokens.
struct Pool {
  float logits[kPool];
  int ids[kPool];
};

struct Shared {
  WarpPart parts[kWarps];
  float thread_max[kStates][kThreads];
  Pool pools[kStates];
};

/// Where the lane is among those for which `is_in` holds, and how many they are.
struct LanePlace {
  int before, all;
};
__device__ inline LanePlace place_of_lane(bool is_in) {
  const unsigned lanes = __ballot_sync(~0U, is_in);
  return {__popc(lanes & ((1U << threadIdx.x % 32) - 1U)), __popc(lanes)};
}

/// A token, or none: id < 0.
struct Token {
  float z;
  int id;
};

/// The next token after `last` in the order of the best, among those of the tile above the bar: for ties in
/// numbers. Called by a whole warp.
__device__ inline Token find_next(const TileWork& work, const float* row, float bar, const Token& last) {
  Token best = {kNoLogit, -1};
  for (int column = threadIdx.x % 32; column < work.width; column += 32) {
    const Token own = {logit_at(work, row, column), work.first + column};
    if (own.z > bar && comes_before(last.z, last.id, own.z, own.id) &&
        (best.id < 0 || comes_before(own.z, own.id, best.z, best.id)))
      best = own;
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    const Token other = {__shfl_xor_sync(~0U, best.z, distance), __shfl_xor_sync(~0U, best.id, distance)};
    if (other.id >= 0 && (best.id < 0 || comes_before(other.z, other.id, best.z, best.id))) best = other;
  }
  return best;
}

/// The K-th greatest of what all threads have read, as `maxima` tell; in every lane of the warp that calls
/// it.
__device__ inline float greatest_but(int K, const float* maxima) {
  float own[kWarps];
#pragma unroll
  for (int i = 0; i < kWarps; ++i) own[i] = maxima[32 * i + threadIdx.x % 32];
  float greatest = 0;
  for (int k = 0; k < K; ++k) {
    float mine = own[0];
#pragma unroll
    for (int i = 1; i < kWarps; ++i) mine = fmaxf(mine, own[i]);
    greatest = mine;
    for (int distance = 16; distance > 0; distance /= 2)
      greatest = fmaxf(greatest, __shfl_xor_sync(~0U, greatest, distance));
    // The first lane that has it gives one of its own up.
    const bool has = mine == greatest;
    bool gives = place_of_lane(has).before == 0 && has;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      if (!gives || own[i] != greatest) continue;
      own[i] = 4 * kNoLogit;
      gives = false;
    }
  }
  return greatest;
}

/// Brings a row's best tokens up to date. `maxima` are the greatest of the logits that each thread has read.
/// Called by a whole warp.
__device__ inline void update_best(const TileWork& work, long long r, const float* maxima, Pool& pool) {
  const int lane = threadIdx.x % 32;
  const int K = work.num_best, found = work.num_found[r];
  float* const kept_logits = work.best_logits + r * K;
  int* const kept_ids = work.best_ids + r * K;
  // Later tokens have higher ids: an equal logit comes after those that are kept.
  const float kept_bar = found == K ? kept_logits[K - 1] : 2 * kNoLogit;
  float bar = kept_bar;
  int with_candidates = 0;  // threads
  for (int i = 0; i < kWarps; ++i) with_candidates += place_of_lane(maxima[32 * i + lane] > bar).all;
  if (with_candidates == 0) return;
  const float* const row = work.products + r * work.stride;

  // Few threads make few candidates; where they are more, the bar is raised first.
  bool at_bar = false;  // whether equals of the bar are candidates
  if (with_candidates > K) {
    const float raised = greatest_but(K, maxima);
    at_bar = raised > bar;
    bar = fmaxf(bar, raised);
  }
  const auto is_candidate = [&](float z) { return z > bar || (at_bar && z == bar); };
  if (lane < found) {
    pool.logits[lane] = kept_logits[lane];
    pool.ids[lane] = kept_ids[lane];
  }
  int count = found;
  for (int i = 0; i < kWarps; ++i) {
    unsigned threads = __ballot_sync(~0U, is_candidate(maxima[32 * i + lane]));
    for (; threads != 0; threads &= threads - 1) {
      // What that thread has read: eight times four columns at once.
      const int thread = 32 * i + __ffs(static_cast<int>(threads)) - 1;
      for (int begin = 4 * thread; begin < work.width; begin += 8 * 4 * kThreads) {
        const int column = begin + lane / 4 * 4 * kThreads + lane % 4;
        const float z = column < work.width ? logit_at(work, row, column) : 4 * kNoLogit;
        const LanePlace place = place_of_lane(is_candidate(z));
        if (is_candidate(z) && count + place.before < kPool) {
          pool.logits[count + place.before] = z;
          pool.ids[count + place.before] = work.first + column;
        }
        count += place.all;
      }
    }
  }
  __syncwarp();
  if (count > kPool) {  // one by one
    count = found;
    Token last = {1 / 0.0F, -1};
    for (int i = 0; i < K; ++i) {
      last = find_next(work, row, kept_bar, last);
      if (last.id < 0) break;
      if (lane == 0) {
        pool.logits[count] = last.z;
        pool.ids[count] = last.id;
      }
      ++count;
    }
    __syncwarp();
  }
  for (int i = lane; i < count; i += 32) {
    const int place = place_among(pool.logits, pool.ids, count, pool.logits[i], pool.ids[i]);
    if (place < K) {
      kept_logits[place] = pool.logits[i];
      kept_ids[place] = pool.ids[i];
    }
  }
  if (lane == 0) work.num_found[r] = count < K ? count : K;
}

/// Puts the parts of all warps together and into the state of row r, the g-th of the block. Called by a whole
/// warp.
__device__ inline void finish_row(const TileWork& work, long long r, int g, const WarpPart* parts) {
  const int lane = threadIdx.x % 32;
  const float* const row = work.products + r * work.stride;
  RowState& state = work.states[r];
  const RowState before = state;
  RowSums<float> tile = parts[0].sums[g];
  float tile_final_sum = parts[0].final_sum;
  for (int other = 1; other < kWarps; ++other) {
    merge(tile, tile_final_sum, parts[other].sums[g], parts[other].final_sum);
    tile_final_sum += parts[other].final_sum;
  }
  RowSums<double> all = {before.m, before.sum, before.weighted, before.cross, before.reverse};
  merge(all, before.final_sum, in_double(tile), static_cast<double>(tile_final_sum));
  __syncwarp();
  if (lane == 0)
    state = {all.m, all.sum, all.weighted, all.cross, all.reverse, before.final_sum + tile_final_sum};

  // Counts, a lane a watched token; the token itself never counts.
  const int p = static_cast<int>(r % work.num_positions);
  for (int w = lane; w < kWatched; w += 32) {
    int count = 0;
    for (int other = 0; other < kWarps; ++other) count += parts[other].greater[g][w];
    const int column = work.watched[p * kWatched + w] - work.first;
    if (column >= 0 && column < work.width) {
      const float own = logit_at(work, row, column);
      float& bar = work.watched_logits[r * kWatched + w];
      if (own > bar) --count;
      bar = own;
    }
    work.num_greater[r * kWatched + w] += count;
  }

  const double scale = exponential(before.m - all.m);
  for (int group = 0; group < work.num_groups; ++group) {
    float mass = 0;
    for (int t = work.group_begin[group] + lane; t < work.group_begin[group + 1]; t += 32)
      mass += exponential(logit_at(work, row, work.group_tokens[t] - work.first) - static_cast<float>(all.m));
    mass = warp_sum(mass);
    if (lane == 0) {
      double& kept = work.group_mass[r * work.num_groups + group];
      kept = kept * scale + mass;
    }
  }
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
    rows[g] = work.products + r * work.stride;
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
  // What a thread reads of all rows at a column; the next ones are on their way while these are added up.
  struct Columns {
    float4 final_z, z[kStates];
  };
  const auto read = [&](int column) {
    Columns columns;
    columns.final_z = {0, 0, 0, 0};
    if (with_final) columns.final_z = *reinterpret_cast<const float4*>(final_row + column);
#pragma unroll
    for (int g = 0; g < kStates; ++g) columns.z[g] = *reinterpret_cast<const float4*>(rows[g] + column);
    return columns;
  };
  const auto take = [&](const Columns& columns, int column, bool at_end) {
    Four shifted = {{0, 0, 0, 0}}, e = {{0, 0, 0, 0}};
    if (with_final) {
      const Four final_z = masked(work, columns.final_z, column, at_end);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        shifted.z[i] = final_z.z[i] - final_max;
        e.z[i] = exponential(shifted.z[i]);
      }
    }
#pragma unroll
    for (int g = 0; g < kStates; ++g) {
      const Four z = finished(work, columns.z[g], column, at_end);
      const float greatest = fmaxf(fmaxf(z.z[0], z.z[1]), fmaxf(z.z[2], z.z[3]));
      thread_max[g] = fmaxf(thread_max[g], greatest);
      if (greatest > sums[g].m) raise(sums[g], greatest, final_sum);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        add(sums[g], z.z[i], shifted.z[i], e.z[i]);
#pragma unroll
        for (int w = 0; w < kWatched; ++w) count_above(greater[g][w], z.z[i], bars[g][w]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) final_sum += e.z[i];
  };
  int column = 4 * static_cast<int>(threadIdx.x);
  Columns columns;
  if (column < work.width) columns = read(column);
  for (; column + 4 <= work.width; column += 4 * kThreads) {
    const Columns present = columns;
    if (column + 4 * kThreads < work.width) columns = read(column + 4 * kThreads);
    take(present, column, /*at_end=*/false);
  }
  if (column < work.width) take(columns, column, /*at_end=*/true);

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

  // From here on a warp takes what concerns a state's sums, and another what concerns its best tokens.
  static_assert(kWarps >= 2 * kStates);
  if (warp < num_states) {
    finish_row(work, row_of(warp), warp, shared.parts);
  } else if (const int g = warp - kStates; g >= 0 && g < num_states && work.num_best > 0) {
    update_best(work, row_of(g), shared.thread_max[g], shared.pools[g]);
  }
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
