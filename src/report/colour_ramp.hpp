// The colours by which pictures show numbers, on a page and in a terminal.
#pragma once

namespace depthlens::report {

struct Rgb {
  double r, g, b;  ///< 0 … 255
};

/// Viridis (Smith and van der Walt 2015) at `place`, from 0 (dark violet) to 1 (bright yellow), clamped: its
/// lightness rises evenly, so that it can be read without colour and by the colour-blind.
Rgb viridis(double place);

}  // namespace depthlens::report
