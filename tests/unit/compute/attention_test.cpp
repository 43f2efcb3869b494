// Sliding attention windows in blocks of rows, against one softmax over a mask in float64.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <limits>

#include "model/layers.hpp"
#include "support/catch.hpp"
#include "support/devices.hpp"

using namespace depthlens;

namespace {

at::Tensor masked_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            std::int64_t span) {
  const at::Tensor i = at::arange(q.size(2)).unsqueeze(1), j = at::arange(q.size(2));
  const at::Tensor hidden = j.gt(i).logical_or(j.le(i - span));
  const at::Tensor scores = at::matmul(q, k.transpose(-1, -2)) / std::sqrt(static_cast<double>(q.size(3)));
  return at::matmul(at::softmax(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1), v);
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kCPU, at::kDouble) - b.to(at::kCPU, at::kDouble)).abs().max().item<double>();
}

}  // namespace

TEST_CASE("attention: a window shorter than the text, wherever blocks of rows begin and end") {
  for (const std::int64_t T : {5, 513, 1300}) {
    for (const std::int64_t span : {1, 4, 511, 513, 700, 1299, 1300}) {
      INFO("T " << T << ", window " << span);
      const auto random = [&] { return at::randn({1, 2, T, 8}, at::kDouble) * 1.5; };
      const at::Tensor q = random(), k = random(), v = random();
      const at::Tensor expected = masked_attention(q, k, v, span);
      for (const std::string& device : test::devices()) {
        INFO("on " << device);
        const auto there = [&](const at::Tensor& x) { return x.to(at::Device(device), at::kFloat); };
        const at::Tensor found = model::attend(there(q), there(k), there(v), span);
        CHECK(found.scalar_type() == at::kFloat);
        CHECK(found.device().type() == at::Device(device).type());
        CHECK(distance(found, expected) < 2e-5);
        if (span >= T) CHECK(at::equal(found, model::attend(there(q), there(k), there(v), 0)));
      }
    }
  }
}

TEST_CASE("attention: no row depends on what its window leaves out") {
  constexpr std::int64_t T = 1100, span = 100, changed = 400;
  const at::Tensor q = at::randn({1, 2, T, 8}), k = at::randn({1, 2, T, 8}), v = at::randn({1, 2, T, 8});
  const at::Tensor before = model::attend(q, k, v, span);
  at::Tensor other_k = k.clone(), other_v = v.clone();
  other_k.select(2, changed).mul_(-3);
  other_v.select(2, changed).fill_(1e30F);
  const at::Tensor after = model::attend(q, other_k, other_v, span);
  CHECK(at::equal(before.narrow(2, 0, changed), after.narrow(2, 0, changed)));
  CHECK_FALSE(at::equal(before.narrow(2, changed, span), after.narrow(2, changed, span)));
  CHECK(at::equal(before.narrow(2, changed + span, T - changed - span),
                  after.narrow(2, changed + span, T - changed - span)));
}

TEST_CASE("attention: a window has the gradient of the mask") {
  constexpr std::int64_t T = 600, span = 70;
  const std::string device = GENERATE(from_range(test::devices()));
  INFO("on " << device);
  const auto leaf = [](const at::Tensor& x) { return x.detach().clone().requires_grad_(true); };
  const auto there = [&](const at::Tensor& x) { return test::moved(x, device); };
  const at::Tensor q = at::randn({1, 2, T, 8}, at::kDouble), k = at::randn({1, 2, T, 8}, at::kDouble),
                   v = at::randn({1, 2, T, 8}, at::kDouble), weight = at::randn({1, 2, T, 8}, at::kDouble);
  const at::Tensor q1 = leaf(there(q)), k1 = leaf(there(k)), v1 = leaf(there(v)), q2 = leaf(q), k2 = leaf(k),
                   v2 = leaf(v);
  (model::attend(q1, k1, v1, span) * there(weight)).sum().backward();
  (masked_attention(q2, k2, v2, span) * weight).sum().backward();
  CHECK(distance(q1.grad(), q2.grad()) < 1e-9);
  CHECK(distance(k1.grad(), k2.grad()) < 1e-9);
  CHECK(distance(v1.grad(), v2.grad()) < 1e-9);
}
