// A result and its derivatives against those of a reference in float64.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/randn_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "support/catch.hpp"

namespace depthlens::test {

inline double largest(const at::Tensor& x) {
  return x.abs().max().item<double>();
}

/// That this is what was expected, and so are the derivatives with respect to the inputs.
inline void check_same(const at::Tensor& found, const at::Tensor& expected,
                       const std::vector<at::Tensor>& inputs) {
  REQUIRE(found.sizes() == expected.sizes());
  CHECK(largest(found - expected) < 5e-6 * (1 + largest(expected)));
  const at::Tensor cotangent = at::randn_like(found);
  const auto of_found = torch::autograd::grad({found}, inputs, {cotangent});
  const auto of_expected = torch::autograd::grad({expected}, inputs, {cotangent.to(at::kDouble)});
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    INFO("argument " << i);
    CHECK(largest(of_found[i] - of_expected[i]) < 2e-5 * (1 + largest(of_expected[i])));
  }
}

}  // namespace depthlens::test
