// Split terms against float64, with products of the processor in the place of a card's.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <vector>

#include "compute/cuda/split_terms.hpp"
#include "support/catch.hpp"

namespace depthlens {
namespace {

using compute::Precision;

/// What a card does, but with sums in the type of `out`; counts its calls.
struct Emulated {
  int& calls;
  void operator()(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add) const {
    ++calls;
    CHECK(a.scalar_type() == at::kBFloat16);
    CHECK(b.scalar_type() == at::kBFloat16);
    const at::Tensor product = at::mm(a.to(out.scalar_type()), b.to(out.scalar_type()));
    at::Tensor to = out;
    if (add) {
      to.add_(product);
    } else {
      to.copy_(product);
    }
  }
};

TEST_CASE("split terms: three hold float32, two 16 bits, one 8") {
  at::manual_seed(5);
  // From 1e-18 to 1e18.
  const at::Tensor x = at::randn({37, 41}) * (at::randn({37, 41}) * 14).exp();
  CHECK(at::equal(compute::cuda::sum_of_terms(compute::cuda::split_terms(x, 3)), x));
  for (const auto& [count, bits] : {std::pair{1, 8}, {2, 16}}) {
    const at::Tensor error = compute::cuda::sum_of_terms(compute::cuda::split_terms(x, count)) - x;
    const double largest = (error / x).abs().max().item<double>();
    INFO(count << " terms: " << largest);
    CHECK(largest <= std::ldexp(1, -bits));
    CHECK(largest > std::ldexp(1, -bits - 2));
  }
  const at::Tensor half = x.clamp(-60000, 60000).to(at::kHalf);
  CHECK(at::equal(compute::cuda::sum_of_terms(compute::cuda::split_terms(half, 2)), half.to(at::kFloat)));
  const at::Tensor bfloat16 = x.to(at::kBFloat16);
  CHECK(at::equal(compute::cuda::split_terms(bfloat16, 1)[0], bfloat16));
}

TEST_CASE("split terms: products keep as many bits as the precision asks for") {
  at::manual_seed(6);
  struct Expected {
    at::ScalarType stored;
    Precision precision;
    int calls;
    double error;  // of Σ |x| |w|
  };
  const double of_8_bits = std::ldexp(1, -8), of_16 = std::ldexp(1, -16), of_24 = std::ldexp(1, -24),
               none = 1e-15;
  // Of float32 weights, bits are lost on both sides, and products of small terms with small ones.
  const std::vector<Expected> all = {
      {at::kBFloat16, Precision::kFloat32, 3, none},      {at::kBFloat16, Precision::kExact, 2, of_16},
      {at::kBFloat16, Precision::kFast, 1, of_8_bits},    {at::kHalf, Precision::kFloat32, 5, of_24},
      {at::kHalf, Precision::kExact, 3, 2 * of_16},       {at::kHalf, Precision::kFast, 1, 2.01 * of_8_bits},
      {at::kFloat, Precision::kFloat32, 6, 3 * of_24},    {at::kFloat, Precision::kExact, 3, 3 * of_16},
      {at::kFloat, Precision::kFast, 1, 2.01 * of_8_bits}};
  for (const Expected& e : all) {
    const at::Tensor x = at::randn({23, 65}), weight = at::randn({29, 65}).to(e.stored);
    const std::int64_t terms = compute::cuda::row_terms(e.precision);
    const at::Tensor rows = compute::cuda::split_terms(x, terms),
                     weights =
                         compute::cuda::split_terms(weight, compute::cuda::weight_terms(e.stored, terms));
    const at::Tensor wide = x.to(at::kDouble), wide_weight = weight.to(at::kDouble);
    const at::Tensor exact = wide.mm(wide_weight.t()), size = wide.abs().mm(wide_weight.abs().t());
    at::Tensor out = at::zeros({23, 29}, at::kDouble);
    int calls = 0;
    compute::cuda::multiply_terms(out, rows, weights, Emulated{calls});
    const double error = ((out - exact) / size).abs().max().item<double>();
    INFO(at::toString(e.stored) << ", " << terms << " terms of rows: " << error);
    CHECK(calls == e.calls);
    CHECK(error <= e.error);

    // With sums in float32 what they round comes on top; into a part of a wider buffer, as tiles are.
    const at::Tensor part = at::zeros({23, 32}, at::kFloat).narrow(1, 0, 29);
    compute::cuda::multiply_terms(part, rows, weights, Emulated{calls});
    CHECK(((part - exact) / size).abs().max().item<double>() <= e.error + 1e-6);
  }
}

}  // namespace
}  // namespace depthlens
