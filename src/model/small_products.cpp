// Whether libtorch's small products serve this processor.
#include "depthlens/model/small_products.hpp"

#include <ATen/native/CPUBlas.h>

#include <exception>
#include <vector>

namespace depthlens::model {

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
