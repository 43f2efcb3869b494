// Packing for GEMM microkernels. Included once by each file that is compiled for an instruction set; no
// standard library here (see row_statistics_impl.hpp).
#pragma once

#ifdef __AVX512BF16__
// GCC 12 takes the undefined lanes within its own intrinsics for a mistake.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#endif

#include <cstdint>

#include "compute/cpu/gemm.hpp"

namespace depthlens::compute {
namespace {

inline float from_bfloat16(std::uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}

inline float from_float16(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(bits & 0x7fffU) << 13;
  // The exponent's bias is 112 less; the product makes subnormal numbers normal.
  const float finite = __builtin_bit_cast(float, magnitude) * 0x1p112F;
  const std::uint32_t infinite = magnitude | 0x7f800000U;  // or not a number
  const std::uint32_t value =
      (bits & 0x7c00U) == 0x7c00U ? infinite : __builtin_bit_cast(std::uint32_t, finite);
  return __builtin_bit_cast(float, value | sign);
}

/// To nearest, ties to even.
inline std::uint16_t to_bfloat16(float value) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value);
  const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  return static_cast<std::uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? 0x7fc0U : rounded);
}

template <int kTerm>
inline std::uint16_t bfloat16_term(float value) {
#pragma GCC unroll 4
  for (int term = 0; term < kTerm; ++term) value -= from_bfloat16(to_bfloat16(value));
  return to_bfloat16(value);
}

typedef std::uint16_t Bits16 __attribute__((may_alias));

#ifdef __AVX512BF16__
// The processor's own rounding, which takes numbers below 2^-126 for 0, as its products do.

/// What a term is rounded from: values less the terms before it.
template <int kTerm>
inline __m512 left_for_term(__m512 values) {
#pragma GCC unroll 4
  for (int term = 0; term < kTerm; ++term) {
    const __m256i bits = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values));
    values -= _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  return values;
}
#endif

/// out[k] = the term of values[k]. Straight loops, which the compiler vectorises.
template <int kTerm>
inline void bfloat16_terms(const float* values, std::int64_t count, Bits16* out) {
  std::int64_t done = 0;
#ifdef __AVX512BF16__
  for (; done + 32 <= count; done += 32) {
    const __m512 low = left_for_term<kTerm>(_mm512_loadu_ps(values + done)),
                 high = left_for_term<kTerm>(_mm512_loadu_ps(values + done + 16));
    _mm512_storeu_si512(out + done, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
  }
#endif
#pragma omp simd
  for (std::int64_t k = done; k < count; ++k) out[k] = bfloat16_term<kTerm>(values[k]);
}
inline void bfloat16_terms(const float* values, std::int64_t count, int term, Bits16* out) {
  if (term == 0) return bfloat16_terms<0>(values, count, out);
  if (term == 1) return bfloat16_terms<1>(values, count, out);
  bfloat16_terms<2>(values, count, out);
}

/// `count` weights from the `first` on, as float32.
inline void read_weights(const void* column, WeightType type, std::int64_t first, std::int64_t count,
                         float* out) {
  if (type == WeightType::kFloat32) {
    const float* weights = static_cast<const float*>(column) + first;
    for (std::int64_t k = 0; k < count; ++k) out[k] = weights[k];
    return;
  }
  const std::uint16_t* weights = static_cast<const std::uint16_t*>(column) + first;
  if (type == WeightType::kBfloat16) {
    for (std::int64_t k = 0; k < count; ++k) out[k] = from_bfloat16(weights[k]);
  } else {
    for (std::int64_t k = 0; k < count; ++k) out[k] = from_float16(weights[k]);
  }
}

/// Vectors of kBytes. (As typedefs: GCC drops the attribute of an alias whose size depends on a template.)
template <int kBytes>
struct VectorOf {
  typedef std::uint32_t Lanes __attribute__((vector_size(kBytes), may_alias));
  typedef float Floats __attribute__((vector_size(kBytes), may_alias));
  typedef float Unaligned __attribute__((vector_size(kBytes), aligned(4), may_alias));
};

/// Lanes of two vectors by turns, from lane `first` of each.
template <int kBytes>
inline void interleave(const typename VectorOf<kBytes>::Lanes& a, const typename VectorOf<kBytes>::Lanes& b,
                       int first, typename VectorOf<kBytes>::Lanes& out) {
  constexpr int kLanes = kBytes / 4;
#ifdef __clang__  // which has no __builtin_shuffle, and makes one of this
#pragma unroll
  for (int i = 0; i < kLanes; ++i) out[i] = (i % 2 == 0 ? a : b)[first + i / 2];
#else
  typename VectorOf<kBytes>::Lanes places;
  for (int i = 0; i < kLanes; ++i) places[i] = static_cast<std::uint32_t>(first + i / 2 + i % 2 * kLanes);
  out = __builtin_shuffle(a, b, places);
#endif
}

/// A square of 32-bit lanes turned about its diagonal, by interleaving halves log2(lanes) times.
template <int kBytes>
inline void transpose(typename VectorOf<kBytes>::Lanes* square) {
  constexpr int kLanes = kBytes / 4;
  typename VectorOf<kBytes>::Lanes other[kLanes];
#pragma GCC unroll 8
  for (int step = 1; step < kLanes; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes / 2; ++i) {
      interleave<kBytes>(square[i], square[i + kLanes / 2], 0, other[2 * i]);
      interleave<kBytes>(square[i], square[i + kLanes / 2], kLanes / 2, other[2 * i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) square[i] = other[i];
  }
}

/// A panel as [depth][columns] of float32, or [depth / 2][columns] of pairs of bfloat16.
template <int kBytes, int kColumns, bool kBfloat16>
void pack_panel(const void* const* columns, WeightType type, std::int64_t d, int term, void* panel) {
  using Lanes = typename VectorOf<kBytes>::Lanes;
  constexpr int kLanes = kBytes / 4, kPerLane = kBfloat16 ? 2 : 1;
  constexpr std::int64_t kStrip =
      256;  // lanes of a column at a time: a strip of all fits the first-level cache
  static_assert(kColumns % kLanes == 0 && GemmKernel::kDepth % (kLanes * kPerLane) == 0);
  alignas(64) std::uint32_t strip[kLanes][kStrip];
  float buffer[kStrip * kPerLane];
  const std::int64_t lanes = GemmKernel::depth(d) / kPerLane;
  for (std::int64_t begin = 0; begin < lanes; begin += kStrip) {
    const std::int64_t count = lanes - begin < kStrip ? lanes - begin : kStrip;
    const std::int64_t first = begin * kPerLane;
    const std::int64_t left = d - first, width = count * kPerLane;
    const std::int64_t present = left < width ? left : width;
    for (std::int64_t group = 0; group < kColumns; group += kLanes) {
      for (int t = 0; t < kLanes; ++t) {
        const void* column = columns[group + t];
        const std::int64_t found = column != nullptr ? present : 0;
        if constexpr (kBfloat16) {
          if (found == width && type == WeightType::kBfloat16 && term == 0) {
            __builtin_memcpy(strip[t], static_cast<const Bits16*>(column) + first,
                             static_cast<std::uint64_t>(2 * width));
            continue;
          }
        }
        const bool in_place = found == width && type == WeightType::kFloat32;
        if (!in_place && found > 0) read_weights(column, type, first, found, buffer);
        for (std::int64_t k = found; k < width; ++k) buffer[k] = 0;
        const float* values = in_place ? static_cast<const float*>(column) + first : buffer;
        if constexpr (kBfloat16) {
          bfloat16_terms(values, width, term, reinterpret_cast<Bits16*>(strip[t]));
        } else {
          for (std::int64_t k = 0; k < count; ++k) strip[t][k] = __builtin_bit_cast(std::uint32_t, values[k]);
        }
      }
      for (std::int64_t k = 0; k < count; k += kLanes) {
        Lanes square[kLanes];
        for (int t = 0; t < kLanes; ++t) square[t] = *reinterpret_cast<const Lanes*>(&strip[t][k]);
        transpose<kBytes>(square);
        std::uint32_t* to = static_cast<std::uint32_t*>(panel) + (begin + k) * kColumns + group;
        for (int i = 0; i < kLanes; ++i) *reinterpret_cast<Lanes*>(to + i * kColumns) = square[i];
      }
    }
  }
}

/// A block of up to kRows as [depth][count] of float32, or [depth / 2][count] of pairs of bfloat16.
template <int kRows, bool kBfloat16>
void pack_block(const float* rows, std::int64_t count, std::int64_t d, int term, void* block) {
  using Lanes = VectorOf<32>::Lanes;
  constexpr std::int64_t kSquare = 8, kPerLane = kBfloat16 ? 2 : 1, kPiece = 32 * kPerLane;  // dimensions
  alignas(32) std::uint32_t lanes[kRows][kPiece / kPerLane];
  const std::int64_t depth = GemmKernel::depth(d);
  auto* to = static_cast<std::uint32_t*>(block);
  for (std::int64_t first = 0; first < depth; first += kPiece) {
    const std::int64_t left = d - first, present = left < kPiece ? left : kPiece,
                       width = depth - first < kPiece ? depth - first : kPiece;
    for (std::int64_t i = 0; i < count; ++i) {
      const float* values = rows + i * d + first;
      if constexpr (kBfloat16) {
        auto* bits = reinterpret_cast<Bits16*>(lanes[i]);
        bfloat16_terms(values, present, term, bits);
        for (std::int64_t k = present; k < width; ++k) bits[k] = 0;
      } else {
        for (std::int64_t k = 0; k < present; ++k) lanes[i][k] = __builtin_bit_cast(std::uint32_t, values[k]);
        for (std::int64_t k = present; k < width; ++k) lanes[i][k] = 0;
      }
    }
    for (std::int64_t k = 0; k < width / kPerLane; k += kSquare, to += kSquare * count) {
      if (count == kSquare) {
        Lanes square[kSquare];
        for (int i = 0; i < kSquare; ++i) square[i] = *reinterpret_cast<const Lanes*>(&lanes[i][k]);
        transpose<32>(square);
        for (int i = 0; i < kSquare; ++i) __builtin_memcpy(to + i * kSquare, &square[i], 32);
        continue;
      }
      for (std::int64_t i = 0; i < count; ++i) {
        for (std::int64_t j = 0; j < kSquare; ++j) to[j * count + i] = lanes[i][k + j];
      }
    }
  }
}

/// Two dimensions of kColumns columns as pairs of bfloat16. Lanes of 32 bits throughout, which is what the
/// compiler vectorises well.
template <int kColumns, int kTerm>
inline void interleave_pairs(const float* even, const float* odd, std::uint32_t* pairs) {
#ifdef __AVX512BF16__
  static_assert(kColumns % 16 == 0);
  for (int n = 0; n < kColumns; n += 16) {
    const auto bits = [n](const float* values) {
      const __m256bh rounded = _mm512_cvtneps_pbh(left_for_term<kTerm>(_mm512_loadu_ps(values + n)));
      return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(rounded));
    };
    _mm512_storeu_si512(pairs + n, _mm512_or_si512(bits(even), _mm512_slli_epi32(bits(odd), 16)));
  }
  return;
#endif
#pragma omp simd
  for (int n = 0; n < kColumns; ++n) {
    pairs[n] = static_cast<std::uint32_t>(bfloat16_term<kTerm>(even[n])) |
               static_cast<std::uint32_t>(bfloat16_term<kTerm>(odd[n])) << 16;
  }
}

/// The same of a transposed matrix: columns are neighbours in memory, dimensions are `stride` apart.
template <int kColumns, bool kBfloat16>
void pack_transposed_panel(const void* rows, WeightType type, std::int64_t stride, std::int64_t d,
                           std::int64_t count, int term, void* panel) {
  const std::int64_t size = type == WeightType::kFloat32 ? 4 : 2, depth = GemmKernel::depth(d);
  float buffers[2][kColumns];
  const auto values_of = [&](std::int64_t k, float* buffer) {
    const std::int64_t present = k < d ? count : 0;
    const void* row = static_cast<const char*>(rows) + k * stride * size;
    if (present == kColumns && type == WeightType::kFloat32) return static_cast<const float*>(row);
    if (present > 0) read_weights(row, type, 0, present, buffer);
    for (std::int64_t n = present; n < kColumns; ++n) buffer[n] = 0;
    return static_cast<const float*>(buffer);
  };
  if constexpr (kBfloat16) {
    auto* to = static_cast<std::uint32_t*>(panel);
    for (std::int64_t k = 0; k < depth; k += 2, to += kColumns) {
      const float *even = values_of(k, buffers[0]), *odd = values_of(k + 1, buffers[1]);
      if (term == 0) interleave_pairs<kColumns, 0>(even, odd, to);
      if (term == 1) interleave_pairs<kColumns, 1>(even, odd, to);
      if (term == 2) interleave_pairs<kColumns, 2>(even, odd, to);
    }
  } else {
    auto* to = static_cast<float*>(panel);
    for (std::int64_t k = 0; k < depth; ++k, to += kColumns) {
      const float* values = values_of(k, buffers[0]);
      for (std::int64_t n = 0; n < kColumns; ++n) to[n] = values[n];
    }
  }
}

/// A tile panel by panel and term by term, for products that are made of one block and one panel at a time.
template <int kColumns, int kElementSize, int kRows,
          void (*kMultiply)(const void* block, std::int64_t count, const void* panel, std::int64_t d,
                            bool add, float* out, std::int64_t stride)>
void multiply_by_terms(const GemmTile& tile) {
  const std::int64_t column_bytes = GemmKernel::depth(tile.d) * kElementSize;
  const std::int64_t skipped = tile.first_dimension * kElementSize,
                     rows = tile.count < kRows ? tile.count : kRows;
  const auto* block = static_cast<const char*>(tile.block) + rows * skipped;
  const auto* panel = static_cast<const char*>(tile.panels) + kColumns * skipped;
  for (std::int64_t n = 0; n < tile.columns; n += kColumns) {
    for (int w = 0; w < tile.weight_terms; ++w) {
      for (int r = 0; r + w < tile.row_terms; ++r) {
        kMultiply(block + r * kRows * column_bytes, tile.count, panel + w * kColumns * column_bytes,
                  tile.end_dimension - tile.first_dimension,
                  /*add=*/tile.add || r + w > 0, tile.out + n, tile.stride);
      }
    }
    panel += tile.weight_terms * kColumns * column_bytes;
  }
}

}  // namespace
}  // namespace depthlens::compute
