// Viridis in ten steps, straight lines between them.
#include "colour_ramp.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

namespace depthlens::report {
namespace {

constexpr std::array<Rgb, 10> kViridis = {{{68, 1, 84},
                                           {72, 40, 120},
                                           {62, 73, 137},
                                           {49, 104, 142},
                                           {38, 130, 142},
                                           {31, 158, 137},
                                           {53, 183, 121},
                                           {109, 205, 89},
                                           {180, 222, 44},
                                           {253, 231, 37}}};

}  // namespace

Rgb viridis(double place) {
  const double scaled = std::clamp(place, 0.0, 1.0) * static_cast<double>(kViridis.size() - 1);
  const auto i = std::min(static_cast<std::size_t>(scaled), kViridis.size() - 2);
  const double f = scaled - static_cast<double>(i);
  const Rgb &a = kViridis[i], &b = kViridis[i + 1];
  return {a.r + f * (b.r - a.r), a.g + f * (b.g - a.g), a.b + f * (b.b - a.b)};
}

}  // namespace depthlens::report
