// What a model does to the numbers that its unembedding makes.
#pragma once

namespace depthlens::compute {

/// What a model makes of z = w · x + b before it calls it a logit: cap · tanh(scale · z / cap), or scale · z.
struct LogitTransform {
  double scale = 1;
  double soft_cap = 0;  ///< 0: none
  bool is_identity() const { return scale == 1 && soft_cap == 0; }
  bool operator==(const LogitTransform&) const = default;
};

}  // namespace depthlens::compute
