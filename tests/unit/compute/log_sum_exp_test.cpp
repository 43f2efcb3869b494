// The fused log-sum-exp and its gradient against plain float64 operations.
#include "depthlens/compute/log_sum_exp.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>

#include <cmath>

#include "depthlens/compute/expected_logits.hpp"
#include "depthlens/compute/runtime.hpp"
#include "support/catch.hpp"
#include "support/devices.hpp"

namespace depthlens {
namespace {

using compute::LogSumExpValues;
using compute::Precision;
using compute::Unembedding;

/// Of the processor's quickest kernel; or of libtorch's operations.
LogSumExpValues fused_of(const Unembedding& head, Precision precision, const at::Tensor& rows,
                         const at::Tensor& scale = {}, const std::string& kernel = "") {
  const auto pass = compute::Backend::create({.kernel = kernel})->vocabulary_pass(head, precision);
  return compute::log_sum_exp(*pass, rows, rows.size(0), scale);
}

struct Case {
  std::int64_t rows, d, vocab_size;
};

Unembedding random_head(const Case& sizes, bool bias) {
  Unembedding head;  // logits with a deviation of 3, as a trained model's
  head.weight = at::randn({sizes.vocab_size, sizes.d}) * (3 / std::sqrt(double(sizes.d)));
  if (bias) head.bias = at::randn({sizes.vocab_size});
  return head;
}

LogSumExpValues plain(const Unembedding& head, const at::Tensor& rows, const at::Tensor& scale) {
  const at::Tensor weight = head.weight.to(at::kDouble);
  at::Tensor z = at::mm(rows.to(at::kDouble), weight.t());
  if (head.bias.defined()) z = z + head.bias.to(at::kDouble);
  at::Tensor p = z.softmax(1);
  if (scale.defined()) p = p * scale.to(at::kDouble);
  return {.value = at::logsumexp(z, {1}), .gradient = at::mm(p, weight), .top = z.argmax(1)};
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kCPU, at::kDouble) - b.to(at::kCPU, at::kDouble)).abs().max().item<double>();
}

// Less than a tile, several tiles, sizes that no block divides, odd hidden sizes.
const std::vector<Case> kCases = {{1, 1, 1}, {3, 7, 100}, {33, 48, 257}, {70, 129, 1000}, {64, 192, 2048}};

TEST_CASE("log-sum-exp, expected unembedding and top-1 equal plain float64 operations") {
  for (const Case& sizes : kCases) {
    for (const bool bias : {false, true}) {
      INFO(sizes.rows << " rows, d " << sizes.d << ", V " << sizes.vocab_size << ", bias " << bias);
      const Unembedding head = random_head(sizes, bias);
      const at::Tensor rows = at::randn({sizes.rows, sizes.d});
      for (const at::Tensor& scale : {at::Tensor(), at::rand({sizes.vocab_size})}) {
        const LogSumExpValues expected = plain(head, rows, scale);
        for (const std::string& kernel : compute::processor_kernels(Precision::kFloat32)) {
          INFO(kernel);
          const auto fused = fused_of(head, Precision::kFloat32, rows, scale, kernel);
          // AVX-512's instruction for bfloat16 rounds after each addition of a pair.
          CHECK(largest_difference(fused.value, expected.value) < (kernel == "avx512-bf16" ? 2e-5 : 1e-5));
          CHECK(largest_difference(fused.gradient, expected.gradient) < 1e-5);
          CHECK(at::equal(fused.top, expected.top));
        }
        const auto reference = fused_of(head, Precision::kFloat32, rows.to(at::kDouble), scale, "aten");
        CHECK(largest_difference(reference.value, expected.value) < 1e-12);
        CHECK(largest_difference(reference.gradient, expected.gradient) < 1e-12);
        CHECK(at::equal(reference.top, expected.top));
        for (const std::string& device : test::devices()) {
          if (device == "cpu") continue;
          INFO("on " << device);
          const auto pass =
              test::backend_on(device)->vocabulary_pass(test::moved(head, device), Precision::kFloat32);
          const auto found =
              compute::log_sum_exp(*pass, test::moved(rows, device), sizes.rows, test::moved(scale, device));
          CHECK(found.gradient.device() == pass->unembedding().weight.device());
          CHECK(largest_difference(found.value, expected.value) < 1e-5);
          CHECK(largest_difference(found.gradient, expected.gradient) < 1e-5);
          CHECK(at::equal(found.top.cpu(), expected.top));
        }
      }
    }
  }
}

TEST_CASE("sums over a large vocabulary lose few bits") {
  // All of one sign: what is added to is as large as the whole sum, and what is added a sixty-thousandth.
  Unembedding head;
  head.weight = at::rand({60'000, 24});
  const at::Tensor rows = at::randn({9, 24}) * 0.1;
  const LogSumExpValues expected = plain(head, rows, {});
  for (const std::string& kernel : compute::processor_kernels(Precision::kFloat32)) {
    INFO(kernel);
    const LogSumExpValues fused = fused_of(head, Precision::kFloat32, rows, {}, kernel);
    // AMX adds 32 products at a time to what is there.
    CHECK(largest_difference(fused.gradient, expected.gradient) < (kernel == "amx-bf16" ? 3e-6 : 1e-6));
  }
}

TEST_CASE("expected logits under given distributions equal plain float64 operations") {
  for (const Case& sizes : kCases) {
    for (const compute::LogitTransform& transform :
         {compute::LogitTransform{}, compute::LogitTransform{.scale = 0.5, .soft_cap = 4}}) {
      Unembedding head = random_head(sizes, /*bias=*/true);
      head.transform = transform;
      constexpr std::int64_t kRepeats = 3;
      const at::Tensor rows = at::randn({kRepeats * sizes.rows, sizes.d});
      const at::Tensor distributions = at::randn({sizes.rows, sizes.vocab_size}).softmax(1);
      for (const at::Tensor& scale : {at::Tensor(), at::rand({sizes.vocab_size})}) {
        INFO(sizes.rows << " rows, d " << sizes.d << ", V " << sizes.vocab_size << ", cap "
                        << transform.soft_cap << ", scaled " << scale.defined());
        at::Tensor z =
            (at::mm(rows.to(at::kDouble), head.weight.to(at::kDouble).t()) + head.bias) * transform.scale;
        at::Tensor slopes = at::full_like(z, transform.scale);
        if (transform.soft_cap > 0) {
          z = (z / transform.soft_cap).tanh() * transform.soft_cap;
          slopes = (1 - (z / transform.soft_cap).square()) * transform.scale;
        }
        const at::Tensor q = distributions.to(at::kDouble).repeat({kRepeats, 1});
        const at::Tensor value = (q * z).sum(1);
        const at::Tensor coefficients = scale.defined() ? q * slopes * scale : q * slopes;
        const at::Tensor gradient = at::mm(coefficients, head.weight.to(at::kDouble));
        const auto check = [&](const compute::VocabularyPass& pass, const std::string& device) {
          const auto found =
              compute::expected_logits(pass, test::moved(rows, device), test::moved(distributions, device),
                                       test::moved(scale, device));
          CHECK(largest_difference(found.value, value) < 2e-5);
          CHECK(largest_difference(found.gradient, gradient) < 1e-5);
        };
        for (const std::string& kernel : compute::processor_kernels(Precision::kFloat32)) {
          INFO(kernel);
          check(*compute::Backend::create({.kernel = kernel})->vocabulary_pass(head, Precision::kFloat32),
                "cpu");
        }
        for (const std::string& device : test::devices()) {
          if (device == "cpu") continue;
          INFO("on " << device);
          check(*test::backend_on(device)->vocabulary_pass(test::moved(head, device), Precision::kFloat32),
                device);
        }
      }
    }
  }
}

TEST_CASE("with bfloat16 products the error is that of rounding the operands") {
  const Unembedding head = random_head({70, 192, 1000}, true);
  const at::Tensor rows = at::randn({70, 192});
  const auto found = fused_of(head, Precision::kFast, rows);
  // Against float64 with the same rounded operands nothing is left but the rounding of the exponentials.
  Unembedding rounded = head;
  rounded.weight = head.weight.to(at::kBFloat16);
  const LogSumExpValues expected = plain(rounded, rows.to(at::kBFloat16), {});
  const double largest = expected.gradient.abs().max().item<double>();
  if (compute::Backend::create()->vocabulary_pass(head, Precision::kFast)->products() == "bfloat16") {
    CHECK(largest_difference(found.value, expected.value) < 1e-5);
    CHECK(largest_difference(found.gradient, expected.gradient) < largest / 256);
  } else {
    WARN("no bfloat16 products on this processor");
  }
}

TEST_CASE("all weight types give what their float32 copy gives") {
  const Unembedding head = random_head({40, 64, 300}, false);
  const at::Tensor rows = at::randn({40, 64});
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    Unembedding stored = head, widened = head;
    stored.weight = head.weight.to(type);
    widened.weight = stored.weight.to(at::kFloat);
    const auto a = fused_of(stored, Precision::kFloat32, rows);
    const auto b = fused_of(widened, Precision::kFloat32, rows);
    CHECK(at::equal(a.value, b.value));
    CHECK(at::equal(a.gradient, b.gradient));
  }
}

TEST_CASE("a row's bits depend neither on the other rows nor on the threads") {
  const Unembedding head = random_head({100, 96, 700}, false);
  const at::Tensor rows = at::randn({100, 96});
  for (const Precision precision : {Precision::kFloat32, Precision::kFast}) {
    const auto all = fused_of(head, precision, rows);
    const auto some = fused_of(head, precision, rows.narrow(0, 41, 5));
    CHECK(at::equal(all.value.narrow(0, 41, 5), some.value));
    CHECK(at::equal(all.gradient.narrow(0, 41, 5), some.gradient));
    const int threads = compute::num_threads();
    compute::set_threads(threads == 1 ? 2 : 1);
    const auto other = fused_of(head, precision, rows);
    compute::set_threads(threads);
    CHECK(at::equal(all.value, other.value));
    CHECK(at::equal(all.gradient, other.gradient));
  }
}

TEST_CASE("the gradient may be asked for of the first rows only") {
  const Unembedding head = random_head({100, 96, 700}, false);
  const at::Tensor rows = at::randn({100, 96});
  const auto pass = compute::Backend::create()->vocabulary_pass(head, Precision::kFloat32);
  const auto of = [&](std::int64_t count) { return compute::log_sum_exp(*pass, rows, count); };
  const auto all = of(100), some = of(33), none = of(0);
  CHECK(at::equal(some.value, all.value));
  CHECK(at::equal(some.gradient, all.gradient.narrow(0, 0, 33)));
  CHECK(at::equal(none.value, all.value));
  CHECK(none.gradient.size(0) == 0);
}

TEST_CASE("logits that are scaled and capped, and their gradient") {
  Unembedding head = random_head({40, 64, 900}, true);
  const at::Tensor rows = at::randn({40, 64});
  for (const double scale : {1.0, 0.25}) {
    for (const double cap : {0.0, 4.0}) {
      head.transform = {.scale = scale, .soft_cap = cap};
      const at::Tensor weight = head.weight.to(at::kDouble);
      at::Tensor z = (at::mm(rows.to(at::kDouble), weight.t()) + head.bias.to(at::kDouble)) * scale;
      at::Tensor slope = at::full_like(z, scale);
      if (cap > 0) {
        slope = scale * (1 - (z / cap).tanh().square());
        z = (z / cap).tanh() * cap;
      }
      const at::Tensor value = at::logsumexp(z, {1}), gradient = at::mm(z.softmax(1) * slope, weight);
      for (const std::string& kernel : compute::processor_kernels(Precision::kFloat32)) {
        INFO(kernel << ", scale " << scale << ", cap " << cap);
        const auto found = fused_of(head, Precision::kFloat32, rows, {}, kernel);
        CHECK(largest_difference(found.value, value) < 1e-5);
        CHECK(largest_difference(found.gradient, gradient) < 1e-5);
      }
    }
  }
}

TEST_CASE("logits far apart neither overflow nor lose the greatest") {
  Unembedding head;
  head.weight = at::randn({600, 16}) * 40;
  const at::Tensor rows = at::randn({20, 16}) * 3;
  const LogSumExpValues expected = plain(head, rows, {});
  const auto fused = fused_of(head, Precision::kFloat32, rows);
  CHECK(largest_difference(fused.value, expected.value) < 1e-3);  // values of some hundreds, in float32
  CHECK(at::equal(fused.top, expected.top));
  CHECK(largest_difference(fused.gradient, expected.gradient) < 0.05);
}

}  // namespace
}  // namespace depthlens
