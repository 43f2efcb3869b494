// Attention in blocks of rows, against one softmax over a mask in float64.
#include "depthlens/compute/attention.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/devices.hpp"

using namespace depthlens;

namespace {

/// One softmax over all scores, in float64.
at::Tensor reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const compute::AttentionRule& rule) {
  const std::int64_t T = q.size(2);
  const at::Tensor i = at::arange(T).unsqueeze(1), j = at::arange(T);
  at::Tensor hidden = j.gt(i);
  if (rule.window > 0) hidden = hidden.logical_or(j.le(i - rule.window));
  if (rule.chunk > 0) hidden = hidden.logical_or(j.lt(i - i.remainder(rule.chunk)));
  at::Tensor scores = at::matmul(q, k.transpose(-1, -2)) * rule.scale;
  if (rule.soft_cap > 0) scores = (scores / rule.soft_cap).tanh() * rule.soft_cap;
  if (rule.position_bias.defined())
    scores = scores + rule.position_bias.narrow(1, 0, T).to(at::kDouble).unsqueeze(1);
  at::Tensor weights = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()).exp();
  at::Tensor sum = weights.sum(-1, /*keepdim=*/true);
  if (rule.sinks.defined()) sum = sum + rule.sinks.to(at::kDouble).exp().view({1, -1, 1, 1});
  return at::matmul(weights / sum, v);
}

at::Tensor masked_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            std::int64_t span) {
  return reference(q, k, v, {.scale = 1 / std::sqrt(static_cast<double>(q.size(3))), .window = span});
}

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t span) {
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(3)));
  return compute::attend(q, k, v, {.scale = scale, .window = span});
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kCPU, at::kDouble) - b.to(at::kCPU, at::kDouble)).abs().max().item<double>();
}

}  // namespace

TEST_CASE("attention: a window shorter than the text, wherever blocks of rows begin and end") {
  const std::int64_t size = GENERATE(8, 16);  // small heads go another way
  for (const std::int64_t T : {5, 513, 1300}) {
    for (const std::int64_t span : {1, 4, 511, 513, 700, 1299, 1300}) {
      INFO("T " << T << ", window " << span << ", heads of " << size);
      const auto random = [&] { return at::randn({1, 2, T, size}, at::kDouble) * 1.5; };
      const at::Tensor q = random(), k = random(), v = random();
      const at::Tensor expected = masked_attention(q, k, v, span);
      for (const std::string& device : test::devices()) {
        INFO("on " << device);
        const auto there = [&](const at::Tensor& x) { return x.to(at::Device(device), at::kFloat); };
        const at::Tensor found = attend(there(q), there(k), there(v), span);
        CHECK(found.scalar_type() == at::kFloat);
        CHECK(found.device().type() == at::Device(device).type());
        CHECK(distance(found, expected) < 2e-5);
        if (span >= T) CHECK(at::equal(found, attend(there(q), there(k), there(v), 0)));
      }
    }
  }
}

TEST_CASE("attention: a window has the same bits alone, among others, and on any number of threads") {
  const int threads = at::get_num_threads();
  for (const auto& [heads, size] :
       {std::pair<std::int64_t, std::int64_t>{4, 8}, {3, 10}, {1, 32}, {4, 16}, {3, 18}, {3, 17}}) {
    for (const std::int64_t T : {9, 23, 100}) {
      for (const std::int64_t span : {0, 7}) {
        INFO(heads << " heads of " << size << ", T " << T << ", window " << span);
        // As of a model: rows of all heads one behind the other.
        const auto random = [&] { return at::randn({3, T, heads, size}).transpose(1, 2); };
        const at::Tensor q = random(), k = random(), v = random();
        const at::Tensor together = attend(q, k, v, span);
        for (const int count : {1, 2, 5}) {
          at::set_num_threads(count);
          for (std::int64_t b = 0; b < 3; ++b) {
            const auto alone = [&](const at::Tensor& x) { return x.narrow(0, b, 1).transpose(1, 2).clone(); };
            const auto by_head = [&](const at::Tensor& x) { return alone(x).transpose(1, 2); };
            CHECK(at::equal(attend(by_head(q), by_head(k), by_head(v), span), together.narrow(0, b, 1)));
          }
        }
        at::set_num_threads(threads);
      }
    }
  }
}

TEST_CASE("attention: no row depends on what its window leaves out") {
  constexpr std::int64_t T = 1100, span = 100, changed = 400;
  const at::Tensor q = at::randn({1, 2, T, 8}), k = at::randn({1, 2, T, 8}), v = at::randn({1, 2, T, 8});
  const at::Tensor before = attend(q, k, v, span);
  at::Tensor other_k = k.clone(), other_v = v.clone();
  other_k.select(2, changed).mul_(-3);
  other_v.select(2, changed).fill_(1e30F);
  const at::Tensor after = attend(q, other_k, other_v, span);
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
  (attend(q1, k1, v1, span) * there(weight)).sum().backward();
  (masked_attention(q2, k2, v2, span) * weight).sum().backward();
  CHECK(distance(q1.grad(), q2.grad()) < 1e-9);
  CHECK(distance(k1.grad(), k2.grad()) < 1e-9);
  CHECK(distance(v1.grad(), v2.grad()) < 1e-9);
}

TEST_CASE("attention: a chunk sees itself only, wherever the text ends") {
  const std::int64_t size = GENERATE(8, 16);  // small heads go another way
  for (const std::int64_t T : {5, 513, 1300}) {
    for (const std::int64_t chunk : {1, 4, 511, 513, 650, 1299, 1300}) {
      INFO("T " << T << ", chunk " << chunk << ", heads of " << size);
      const auto random = [&] { return at::randn({2, 2, T, size}, at::kDouble) * 1.5; };
      const at::Tensor q = random(), k = random(), v = random();
      compute::AttentionRule rule = {.scale = 0.3, .chunk = chunk};
      for (const bool capped : {false, true}) {
        rule.soft_cap = capped ? 2.0 : 0.0;
        const at::Tensor expected = reference(q, k, v, rule);
        for (const std::string& device : test::devices()) {
          INFO("on " << device << ", capped " << capped);
          const auto there = [&](const at::Tensor& x) { return x.to(at::Device(device), at::kFloat); };
          const at::Tensor found = compute::attend(there(q), there(k), there(v), rule);
          CHECK(distance(found, expected) < 2e-5);
          // A window of two has the bits that it has alone, but on a card (docs/methods.md).
          if (device == "cuda") continue;
          const auto first = [&](const at::Tensor& x) { return there(x.narrow(0, 0, 1)); };
          CHECK(at::equal(found.narrow(0, 0, 1), compute::attend(first(q), first(k), first(v), rule)));
        }
      }
    }
  }
}

TEST_CASE("attention: caps, sinks and biases of positions, with windows and without") {
  const auto bias = [](std::int64_t T) {
    return at::stack({at::arange(T, at::kFloat) * 0.03, at::arange(T, at::kFloat).sqrt()});
  };
  for (const std::int64_t T : {1, 7, 700}) {
    const auto random = [&] { return at::randn({1, 2, T, 8}, at::kDouble) * 1.5; };
    const at::Tensor q = random(), k = random(), v = random(), sinks = at::randn({2}, at::kFloat);
    for (const compute::AttentionRule& rule : std::vector<compute::AttentionRule>{
             {.scale = 0.5, .soft_cap = 1.5},
             {.scale = 0.5, .soft_cap = 1.5, .window = 3},
             {.scale = 0.25, .sinks = sinks},
             {.scale = 0.25, .window = 5, .sinks = sinks},
             {.scale = 0.3, .position_bias = bias(T + 2)},
             {.scale = 0.3, .position_bias = bias(T), .window = 600},
             {.scale = 0.3, .soft_cap = 2, .position_bias = bias(T), .window = 4, .sinks = sinks}}) {
      INFO("T " << T << ", window " << rule.window << ", cap " << rule.soft_cap << ", sinks "
                << rule.sinks.defined() << ", bias " << rule.position_bias.defined());
      const at::Tensor expected = reference(q, k, v, rule);
      for (const std::string& device : test::devices()) {
        INFO("on " << device);
        const auto there = [&](const at::Tensor& x) { return x.to(at::Device(device), at::kFloat); };
        compute::AttentionRule moved = rule;
        if (moved.sinks.defined()) moved.sinks = there(moved.sinks);
        if (moved.position_bias.defined()) moved.position_bias = there(moved.position_bias);
        CHECK(distance(compute::attend(there(q), there(k), there(v), moved), expected) < 2e-5);
      }
      const auto leaf = [](const at::Tensor& x) { return x.detach().clone().requires_grad_(true); };
      const at::Tensor q1 = leaf(q), q2 = leaf(q), weight = at::randn_like(v);
      (compute::attend(q1, k, v, rule) * weight).sum().backward();
      (reference(q2, k, v, rule) * weight).sum().backward();
      CHECK(distance(q1.grad(), q2.grad()) < 1e-6);  // biases are float32
    }
  }
}

TEST_CASE("attention: a window has the same bits alone and among others, on the processor") {
  constexpr std::int64_t B = 3, H = 8, dh = 16;
  const std::vector<compute::AttentionRule> rules = {
      {.scale = 0.25},
      {.scale = 0.25, .window = 40},
      {.scale = 0.25, .soft_cap = 5},
      {.scale = 0.25, .soft_cap = 5, .window = 40},
      {.scale = 0.25, .sinks = at::randn({H})},
      {.scale = 0.25, .position_bias = at::arange(2200).to(at::kFloat).mul(0.01).expand({H, -1})}};
  // With the last length, three windows are more scores than are held at once.
  for (const std::int64_t T : {7, 100, 2200}) {
    const at::Tensor q = at::randn({B, H, T, dh}), k = at::randn({B, H, T, dh}), v = at::randn({B, H, T, dh});
    for (std::size_t i = 0; i < rules.size(); ++i) {
      INFO("T " << T << ", rule " << i);
      const at::Tensor together = compute::attend(q, k, v, rules[i]);
      for (std::int64_t b = 0; b < B; ++b) {
        const auto of = [&](const at::Tensor& x) { return x.narrow(0, b, 1); };
        CHECK(at::equal(of(together), compute::attend(of(q), of(k), of(v), rules[i])));
      }
    }
  }
}

TEST_CASE("attention: windows of any lengths one behind the other are each by itself") {
  const std::vector<std::int32_t> begins = {0, 5, 6, 139, 203, 715};
  const std::int64_t T = begins.back(), longest = 512;
  for (const std::string& device : test::devices()) {
    for (const std::int64_t dh : {8, 64, 80, 128}) {
      INFO("on " << device << ", heads of " << dh);
      const compute::AdjoiningWindows windows{.begins = test::moved(at::tensor(begins, at::kInt), device),
                                              .longest = longest};
      const compute::AttentionRule rule{.scale = 1 / std::sqrt(static_cast<double>(dh))};
      const at::Tensor q = at::randn({T, 3, dh}, at::kDouble) * 1.5, k = at::randn_like(q),
                       v = at::randn_like(q);
      const auto there = [&](const at::Tensor& x) { return test::moved(x.to(at::kFloat), device); };
      CHECK_FALSE(compute::attends_adjoining(there(q), windows, {.soft_cap = 1}));
      if (!compute::attends_adjoining(there(q), windows, rule)) {
        CHECK(device != "cuda");
        continue;
      }
      const at::Tensor found = compute::attend_adjoining(there(q), there(k), there(v), windows, rule);
      REQUIRE(found.sizes() == q.sizes());
      for (std::size_t i = 0; i + 1 < begins.size(); ++i) {
        const auto window = [&](const at::Tensor& x) {
          return x.narrow(0, begins[i], begins[i + 1] - begins[i]);
        };
        const auto by_head = [&](const at::Tensor& x) { return window(x).transpose(0, 1).unsqueeze(0); };
        CHECK(distance(window(found),
                       reference(by_head(q), by_head(k), by_head(v), rule).squeeze(0).transpose(0, 1)) <
              2e-5);
      }
    }
  }
}
