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
  static const bool able = [] {
    try {  // where libtorch has no such product it throws
      constexpr std::int64_t kSize = 64;
      const std::vector<at::BFloat16> ones(kSize * kPanel, at::BFloat16(1.0F));
      std::vector<float> product(kRowsAtOnce * kPanel);
      at::native::cpublas::brgemm(kRowsAtOnce, kPanel, kSize, kSize, kPanel, kPanel, /*add_C=*/false,
                                  ones.data(), ones.data(), product.data(), /*is_vnni=*/true);
      at::native::cpublas::brgemm_release(/*is_vnni=*/true);
      return product[0] == kSize;
    } catch (const std::exception&) {
      return false;
    }
  }();
  return able;
#else
  return false;
#endif
}

}  // namespace depthlens::model
