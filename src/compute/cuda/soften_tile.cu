// Brings the sums of a softmax over every row up to date with a tile of logits, and makes of it the
// coefficients with which the tile's part of the unembedding joins the expected rows; for any card from sm_80
// on. Compiled at run time (NVRTC), or by nvcc as a check; no host headers.
//
// A block takes one row: first its greatest logit, then, relative to it, the exponentials. In between a
// thread holds its logits in registers; only those beyond kHeldColumns are read again.
// A thread sums in float32 what it has, which is put together within warps, and over warps and tiles in
// float64, all in one order: results are the same bits on every run.
#include "bfloat16.hpp"
#include "softmax_terms.hpp"

namespace depthlens::compute::cuda {

constexpr int kSoftenThreads = 256, kSoftenWarps = kSoftenThreads / 32;
constexpr int kHeld = 8;                         // groups of four logits
constexpr int kSoftenStep = 4 * kSoftenThreads;  // columns that a block reads at once
constexpr int kHeldColumns = kHeld * kSoftenStep;

/// A launch: R rows, the first G of them with coefficients, for tokens first … first + width − 1. Rows of
/// logits are aligned to 16 bytes and readable to a multiple of 4; those of coefficients are aligned to 8
/// bytes and writable to a multiple of 4.
struct SoftenTileWork {
  const float* logits;  // [R, stride]
  long long stride;
  int num_rows, num_gradients, first, width;
  const float* token_scale;  // [V]: of coefficients; nullptr: 1
  float scale, by_cap;       // as in Slope
  int num_terms;
  float* m;                      // [R] greatest logit; −∞ before the first tile
  double* sum;                   // [R] Σ e^(z − m)
  long long* top;                // [R] the first token of the greatest logit
  unsigned short* coefficients;  // [num_terms, G, coefficient_stride]: slope · token scale · e^(z − m)
  long long coefficient_stride;
  float* expected;  // [G, num_expected]: sums relative to m, to be scaled when it grows; nullptr: none yet
  int num_expected;
};

/// Four neighbouring logits.
struct FourLogits {
  float z[4];
};
__device__ inline float nothing() {
  return number_of_bits(0xff800000U);  // −∞
}

/// As they lie there; beyond the tile's width nothing is read, which is −∞.
__device__ inline FourLogits load_four(const SoftenTileWork& work, const float* row, int column) {
  float4 raw = {nothing(), nothing(), nothing(), nothing()};
  if (column < work.width) raw = *reinterpret_cast<const float4*>(row + column);
  return {{raw.x, raw.y, raw.z, raw.w}};
}

/// Makes those beyond the tile's width −∞.
__device__ inline void mask(const SoftenTileWork& work, int column, FourLogits& four) {
  if (column + 4 <= work.width) return;
  for (int i = 0; i < 4; ++i) {
    if (column + i >= work.width) four.z[i] = nothing();
  }
}

/// Writes the coefficients of four exponentials. `place`: of the first term.
__device__ inline void write_coefficients(const SoftenTileWork& work, unsigned short* place, int column,
                                          const FourLogits& four, const float* exponentials) {
  float c[4];
  for (int i = 0; i < 4; ++i) c[i] = exponentials[i] * slope_at({work.scale, work.by_cap}, four.z[i]);
  if (work.token_scale != nullptr) {
    for (int i = 0; i < 4; ++i)
      c[i] *= column + i < work.width ? work.token_scale[work.first + column + i] : 0;
  }
  // Unrolled, the code of all groups would not fit the cache of instructions.
#pragma unroll 1
  for (int term = 0; term < work.num_terms; ++term) {
    unsigned pairs[2];
    take_term(c, pairs);
    *reinterpret_cast<uint2*>(place) = make_uint2(pairs[0], pairs[1]);
    place += work.num_gradients * work.coefficient_stride;
  }
}

struct SoftenShared {
  Greatest greatest[kSoftenWarps];
  float sums[kSoftenWarps];
};

extern "C" __global__ void __launch_bounds__(kSoftenThreads, 4)
    depthlens_soften_tile(const SoftenTileWork work) {
  __shared__ SoftenShared shared;
  const long long r = blockIdx.x;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const float* const row = work.logits + r * work.stride;
  const float before = work.m[r];

  // All are on their way before the first is looked at.
  FourLogits held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) held[i] = load_four(work, row, 4 * thread + i * kSoftenStep);
  Greatest greatest = {before, -1};
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int column = 4 * thread + i * kSoftenStep;
    mask(work, column, held[i]);
    take(greatest, held[i].z, work.first + column);
  }
  for (int column = 4 * thread + kHeldColumns; column < work.width; column += kSoftenStep) {
    FourLogits four = load_four(work, row, column);
    mask(work, column, four);
    take(greatest, four.z, work.first + column);
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const Greatest other = {__shfl_xor_sync(~0U, greatest.z, distance),
                            __shfl_xor_sync(~0U, greatest.id, distance)};
    take(greatest, other);
  }
  if (lane == 0) shared.greatest[warp] = greatest;
  __syncthreads();
  greatest = shared.greatest[0];
#pragma unroll
  for (int other = 1; other < kSoftenWarps; ++other) take(greatest, shared.greatest[other]);
  const float m = greatest.z;

  const bool with_coefficients = r < work.num_gradients;
  unsigned short* const coefficients = work.coefficients + r * work.coefficient_stride;
  float sum = 0;
  const auto add = [&](const FourLogits& four, int column) {
    if (column >= work.width) return;
    float e[4];
    for (int i = 0; i < 4; ++i) e[i] = exponential(four.z[i] - m);
    sum += (e[0] + e[1]) + (e[2] + e[3]);
    if (with_coefficients) write_coefficients(work, coefficients + column, column, four, e);
  };
#pragma unroll
  for (int i = 0; i < kHeld; ++i) add(held[i], 4 * thread + i * kSoftenStep);
  for (int column = 4 * thread + kHeldColumns; column < work.width; column += kSoftenStep) {
    FourLogits four = load_four(work, row, column);
    mask(work, column, four);
    add(four, column);
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0U, sum, distance);
  if (lane == 0) shared.sums[warp] = sum;
  __syncthreads();

  if (thread == 0) {
    double of_tile = 0;
    for (int other = 0; other < kSoftenWarps; ++other) of_tile += shared.sums[other];
    const double factor = exponential(static_cast<double>(before) - m);
    work.sum[r] = work.sum[r] * factor + of_tile;
    if (greatest.id >= 0) {
      work.m[r] = m;
      work.top[r] = greatest.id;
    }
  }
  if (!with_coefficients || work.expected == nullptr || greatest.id < 0) return;
  const float factor = exponential(before - m);
  float* const expected = work.expected + r * work.num_expected;
  for (int k = thread; k < work.num_expected; k += kSoftenThreads) expected[k] *= factor;
}

}  // namespace depthlens::compute::cuda
