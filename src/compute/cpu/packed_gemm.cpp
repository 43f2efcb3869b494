// Packing and multiplying with all terms that a kernel takes.
#include "compute/cpu/packed_gemm.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <new>
#include <vector>

#include "compute/cpu/gemm.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::compute {
namespace {

using util::ceil_div;

WeightType weight_type(const at::Tensor& weights) {
  switch (weights.scalar_type()) {
    case at::kFloat:
      return WeightType::kFloat32;
    case at::kBFloat16:
      return WeightType::kBfloat16;
    case at::kHalf:
      return WeightType::kFloat16;
    default:
      DEPTHLENS_ASSERT(false);
      return WeightType::kFloat32;
  }
}

/// Bytes of the second-level cache of this processor.
std::int64_t second_cache_bytes() {
  constexpr std::int64_t kUsual = 1 << 20;
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const std::int64_t found = ::sysconf(_SC_LEVEL2_CACHE_SIZE);
  return found > 0 ? found : kUsual;  // some systems do not say
#else
  return kUsual;
#endif
}

}  // namespace

at::Tensor aligned_bytes(std::int64_t size) {
#ifdef __linux__
  // In pages of 2 MB where there are such: what is read again and again then needs few entries of the
  // processor's page table caches.
  constexpr std::int64_t kHugePage = 2 << 20, kWorthIt = 256 << 10;
  if (size >= kWorthIt) {
    const std::int64_t whole = util::round_up(size, kHugePage);
    void* bytes = std::aligned_alloc(kHugePage, static_cast<std::size_t>(whole));
    if (bytes == nullptr) throw std::bad_alloc();
    ::madvise(bytes, static_cast<std::size_t>(whole), MADV_HUGEPAGE);
    return at::from_blob(
        bytes, {size}, [](void* memory) { std::free(memory); }, at::kByte);
  }
#endif
  return at::empty({size}, at::kByte);  // libtorch aligns to 64 bytes
}

PackedGemm::PackedGemm(const CpuKernel& kernel, Precision precision, at::Tensor weights, Way way)
    : kernel_(*kernel.gemm),
      weights_(std::move(weights)),
      way_(way),
      type_(weight_type(weights_)),
      d_(weights_.size(way == Way::kForward ? 1 : 0)) {
  DEPTHLENS_ASSERT(weights_.dim() == 2 && weights_.is_contiguous() && weights_.device().is_cpu());
  const int needed = type_ == WeightType::kBfloat16 ? 1 : type_ == WeightType::kFloat16 ? 2 : 3;
  row_terms_ = kernel.terms(precision);
  weight_terms_ = std::min(row_terms_, needed);
}

/// Weights that are used again and again: processors that multiply split bfloat16 quickly have second-level
/// caches of 2 MB.
std::int64_t PackedGemm::tile_bytes() const {
  return (kernel_.element_size == 2 ? 800 : 640) << 10;
}

std::int64_t PackedGemm::block_rows() const {
  return kernel_.block_rows;
}

std::int64_t PackedGemm::panel_columns() const {
  return kernel_.panel_columns;
}

std::int64_t PackedGemm::block_term_bytes(std::int64_t d) const {
  return kernel_.block_rows * GemmKernel::depth(d) * kernel_.element_size;
}

std::int64_t PackedGemm::panel_term_bytes(std::int64_t d) const {
  return kernel_.panel_columns * GemmKernel::depth(d) * kernel_.element_size;
}

std::int64_t PackedGemm::block_bytes() const {
  return row_terms_ * block_term_bytes(d_);
}

std::int64_t PackedGemm::columns_bytes(std::int64_t columns) const {
  return ceil_div(columns, kernel_.panel_columns) * weight_terms_ * panel_term_bytes(d_);
}

std::int64_t PackedGemm::whole_panels(std::int64_t columns) const {
  return std::max<std::int64_t>(1, columns / kernel_.panel_columns) * kernel_.panel_columns;
}

std::int64_t PackedGemm::tile_columns(std::int64_t max) const {
  return whole_panels(std::min(tile_bytes() / columns_bytes(1) * kernel_.panel_columns, max));
}

PackedGemm::Tiling PackedGemm::whole(std::int64_t columns) const {
  return {.columns = columns, .depth = GemmKernel::depth(d_), .blocks = 1};
}

PackedGemm::Tiling PackedGemm::sliced(std::int64_t columns) const {
  constexpr std::int64_t kProductBytes = 768 << 10;  // beside a slice of the weights
  const std::int64_t slices = ceil_div(columns_bytes(columns), tile_bytes());
  return {.columns = columns,
          .depth = util::round_up(ceil_div(GemmKernel::depth(d_), slices), GemmKernel::kDepth),
          .blocks = std::max<std::int64_t>(1, kProductBytes / (kernel_.block_rows * columns * 4))};
}

PackedGemm::Tiling PackedGemm::tiling(std::int64_t max_columns, std::int64_t num_blocks) const {
  constexpr std::int64_t kFewColumns = 160, kFewBlocks = 4;
  const std::int64_t fit = tile_columns(max_columns), wide = whole_panels(max_columns);
  if (!kernel_.outruns_cache || fit >= std::min(kFewColumns, wide) || num_blocks < kFewBlocks)
    return whole(fit);
  Tiling tiling = sliced(wide);
  tiling.blocks = std::min(tiling.blocks, num_blocks);
  return tiling;
}

PackedGemm::Tiling PackedGemm::tiling_both_ways(std::int64_t max_columns, std::int64_t max_sliced) const {
  // Rows, and what is added up for them, go by: they need the rest. But the way back is summed over the
  // columns: with few of them, its sums come and go more often than the cache is worth.
  constexpr std::int64_t kMinColumns = 192;
  const std::int64_t both = second_cache_bytes() * 3 / 5,
                     fit = both / (2 * columns_bytes(1)) * kernel_.panel_columns;
  if (kernel_.outruns_cache && fit < whole_panels(max_columns)) return sliced(whole_panels(max_sliced));
  return whole(
      std::min(std::max(fit, util::round_up(kMinColumns, kernel_.panel_columns)), tile_columns(max_columns)));
}

void PackedGemm::pack_block(const float* rows, std::int64_t count, std::uint8_t* block) const {
  pack_terms(rows, count, d_, block);
}

void PackedGemm::pack_terms(const float* rows, std::int64_t count, std::int64_t d,
                            std::uint8_t* block) const {
  for (int term = 0; term < row_terms_; ++term)
    kernel_.pack_rows(rows, count, d, term, block + term * block_term_bytes(d));
}

void PackedGemm::pack_neighbours(std::int64_t first, std::int64_t count, std::uint8_t* panels) const {
  if (way_ == Way::kForward)
    return pack_columns(
        count, [&](std::int64_t i) { return first + i; }, panels);
  pack_turned(0, d_, first, count, panels);
}

void PackedGemm::pack_turned(std::int64_t first_row, std::int64_t depth, std::int64_t first_column,
                             std::int64_t count, std::uint8_t* panels) const {
  const auto size = static_cast<std::int64_t>(weights_.element_size());
  const std::int64_t stride = weights_.size(1);
  const auto* rows = static_cast<const std::uint8_t*>(weights_.const_data_ptr()) + first_row * stride * size;
  for (std::int64_t n = 0; n < count; n += kernel_.panel_columns) {
    for (int term = 0; term < weight_terms_; ++term) {
      kernel_.pack_transposed(rows + (first_column + n) * size, type_, stride, depth,
                              std::min(kernel_.panel_columns, count - n), term, panels);
      panels += panel_term_bytes(depth);
    }
  }
}

void PackedGemm::pack_columns(std::int64_t count, const std::function<std::int64_t(std::int64_t)>& column_of,
                              std::uint8_t* panels) const {
  DEPTHLENS_ASSERT(way_ == Way::kForward);
  const auto* weights = static_cast<const std::uint8_t*>(weights_.const_data_ptr());
  const std::int64_t column_bytes = d_ * static_cast<std::int64_t>(weights_.element_size());
  std::vector<const void*> columns(static_cast<std::size_t>(kernel_.panel_columns));
  for (std::int64_t first = 0; first < count; first += kernel_.panel_columns) {
    for (std::int64_t n = 0; n < kernel_.panel_columns; ++n) {
      const std::int64_t column = first + n < count ? column_of(first + n) : -1;
      columns[static_cast<std::size_t>(n)] = column < 0 ? nullptr : weights + column * column_bytes;
    }
    for (int term = 0; term < weight_terms_; ++term) {
      kernel_.pack_columns(columns.data(), type_, d_, term, panels);
      panels += panel_term_bytes(d_);
    }
  }
}

void PackedGemm::multiply(const std::uint8_t* block, std::int64_t count, const std::uint8_t* panels,
                          std::int64_t columns, float* out, std::int64_t stride) const {
  multiply({.first = block, .num_blocks = 1, .count = count, .last_count = count}, GemmKernel::depth(d_),
           panels, columns, out, stride);
}

void PackedGemm::multiply(const Blocks& blocks, std::int64_t depth, const std::uint8_t* panels,
                          std::int64_t columns, float* out, std::int64_t stride) const {
  multiply_slices(blocks, d_, depth, panels, columns, out, stride);
}

void PackedGemm::multiply_slices(const Blocks& blocks, std::int64_t d, std::int64_t depth,
                                 const std::uint8_t* panels, std::int64_t columns, float* out,
                                 std::int64_t stride) const {
  const std::int64_t bytes = row_terms_ * block_term_bytes(d);
  for (std::int64_t first = 0; first < d; first += depth) {
    for (std::int64_t b = 0; b < blocks.num_blocks; ++b) {
      const std::int64_t count = b + 1 < blocks.num_blocks ? blocks.count : blocks.last_count;
      GemmTile product =
          tile(blocks.first + b * bytes, count, panels, columns, d, out + b * block_rows() * stride, stride);
      product.first_dimension = first;
      product.end_dimension = std::min(d, first + depth);
      product.add = first > 0;
      product.block_follows = true;
      kernel_.multiply(product);
    }
  }
}

GemmTile PackedGemm::tile(const std::uint8_t* block, std::int64_t count, const std::uint8_t* panels,
                          std::int64_t columns, std::int64_t d, float* out, std::int64_t stride) const {
  return {.block = block,
          .count = count,
          .row_terms = row_terms_,
          .panels = panels,
          .columns = util::round_up(columns, kernel_.panel_columns),
          .weight_terms = weight_terms_,
          .d = d,
          .first_dimension = 0,
          .end_dimension = d,
          .out = out,
          .stride = stride};
}

std::int64_t PackedGemm::transposed_bytes(std::int64_t width, std::int64_t columns) const {
  return ceil_div(columns, kernel_.panel_columns) * weight_terms_ * panel_term_bytes(width);
}

std::int64_t PackedGemm::coefficients_bytes(std::int64_t width) const {
  return row_terms_ * block_term_bytes(width);
}

void PackedGemm::pack_transposed(std::int64_t first, std::int64_t width, std::int64_t first_column,
                                 std::int64_t count, std::uint8_t* panels) const {
  DEPTHLENS_ASSERT(way_ == Way::kForward);
  pack_turned(first, width, first_column, count, panels);
}

void PackedGemm::pack_coefficients(const float* coefficients, std::int64_t count, std::int64_t width,
                                   std::uint8_t* block) const {
  pack_terms(coefficients, count, width, block);
}

void PackedGemm::add_expected(const Blocks& coefficients, std::int64_t width, const std::uint8_t* panels,
                              const Tiling& tiling, float* sums, float* out, std::int64_t stride) const {
  if (tiling.blocks == 1) {
    GemmTile product = tile(coefficients.first, coefficients.last_count, panels, d_, width, out, stride);
    product.add = true;
    return kernel_.multiply(product);
  }
  const std::int64_t rows = (coefficients.num_blocks - 1) * block_rows() + coefficients.last_count;
  for (std::int64_t first = 0; first < d_; first += tiling.columns) {
    const std::int64_t columns = std::min(tiling.columns, d_ - first);
    multiply_slices(coefficients, width, tiling.depth, panels + transposed_bytes(width, first), columns, sums,
                    tiling.columns);
    for (std::int64_t i = 0; i < rows; ++i) {
      const float* from = sums + i * tiling.columns;
      float* to = out + i * stride + first;
      for (std::int64_t n = 0; n < columns; ++n) to[n] += from[n];
    }
  }
}

at::Tensor pack_blocks(const PackedGemm& gemm, const at::Tensor& x, std::int64_t num_states) {
  DEPTHLENS_ASSERT(x.dim() == 2 && x.size(1) == gemm.depth() && x.is_contiguous());
  DEPTHLENS_ASSERT(num_states >= 1 && x.size(0) % num_states == 0);
  const std::int64_t S = num_states, P = x.size(0) / S, d = gemm.depth(), block_rows = gemm.block_rows(),
                     num_blocks = S * ceil_div(P, block_rows), bytes = gemm.block_bytes();
  at::Tensor blocks = aligned_bytes(num_blocks * bytes);
  auto* to = blocks.mutable_data_ptr<std::uint8_t>();
  const float* from = x.const_data_ptr<float>();
  at::parallel_for(0, num_blocks, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i / S * block_rows;
      gemm.pack_block(from + (i % S * P + first) * d, std::min(block_rows, P - first), to + i * bytes);
    }
  });
  return blocks;
}

}  // namespace depthlens::compute
