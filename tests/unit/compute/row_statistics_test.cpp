// Every instruction set's row statistics against float64, for widths that fill no vector.
#include "compute/cpu/row_statistics.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "compute/cpu/kernels.hpp"
#include "support/catch.hpp"

namespace depthlens {
namespace {

constexpr int kMaxWidth = 400;

std::vector<float> some_logits(std::uint32_t seed) {
  std::vector<float> logits(kMaxWidth);
  for (float& z : logits) {
    seed = seed * 1664525U + 1013904223U;
    z = static_cast<float>(seed >> 8) / 16777216.0F * 30 - 12;
  }
  return logits;
}

/// Whether `found` is the sum up to the roundings of its terms, whose sizes add up to `size`.
bool close(float found, double sum, double size) {
  return std::abs(found - sum) <= 1e-6 * size;
}

TEST_CASE("row statistics: sums, counts and places of every width") {
  const std::vector<float> z = some_logits(1), f = some_logits(2);
  const float m = 19, m_f = 18;
  for (const compute::CpuKernel& kernel : compute::usable_kernels(compute::Precision::kFast)) {
    if (kernel.statistics == nullptr) continue;
    const compute::RowStatistics& statistics = *kernel.statistics;
    for (int width = 1; width <= kMaxWidth; width += width < 70 ? 1 : 11) {
      INFO(kernel.name << ", width " << width);
      std::array<std::vector<float>, 4> out;
      for (auto& values : out) values.assign(kMaxWidth, -1);
      auto& [shifted, final_e, e, plain_e] = out;
      statistics.shift_and_exp(f.data(), width, m_f, shifted.data(), final_e.data());
      const compute::TileSums sums =
          statistics.sums(z.data(), width, m, shifted.data(), final_e.data(), e.data());
      const float sum = statistics.exponentials(z.data(), width, m, plain_e.data());
      double s = 0, a = 0, c = 0, d = 0, a_size = 0, c_size = 0, d_size = 0, worst = 0;
      float most = z[0];
      int greater = 0;
      for (std::size_t i = 0; i < static_cast<std::size_t>(width); ++i) {
        const double x = static_cast<double>(z[i]) - m, y = static_cast<double>(f[i]) - m_f;
        s += std::exp(x);
        a += std::exp(x) * x;
        c += std::exp(y) * x;
        d += std::exp(x) * y;
        a_size += std::exp(x) * std::abs(x);
        c_size += std::exp(y) * std::abs(x);
        d_size += std::exp(x) * std::abs(y);
        // The reference is subtracted in float32: its rounding is that of the argument.
        worst = std::max(worst, std::abs(e[i] / std::exp(static_cast<double>(z[i] - m)) - 1));
        if (e[i] != plain_e[i] || shifted[i] != f[i] - m_f) worst = 1;
        most = std::max(most, z[i]);
        greater += z[i] > 3 ? 1 : 0;
      }
      CHECK(worst < (kernel.name == "avx2" || kernel.name == "portable" ? 2.5e-7 : 1.8e-7));
      CHECK(close(sums.sum, s, s * 4));
      CHECK(close(sum, s, s * 4));
      CHECK(close(sums.weighted, a, a_size * 4));
      CHECK(close(sums.cross, c, c_size * 4));
      CHECK(close(sums.reverse, d, d_size * 4));
      CHECK(statistics.max(z.data(), width) == most);
      CHECK(sums.max == most);
      std::vector<std::int32_t> places(static_cast<std::size_t>(width)), expected;
      for (int i = 0; i < width; ++i) {
        if (z[static_cast<std::size_t>(i)] >= 3) expected.push_back(i);
      }
      places.resize(
          static_cast<std::size_t>(statistics.find_all_at_least(z.data(), width, 3, places.data())));
      CHECK(places == expected);
      CHECK(statistics.count_greater(z.data(), width, 3) == greater);
      CHECK(statistics.find_at_least(z.data(), 0, width, most) ==
            std::max_element(z.begin(), z.begin() + width) - z.begin());
      CHECK(statistics.find_at_least(z.data(), width / 2, width, 100) == width);
      for (const auto& values : out) {  // nothing beyond the width is written
        if (width < kMaxWidth) CHECK(values[static_cast<std::size_t>(width)] == -1);
      }
    }
  }
}

TEST_CASE("row statistics: the exponential from the greatest excess down to where it ends") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const compute::CpuKernel& kernel : compute::usable_kernels(compute::Precision::kFast)) {
    if (kernel.statistics == nullptr) continue;
    INFO(kernel.name);
    double worst = 0;
    std::vector<float> x(1000), shifted(1000), e(1000);
    const int highest = static_cast<int>(compute::kMaxExcess);
    for (int block = -highest; block < 87; ++block) {
      for (int i = 0; i < 1000; ++i)
        x[static_cast<std::size_t>(i)] = -static_cast<float>(block) - static_cast<float>(i) / 1000;
      kernel.statistics->shift_and_exp(x.data(), 1000, 0, shifted.data(), e.data());
      for (std::size_t i = 0; i < 1000; ++i)
        worst = std::max(worst, std::abs(e[i] / std::exp(static_cast<double>(x[i])) - 1));
    }
    CHECK(worst < (kernel.name == "avx2" || kernel.name == "portable" ? 2.5e-7 : 1.8e-7));
    const std::array<float, 5> ends = {0, -87, -87.1F, -infinity, std::numeric_limits<float>::quiet_NaN()};
    kernel.statistics->shift_and_exp(ends.data(), 5, 0, shifted.data(), e.data());
    CHECK(e[0] == 1);
    CHECK(e[1] > 0);
    CHECK(e[2] == 0);
    CHECK(e[3] == 0);
    CHECK(std::isnan(e[4]));
  }
}

}  // namespace
}  // namespace depthlens
