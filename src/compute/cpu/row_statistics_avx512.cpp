// Row statistics by AVX-512: what row_statistics_impl.hpp says in plain loops, with the exponential in fewer
// instructions and several sums beside each other. No standard library here (see there).
// GCC 12 takes the undefined lanes within its own intrinsics for a mistake.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "compute/cpu/row_statistics.hpp"

namespace depthlens::compute {
namespace {

constexpr int kLanes = 16;

/// The lanes that are left of `width` from `i` on, where they fill no vector.
inline __mmask16 lanes_left(int width, int i) {
  return static_cast<__mmask16>((1U << (width - i)) - 1);
}

/// e^x for x ≤ kMaxExcess, 0 below −87: 2^n · e^r with n the nearest integer to x log₂ e, and a polynomial
/// for e^r, |r| ≤ ln 2 / 2 (of degree 5, 1.05e-7 relative at most; with roundings 1.8e-7, tried for all
/// arguments).
inline __m512 exp_of(__m512 x) {
  const __m512 magic = _mm512_set1_ps(0x1.8p23F);  // adding it leaves the nearest integer in the last bits
  const __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(1.44269504088896341F), magic), magic);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375F), x);  // ln 2 in two parts
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4F), r);
  __m512 p = _mm512_set1_ps(0.0083125F);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.04189033F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.16667115F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.4999923F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  // Not less than: what is not a number stays so.
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0F), _CMP_NLT_UQ), p, n);
}

float row_max(const float* logits, int width) {
  const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
  __m512 best[4] = {lowest, lowest, lowest, lowest};
  int i = 0;
  // The maximum of what is not a number and another is the second of the two: the other.
  for (; i + 4 * kLanes <= width; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) best[j] = _mm512_max_ps(_mm512_loadu_ps(logits + i + j * kLanes), best[j]);
  }
  for (; i + kLanes <= width; i += kLanes) best[0] = _mm512_max_ps(_mm512_loadu_ps(logits + i), best[0]);
  if (i < width) {
    const __mmask16 left = lanes_left(width, i);
    best[1] = _mm512_mask_max_ps(best[1], left, _mm512_maskz_loadu_ps(left, logits + i), best[1]);
  }
  return _mm512_reduce_max_ps(
      _mm512_max_ps(_mm512_max_ps(best[0], best[1]), _mm512_max_ps(best[2], best[3])));
}

int row_find_at_least(const float* logits, int begin, int width, float bar) {
  const __m512 bars = _mm512_set1_ps(bar);
  int i = begin;
  for (; i + kLanes <= width; i += kLanes) {
    const unsigned found = _mm512_cmp_ps_mask(_mm512_loadu_ps(logits + i), bars, _CMP_GE_OQ);
    if (found != 0) return i + __builtin_ctz(found);
  }
  if (i < width) {
    const __mmask16 left = lanes_left(width, i);
    const unsigned found =
        _mm512_mask_cmp_ps_mask(left, _mm512_maskz_loadu_ps(left, logits + i), bars, _CMP_GE_OQ);
    if (found != 0) return i + __builtin_ctz(found);
  }
  return width;
}

int row_find_all_at_least(const float* logits, int width, float bar, std::int32_t* places) {
  const __m512 bars = _mm512_set1_ps(bar);
  int found = 0;
  for (int i = 0; i < width; i += kLanes) {
    const __mmask16 left = width - i < kLanes ? lanes_left(width, i) : static_cast<__mmask16>(0xffff);
    for (unsigned mask =
             _mm512_mask_cmp_ps_mask(left, _mm512_maskz_loadu_ps(left, logits + i), bars, _CMP_GE_OQ);
         mask != 0; mask &= mask - 1)
      places[found++] = i + __builtin_ctz(mask);
  }
  return found;
}

std::int32_t row_count_greater(const float* logits, int width, float bar) {
  const __m512 bars = _mm512_set1_ps(bar);
  std::int32_t counts[2] = {0, 0};
  int i = 0;
  for (; i + 2 * kLanes <= width; i += 2 * kLanes) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j)
      counts[j] +=
          __builtin_popcount(_mm512_cmp_ps_mask(_mm512_loadu_ps(logits + i + j * kLanes), bars, _CMP_GT_OQ));
  }
  for (; i < width; i += kLanes) {
    const __mmask16 left = width - i < kLanes ? lanes_left(width, i) : static_cast<__mmask16>(0xffff);
    counts[0] += __builtin_popcount(
        _mm512_mask_cmp_ps_mask(left, _mm512_maskz_loadu_ps(left, logits + i), bars, _CMP_GT_OQ));
  }
  return counts[0] + counts[1];
}

void row_shift_and_exp(const float* logits, int width, float m, float* shifted, float* exponentials) {
  const __m512 reference = _mm512_set1_ps(m);
  for (int i = 0; i < width; i += kLanes) {
    const __mmask16 left = width - i < kLanes ? lanes_left(width, i) : static_cast<__mmask16>(0xffff);
    const __m512 x = _mm512_sub_ps(_mm512_maskz_loadu_ps(left, logits + i), reference);
    _mm512_mask_storeu_ps(shifted + i, left, x);
    _mm512_mask_storeu_ps(exponentials + i, left, exp_of(x));
  }
}

struct Sums {
  __m512 sum = _mm512_setzero_ps(), weighted = _mm512_setzero_ps(), cross = _mm512_setzero_ps(),
         reverse = _mm512_setzero_ps(), max = _mm512_set1_ps(-__builtin_inff());
};

inline __m128 over_lanes(__m512 v) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

TileSums row_sums(const float* logits, int width, float m, const float* final_shifted,
                  const float* final_exponentials, float* exponentials) {
  const __m512 reference = _mm512_set1_ps(m);
  Sums sums[2];
  const auto add = [&](Sums& to, __m512 z, __m512 shifted_f, __m512 e_f) {
    const __m512 x = _mm512_sub_ps(z, reference), e = exp_of(x);
    to.sum = _mm512_add_ps(to.sum, e);
    to.weighted = _mm512_fmadd_ps(e, x, to.weighted);
    to.cross = _mm512_fmadd_ps(e_f, x, to.cross);
    to.reverse = _mm512_fmadd_ps(e, shifted_f, to.reverse);
    return e;
  };
  int i = 0;
  for (; i + 2 * kLanes <= width; i += 2 * kLanes) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const int at = i + j * kLanes;
      const __m512 z = _mm512_loadu_ps(logits + at);
      sums[j].max = _mm512_max_ps(z, sums[j].max);  // in this order what is not a number is left out
      _mm512_storeu_ps(exponentials + at, add(sums[j], z, _mm512_loadu_ps(final_shifted + at),
                                              _mm512_loadu_ps(final_exponentials + at)));
    }
  }
  for (; i < width; i += kLanes) {
    const __mmask16 left = width - i < kLanes ? lanes_left(width, i) : static_cast<__mmask16>(0xffff);
    // Lanes that are not there are far below all others: their exponentials are 0.
    const __m512 z =
        _mm512_mask_loadu_ps(_mm512_set1_ps(m - 200.0F - __builtin_fabsf(m) * 0x1p-10F), left, logits + i);
    sums[0].max = _mm512_mask_max_ps(sums[0].max, left, z, sums[0].max);
    const __m512 e = add(sums[0], z, _mm512_maskz_loadu_ps(left, final_shifted + i),
                         _mm512_maskz_loadu_ps(left, final_exponentials + i));
    _mm512_mask_storeu_ps(exponentials + i, left, e);
  }
  const __m128 sum = over_lanes(_mm512_add_ps(sums[0].sum, sums[1].sum)),
               weighted = over_lanes(_mm512_add_ps(sums[0].weighted, sums[1].weighted)),
               cross = over_lanes(_mm512_add_ps(sums[0].cross, sums[1].cross)),
               reverse = over_lanes(_mm512_add_ps(sums[0].reverse, sums[1].reverse));
  // Four sums over lanes at once, in the order of TileSums.
  const __m128 low = _mm_add_ps(_mm_unpacklo_ps(sum, cross), _mm_unpackhi_ps(sum, cross)),
               high = _mm_add_ps(_mm_unpacklo_ps(weighted, reverse), _mm_unpackhi_ps(weighted, reverse));
  TileSums out;
  _mm_storeu_ps(&out.sum, _mm_add_ps(_mm_unpacklo_ps(low, high), _mm_unpackhi_ps(low, high)));
  out.max = _mm512_reduce_max_ps(_mm512_max_ps(sums[0].max, sums[1].max));
  return out;
}

float row_exponentials(const float* logits, int width, float m, float* exponentials) {
  const __m512 reference = _mm512_set1_ps(m);
  __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  int i = 0;
  for (; i + 2 * kLanes <= width; i += 2 * kLanes) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const int at = i + j * kLanes;
      const __m512 e = exp_of(_mm512_sub_ps(_mm512_loadu_ps(logits + at), reference));
      _mm512_storeu_ps(exponentials + at, e);
      sums[j] = _mm512_add_ps(sums[j], e);
    }
  }
  for (; i < width; i += kLanes) {
    const __mmask16 left = width - i < kLanes ? lanes_left(width, i) : static_cast<__mmask16>(0xffff);
    const __m512 e = exp_of(_mm512_sub_ps(_mm512_maskz_loadu_ps(left, logits + i), reference));
    _mm512_mask_storeu_ps(exponentials + i, left, e);
    sums[1] = _mm512_mask_add_ps(sums[1], left, sums[1], e);
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]));
}

/// tanh x within 2e-7. e^(−2|x|) loses what is small, where a series does better.
inline __m512 tanh_of(__m512 x) {
  const __m512 size = _mm512_abs_ps(x), square = _mm512_mul_ps(x, x), one = _mm512_set1_ps(1);
  const __m512 e = exp_of(_mm512_mul_ps(size, _mm512_set1_ps(-2)));
  const __m512 far = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
  __m512 near = _mm512_set1_ps(62.0F / 2835);
  near = _mm512_fmadd_ps(near, square, _mm512_set1_ps(-17.0F / 315));
  near = _mm512_fmadd_ps(near, square, _mm512_set1_ps(2.0F / 15));
  near = _mm512_fmadd_ps(near, square, _mm512_set1_ps(-1.0F / 3));
  near = _mm512_fmadd_ps(_mm512_mul_ps(size, square), near, size);
  const __mmask16 small = _mm512_cmp_ps_mask(size, _mm512_set1_ps(0.25F), _CMP_LT_OQ);
  const __m512 y = _mm512_mask_blend_ps(small, far, near);
  const __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0F));
  return _mm512_or_ps(y, sign);
}

/// Every element by the same instructions, wherever it stands: logits taken one by one have the bits of those
/// in a tile.
void row_finish_logits(float* logits, int width, const float* bias, float scale, float cap) {
  const __m512 inner = _mm512_set1_ps(cap > 0 ? scale / cap : scale), caps = _mm512_set1_ps(cap);
  for (int i = 0; i < width; i += kLanes) {
    const __mmask16 left = width - i < kLanes ? lanes_left(width, i) : static_cast<__mmask16>(0xffff);
    __m512 z = _mm512_maskz_loadu_ps(left, logits + i);
    if (bias != nullptr) z = _mm512_add_ps(z, _mm512_maskz_loadu_ps(left, bias + i));
    if (cap > 0) {
      z = _mm512_mul_ps(caps, tanh_of(_mm512_mul_ps(z, inner)));
    } else if (scale != 1) {
      z = _mm512_mul_ps(z, inner);
    }
    _mm512_mask_storeu_ps(logits + i, left, z);
  }
}

}  // namespace

const RowStatistics kAvx512Statistics = {row_max,           row_find_at_least, row_find_all_at_least,
                                         row_count_greater, row_shift_and_exp, row_sums,
                                         row_exponentials,  row_finish_logits};

}  // namespace depthlens::compute
