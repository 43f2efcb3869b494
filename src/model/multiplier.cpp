// Packing and multiplying with all parts that an arithmetic takes.
#include "depthlens/model/multiplier.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <new>
#include <vector>

#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"
#include "model/products/products.hpp"

namespace depthlens::model {
namespace {

using util::parts_of;

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

}  // namespace

at::Tensor aligned_bytes(std::int64_t size) {
#ifdef __linux__
  // In pages of 2 MB where there are such: what is read again and again then needs few entries of the
  // processor's page table caches.
  constexpr std::int64_t kHugePage = 2 << 20, kWorthIt = 256 << 10;
  if (size >= kWorthIt) {
    const std::int64_t whole = util::rounded_up(size, kHugePage);
    void* bytes = std::aligned_alloc(kHugePage, static_cast<std::size_t>(whole));
    if (bytes == nullptr) throw std::bad_alloc();
    ::madvise(bytes, static_cast<std::size_t>(whole), MADV_HUGEPAGE);
    return at::from_blob(
        bytes, {size}, [](void* memory) { std::free(memory); }, at::kByte);
  }
#endif
  return at::empty({size}, at::kByte);  // libtorch aligns to 64 bytes
}

Multiplier::Multiplier(const Arithmetic& arithmetic, at::Tensor weights)
    : products_(*arithmetic.products),
      weights_(std::move(weights)),
      type_(weight_type(weights_)),
      d_(weights_.size(1)) {
  DEPTHLENS_ASSERT(weights_.dim() == 2 && weights_.is_contiguous() && weights_.device().is_cpu());
  const int needed = type_ == WeightType::kBfloat16 ? 1 : type_ == WeightType::kFloat16 ? 2 : 3;
  row_parts_ = arithmetic.parts;
  weight_parts_ = std::min(arithmetic.parts, needed);
}

std::int64_t Multiplier::block_rows() const {
  return products_.block_rows;
}

std::int64_t Multiplier::panel_columns() const {
  return products_.panel_columns;
}

std::int64_t Multiplier::part_of_block_bytes() const {
  return products_.block_rows * PanelProducts::depth(d_) * products_.element_size;
}

std::int64_t Multiplier::part_of_panel_bytes() const {
  return products_.panel_columns * PanelProducts::depth(d_) * products_.element_size;
}

std::int64_t Multiplier::block_bytes() const {
  return row_parts_ * part_of_block_bytes();
}

std::int64_t Multiplier::columns_bytes(std::int64_t columns) const {
  return parts_of(columns, products_.panel_columns) * weight_parts_ * part_of_panel_bytes();
}

std::int64_t Multiplier::tile_columns(std::int64_t most) const {
  constexpr std::int64_t kTileBytes = 640 << 10;
  const std::int64_t fit = kTileBytes / columns_bytes(1), wanted = most / products_.panel_columns;
  return std::max<std::int64_t>(1, std::min(fit, wanted)) * products_.panel_columns;
}

void Multiplier::pack_block(const float* rows, std::int64_t count, std::uint8_t* block) const {
  for (int part = 0; part < row_parts_; ++part)
    products_.pack_rows(rows, count, d_, part, block + part * part_of_block_bytes());
}

at::Tensor Multiplier::pack_rows(const at::Tensor& x) const {
  DEPTHLENS_ASSERT(x.dim() == 2 && x.size(1) == d_ && x.is_contiguous());
  const std::int64_t T = x.size(0), B = block_rows(), bytes = block_bytes();
  at::Tensor blocks = aligned_bytes(parts_of(T, B) * bytes);
  auto* to = blocks.mutable_data_ptr<std::uint8_t>();
  const float* from = x.const_data_ptr<float>();
  at::parallel_for(0, parts_of(T, B), 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      pack_block(from + b * B * d_, std::min(B, T - b * B), to + b * bytes);
  });
  return blocks;
}

void Multiplier::pack_columns(std::int64_t count, const std::function<std::int64_t(std::int64_t)>& column_of,
                              std::uint8_t* panels) const {
  const auto* weights = static_cast<const std::uint8_t*>(weights_.const_data_ptr());
  const std::int64_t column_bytes = d_ * static_cast<std::int64_t>(weights_.element_size());
  std::vector<const void*> columns(static_cast<std::size_t>(products_.panel_columns));
  for (std::int64_t first = 0; first < count; first += products_.panel_columns) {
    for (std::int64_t n = 0; n < products_.panel_columns; ++n) {
      const std::int64_t column = first + n < count ? column_of(first + n) : -1;
      columns[static_cast<std::size_t>(n)] = column < 0 ? nullptr : weights + column * column_bytes;
    }
    for (int part = 0; part < weight_parts_; ++part) {
      products_.pack_columns(columns.data(), type_, d_, part, panels);
      panels += part_of_panel_bytes();
    }
  }
}

void Multiplier::multiply(const std::uint8_t* block, std::int64_t count, const std::uint8_t* panels,
                          std::int64_t columns, float* out, std::int64_t stride) const {
  products_.multiply({.block = block,
                      .count = count,
                      .row_parts = row_parts_,
                      .panels = panels,
                      .columns = util::rounded_up(columns, products_.panel_columns),
                      .weight_parts = weight_parts_,
                      .d = d_,
                      .out = out,
                      .stride = stride});
}

}  // namespace depthlens::model
