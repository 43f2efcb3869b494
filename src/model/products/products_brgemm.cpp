// Products of panels of bfloat16 by libtorch's small products, which use AMX where the processor has it.
#include <ATen/native/CPUBlas.h>

#include <exception>
#include <vector>

#include "depthlens/model/small_products.hpp"
#include "model/products/packing.hpp"

namespace depthlens::model {
#ifdef DEPTHLENS_X86
namespace {

/// A block is row-major here, and always whole: rows beyond `count` are zeros.
void pack_whole_block(const float* rows, std::int64_t count, std::int64_t d, int part, void* block) {
  const std::int64_t depth = PanelProducts::depth(d);
  auto* to = static_cast<std::uint16_t*>(block);
  for (std::int64_t i = 0; i < kRowsAtOnce; ++i) {
    for (std::int64_t k = 0; k < depth; ++k)
      to[i * depth + k] = i < count && k < d ? bfloat16_part(rows[i * d + k], part) : std::uint16_t{0};
  }
}

void multiply(const void* block, std::int64_t /*count*/, const void* panel, std::int64_t d, bool add,
              float* out, std::int64_t stride) {
  const std::int64_t depth = PanelProducts::depth(d);
  at::native::cpublas::brgemm(kRowsAtOnce, kPanel, depth, depth, kPanel, stride, add,
                              static_cast<const at::BFloat16*>(block),
                              static_cast<const at::BFloat16*>(panel), out, /*is_vnni=*/true);
}

void release() {
  at::native::cpublas::brgemm_release(/*is_vnni=*/true);
}

}  // namespace

const PanelProducts kBrgemmProducts = {.panel_columns = kPanel,
                                       .block_rows = kRowsAtOnce,
                                       .element_size = 2,
                                       .pack_columns = pack_columns_for_brgemm,
                                       .pack_rows = pack_whole_block,
                                       .multiply = multiply,
                                       .release = release};
#endif

bool multiplies_bfloat16() {
#ifdef DEPTHLENS_X86
  if (!__builtin_cpu_supports("avx512bf16")) return false;
  // Small whole numbers, whose products and sums are exact: a library without such products throws, and one
  // whose products are wrong must not be used.
  static const bool able = [] {
    constexpr std::int64_t kDepth = 96;
    const auto x = [](std::int64_t i, std::int64_t k) {
      return static_cast<float>((i * 7 + k * 3) % 17 - 8);
    };
    const auto w = [](std::int64_t n, std::int64_t k) {
      return static_cast<float>((n * 5 + k * 11) % 13 - 6);
    };
    std::vector<at::BFloat16> rows(kRowsAtOnce * kDepth), panel(kDepth * kPanel);
    for (std::int64_t k = 0; k < kDepth; ++k) {
      for (std::int64_t i = 0; i < kRowsAtOnce; ++i) rows[static_cast<std::size_t>(i * kDepth + k)] = x(i, k);
      for (std::int64_t n = 0; n < kPanel; ++n)
        panel[static_cast<std::size_t>((k / 2 * kPanel + n) * 2 + k % 2)] = w(n, k);
    }
    std::vector<float> product(kRowsAtOnce * kPanel);
    try {
      for (const bool add : {false, true}) {
        at::native::cpublas::brgemm(kRowsAtOnce, kPanel, kDepth, kDepth, kPanel, kPanel, add, rows.data(),
                                    panel.data(), product.data(), /*is_vnni=*/true);
      }
      at::native::cpublas::brgemm_release(/*is_vnni=*/true);
    } catch (const std::exception&) {
      return false;
    }
    for (std::int64_t i = 0; i < kRowsAtOnce; ++i) {
      for (std::int64_t n = 0; n < kPanel; ++n) {
        float expected = 0;
        for (std::int64_t k = 0; k < kDepth; ++k) expected += 2 * x(i, k) * w(n, k);
        if (product[static_cast<std::size_t>(i * kPanel + n)] != expected) return false;
      }
    }
    return true;
  }();
  return able;
#else
  return false;
#endif
}

}  // namespace depthlens::model
