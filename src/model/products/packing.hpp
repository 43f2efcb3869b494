// Packing for products of panels. Included once by each file that is compiled for an instruction set; no
// standard library here (see decode/kernels/row_statistics_impl.hpp).
#pragma once

#include <cstdint>

#include "model/products/products.hpp"

namespace depthlens::model {
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

inline std::uint16_t bfloat16_part(float value, int part) {
  std::uint16_t bits = to_bfloat16(value);
  for (; part > 0; --part) {
    value -= from_bfloat16(bits);
    bits = to_bfloat16(value);
  }
  return bits;
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

/// A square of 32-bit lanes turned about its diagonal, by interleaving halves log2(lanes) times.
template <int kBytes>
inline void transpose(typename VectorOf<kBytes>::Lanes* square) {
  using Lanes = typename VectorOf<kBytes>::Lanes;
  constexpr int kLanes = kBytes / 4;
  Lanes low, high;
  for (int i = 0; i < kLanes; ++i) {
    low[i] = static_cast<std::uint32_t>(i / 2 + i % 2 * kLanes);
    high[i] = low[i] + kLanes / 2;
  }
  Lanes other[kLanes];
#pragma GCC unroll 8
  for (int step = 1; step < kLanes; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes / 2; ++i) {
      other[2 * i] = __builtin_shuffle(square[i], square[i + kLanes / 2], low);
      other[2 * i + 1] = __builtin_shuffle(square[i], square[i + kLanes / 2], high);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) square[i] = other[i];
  }
}

typedef std::uint16_t Bits16 __attribute__((may_alias));

/// A panel as [depth][columns] of float32, or [depth / 2][columns] of pairs of bfloat16.
template <int kBytes, int kColumns, bool kBfloat16>
void pack_panel(const void* const* columns, WeightType type, std::int64_t d, int part, void* panel) {
  using Lanes = typename VectorOf<kBytes>::Lanes;
  constexpr int kLanes = kBytes / 4, kPerLane = kBfloat16 ? 2 : 1;
  constexpr std::int64_t kStrip =
      256;  // lanes of a column at a time: a strip of all fits the first-level cache
  static_assert(kColumns % kLanes == 0 && PanelProducts::kDepth % (kLanes * kPerLane) == 0);
  alignas(64) std::uint32_t strip[kLanes][kStrip];
  float buffer[kStrip * kPerLane];
  const std::int64_t lanes = PanelProducts::depth(d) / kPerLane;
  for (std::int64_t begin = 0; begin < lanes; begin += kStrip) {
    const std::int64_t count = lanes - begin < kStrip ? lanes - begin : kStrip;
    const std::int64_t first = begin * kPerLane;
    const std::int64_t left = d - first, width = count * kPerLane;
    const std::int64_t present = left < width ? left : width;
    for (std::int64_t group = 0; group < kColumns; group += kLanes) {
      for (int t = 0; t < kLanes; ++t) {
        const void* column = columns[group + t];
        const std::int64_t found = column != nullptr ? present : 0;
        const bool in_place = found == width && type == WeightType::kFloat32;
        if (!in_place && found > 0) read_weights(column, type, first, found, buffer);
        for (std::int64_t k = found; k < width; ++k) buffer[k] = 0;
        const float* values = in_place ? static_cast<const float*>(column) + first : buffer;
        if constexpr (kBfloat16) {
          auto* pairs = reinterpret_cast<Bits16*>(strip[t]);
          for (std::int64_t k = 0; k < width; ++k) pairs[k] = bfloat16_part(values[k], part);
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

/// A block as [depth][count] of float32, or [depth / 2][count] of pairs of bfloat16.
template <bool kBfloat16>
void pack_block(const float* rows, std::int64_t count, std::int64_t d, int part, void* block) {
  const std::int64_t depth = PanelProducts::depth(d);
  for (std::int64_t i = 0; i < count; ++i) {
    const float* row = rows + i * d;
    if constexpr (kBfloat16) {
      auto* to = static_cast<std::uint16_t*>(block);
      for (std::int64_t k = 0; k < depth; ++k)
        to[(k / 2 * count + i) * 2 + k % 2] = k < d ? bfloat16_part(row[k], part) : std::uint16_t{0};
    } else {
      auto* to = static_cast<float*>(block);
      for (std::int64_t k = 0; k < depth; ++k) to[k * count + i] = k < d ? row[k] : 0;
    }
  }
}

}  // namespace
}  // namespace depthlens::model
