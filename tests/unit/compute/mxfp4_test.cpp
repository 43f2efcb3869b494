// MXFP4 weights against the table of the specification.
#include "depthlens/compute/mxfp4.hpp"

#include <ATen/ops/from_blob.h>

#include <array>
#include <cmath>
#include <vector>

#include "support/catch.hpp"
#include "support/devices.hpp"

namespace depthlens {
namespace {

/// A code's value: one bit for the sign, two for the exponent, one for the fraction.
double value_of(int code) {
  const int exponent = code >> 1 & 3, fraction = code & 1;
  const double magnitude = exponent == 0 ? 0.5 * fraction : std::ldexp(1 + 0.5 * fraction, exponent - 1);
  return code & 8 ? -magnitude : magnitude;
}

TEST_CASE("MXFP4 weights have exactly the values of their codes and scales") {
  constexpr std::int64_t kRows = 40, kGroups = 3;
  std::vector<std::uint8_t> codes, exponents;
  for (std::int64_t i = 0; i < kRows * kGroups * 16; ++i)
    codes.push_back(static_cast<std::uint8_t>(i * 37 + i / 16 * 11));
  // From the smallest that bfloat16 has as normal numbers to the greatest that it has.
  for (std::int64_t i = 0; i < kRows * kGroups; ++i)
    exponents.push_back(static_cast<std::uint8_t>(2 + i * 249 / (kRows * kGroups - 1)));
  const at::Tensor all_codes = at::from_blob(codes.data(), {kRows, kGroups, 16}, at::kByte);
  const at::Tensor all_exponents = at::from_blob(exponents.data(), {kRows, kGroups}, at::kByte);
  for (const std::string& device : test::devices()) {
    INFO("on " << device);
    for (const std::int64_t step : {1, 2}) {  // every second row is a view with gaps
      const auto part = [&](const at::Tensor& x) {
        return test::moved(x, device).slice(0, step - 1, kRows, step);
      };
      const at::Tensor found =
          compute::unfold_mxfp4(part(all_codes), part(all_exponents)).to(at::kCPU, at::kDouble);
      REQUIRE(found.sizes() == at::IntArrayRef({kRows / step, 32 * kGroups}));
      const double* value = found.const_data_ptr<double>();
      bool same = true;
      for (std::int64_t row = step - 1; row < kRows; row += step) {
        for (std::int64_t i = 0; i < 32 * kGroups; ++i, ++value) {
          const std::uint8_t byte =
              codes[static_cast<std::size_t>((row * kGroups + i / 32) * 16 + i % 32 / 2)];
          const int exponent = exponents[static_cast<std::size_t>(row * kGroups + i / 32)] - 127;
          same = same && *value == std::ldexp(value_of(i % 2 == 0 ? byte & 15 : byte >> 4), exponent);
        }
      }
      CHECK(same);
    }
  }
}

}  // namespace
}  // namespace depthlens
