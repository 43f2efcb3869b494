// The conversions that packing is made of, for every 16-bit pattern, against libtorch's.
#include "compute/cpu/packing.hpp"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "support/catch.hpp"

namespace depthlens {
namespace {

bool same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

TEST_CASE("packing: every float16 and bfloat16 becomes the float32 it stands for") {
  std::int64_t wrong = 0;
  for (std::uint32_t i = 0; i <= 0xffff; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    if (!same(compute::from_float16(bits), static_cast<float>(c10::Half(bits, c10::Half::from_bits()))))
      ++wrong;
    const c10::BFloat16 expected(bits, c10::BFloat16::from_bits());
    if (!same(compute::from_bfloat16(bits), static_cast<float>(expected))) ++wrong;
    if (!same(compute::from_bfloat16(compute::to_bfloat16(static_cast<float>(expected))),
              static_cast<float>(expected)))
      ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("packing: float32 is rounded to bfloat16 as libtorch does it") {
  std::int64_t wrong = 0;
  std::uint32_t state = 1;
  for (int i = 0; i < 200'000; ++i) {
    state = state * 1664525U + 1013904223U;
    const auto value = __builtin_bit_cast(float, state);
    const c10::BFloat16 expected(value);
    if (!same(compute::from_bfloat16(compute::to_bfloat16(value)), static_cast<float>(expected))) ++wrong;
  }
  CHECK(wrong == 0);
  for (const float halfway : {1.00390625F, 1.01171875F, -1.00390625F}) {  // to even
    CHECK(compute::from_bfloat16(compute::to_bfloat16(halfway)) ==
          static_cast<float>(static_cast<c10::BFloat16>(halfway)));
  }
}

TEST_CASE("packing: two terms of bfloat16 hold a number to 16 bits, three hold all of it") {
  std::uint32_t state = 7;
  for (int i = 0; i < 1000; ++i) {
    state = state * 1664525U + 1013904223U;
    const float value = (static_cast<float>(state >> 8) / 8388608.0F - 1) * 100;
    const float high = compute::from_bfloat16(compute::bfloat16_term<0>(value)),
                middle = compute::from_bfloat16(compute::bfloat16_term<1>(value)),
                low = compute::from_bfloat16(compute::bfloat16_term<2>(value));
    CHECK(std::abs(high + middle - value) <= std::abs(value) * std::ldexp(1.0F, -16));
    CHECK(high + middle + low == value);
  }
  const float none = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(compute::from_bfloat16(compute::to_bfloat16(none))));
}

}  // namespace
}  // namespace depthlens
