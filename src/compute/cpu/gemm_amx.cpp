// GEMM microkernel of bfloat16 by AMX: 32 × 32 sums stay in four tile registers while the dimensions go by,
// and every tile of rows or weights that is loaded serves all the terms it takes term in.
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "compute/cpu/packing.hpp"

namespace depthlens::compute {
namespace {

constexpr int kTile = 16;  // rows of a tile register
constexpr int kRows = 2 * kTile, kColumns = 2 * kTile;
constexpr int kStep = 32;  // dimensions of a tile register
constexpr std::int64_t kTileElements = kTile * kStep;
/// Tiles along the dimensions that are multiplied with all columns before the next. Of several terms so many
/// of a block's rows stay in the first-level cache, beside the weights that go by (2 KiB a step and term); of
/// one term, sums would come and go more often than that is worth.
constexpr std::int64_t steps_at_once(int row_terms) {
  return row_terms == 1 ? 24 : row_terms == 2 ? 8 : 4;
}

struct alignas(64) TileConfiguration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t column_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {kTile, kTile, kTile, kTile, kTile, kTile, kTile, kTile};
};
// Not on the stack: GCC 12 drops stores to one, seeing no use of it.
const TileConfiguration kConfiguration;

/// A block as [steps][two tiles of 16 rows][16][32 dimensions]; rows beyond `count` are zeros.
void pack_rows(const float* rows, std::int64_t count, std::int64_t d, int term, void* block) {
  const std::int64_t steps = GemmKernel::depth(d) / kStep;
  auto* to = static_cast<Bits16*>(block);
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t s = 0; s < steps; ++s) {
      const std::int64_t left = i < count ? d - s * kStep : 0, present = left < kStep ? left : kStep;
      Bits16* row = to + (s * 2 + i / kTile) * kTileElements + i % kTile * kStep;
      if (present == kStep) {  // of a length that the compiler knows
        bfloat16_terms(rows + i * d + s * kStep, kStep, term, row);
        continue;
      }
      if (present > 0) bfloat16_terms(rows + i * d + s * kStep, present, term, row);
      for (std::int64_t k = present; k < kStep; ++k) row[k] = 0;
    }
  }
}

/// The terms of the rows in the order in which a term of the weights takes them: the first is the one that
/// the term before took last, and so is loaded already. (Of three terms 2, 0, 1; then 1, 0; then 0.)
constexpr int row_term_at(int row_terms, int weight_term, int place) {
  const int terms = row_terms - weight_term;
  return terms < 3 ? terms - 1 - place : place == 0 ? 2 : place - 1;
}

/// Tile registers 0 to 3 hold the sums [2][2]; 4 and 5 weights; 6 and 7 rows. Loads of tiles are what this
/// waits for: where another thread shares the core they take several times as long as products.
template <int kRowTerms, int kWeightTerms>
inline void add_step(const char* rows, std::int64_t row_term, const char* weights, std::int64_t weight_term) {
  constexpr int kRowStride = kStep * 2, kWeightStride = kColumns * 4;
  constexpr std::int64_t kTileBytes = kTileElements * 2;
#pragma GCC unroll 3
  for (int w = 0; w < kWeightTerms; ++w) {
    _tile_stream_loadd(4, weights + w * weight_term, kWeightStride);
    _tile_stream_loadd(5, weights + w * weight_term + kTile * 4, kWeightStride);
#pragma GCC unroll 3
    for (int place = 0; place < kRowTerms - w; ++place) {
      if (w == 0 || place > 0) {
        const char* term = rows + row_term_at(kRowTerms, w, place) * row_term;
        _tile_loadd(6, term, kRowStride);
        _tile_loadd(7, term + kTileBytes, kRowStride);
      }
      _tile_dpbf16ps(0, 6, 4);
      _tile_dpbf16ps(1, 6, 5);
      _tile_dpbf16ps(2, 7, 4);
      _tile_dpbf16ps(3, 7, 5);
    }
  }
}

template <int kRowTerms, int kWeightTerms>
void multiply_terms(const GemmTile& tile) {
  const std::int64_t step_bytes = 2 * kTileElements * 2;  // of rows and of weights alike
  const std::int64_t term_bytes = GemmKernel::depth(tile.d) / kStep * step_bytes, stride = tile.stride * 4;
  const std::int64_t first_step = tile.first_dimension / kStep,
                     end_step = GemmKernel::depth(tile.end_dimension) / kStep;
  const auto* rows = static_cast<const char*>(tile.block);
  _tile_loadconfig(&kConfiguration);
  constexpr std::int64_t kAtOnce = steps_at_once(kRowTerms);
  // A share of the block behind this one is fetched with each step, one term after the other.
  constexpr std::int64_t kLine = 64;
  const std::int64_t lines = (kRowTerms * step_bytes * kColumns / tile.columns + kLine - 1) / kLine;
  const char* fetched = rows + kRowTerms * term_bytes + first_step * step_bytes;
  const char* term_end = fetched + (end_step - first_step) * step_bytes;
  int terms_left = tile.block_follows ? kRowTerms : 0;
  for (std::int64_t first = first_step; first < end_step; first += kAtOnce) {
    const std::int64_t end = first + kAtOnce < end_step ? first + kAtOnce : end_step;
    const auto* panel = static_cast<const char*>(tile.panels);
    for (std::int64_t n = 0; n < tile.columns; n += kColumns, panel += kWeightTerms * term_bytes) {
      float* upper = tile.out + n;
      float* lower = upper + kTile * tile.stride;
      if (first == first_step && !tile.add) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
      } else {
        _tile_loadd(0, upper, stride);
        _tile_loadd(1, upper + kTile, stride);
        _tile_loadd(2, lower, stride);
        _tile_loadd(3, lower + kTile, stride);
      }
      for (std::int64_t s = first; s < end; ++s) {
        add_step<kRowTerms, kWeightTerms>(rows + s * step_bytes, term_bytes, panel + s * step_bytes,
                                          term_bytes);
        for (std::int64_t line = 0; line < lines && terms_left > 0; ++line) {
          _mm_prefetch(fetched, _MM_HINT_T1);
          fetched += kLine;
          if (fetched < term_end) continue;
          fetched = term_end + term_bytes - (end_step - first_step) * step_bytes;
          term_end += term_bytes;
          --terms_left;
        }
      }
      _tile_stored(0, upper, stride);
      _tile_stored(1, upper + kTile, stride);
      _tile_stored(2, lower, stride);
      _tile_stored(3, lower + kTile, stride);
    }
  }
  _tile_release();
}

void multiply(const GemmTile& tile) {
  using Multiply = void (*)(const GemmTile&);
  static constexpr Multiply kByTerms[3][3] = {
      {multiply_terms<1, 1>, nullptr, nullptr},
      {multiply_terms<2, 1>, multiply_terms<2, 2>, nullptr},
      {multiply_terms<3, 1>, multiply_terms<3, 2>, multiply_terms<3, 3>}};
  if (tile.columns > 0) kByTerms[tile.row_terms - 1][tile.weight_terms - 1](tile);
}

}  // namespace

bool amx_is_usable() {
  static const bool usable = [] {
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, of Linux 5.16
    return __builtin_cpu_supports("amx-bf16") && __builtin_cpu_supports("amx-tile") &&
           __builtin_cpu_supports("avx512bf16") &&
           ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return usable;
}

const GemmKernel kAmxGemm = {.panel_columns = kColumns,
                             .block_rows = kRows,
                             .element_size = 2,
                             .outruns_cache = true,
                             .pack_columns = pack_panel<64, kColumns, true>,
                             .pack_transposed = pack_transposed_panel<kColumns, true>,
                             .pack_rows = pack_rows,
                             .multiply = multiply};

}  // namespace depthlens::compute
