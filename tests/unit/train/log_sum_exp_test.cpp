// The fused log-sum-exp and its gradient against plain float64 operations.
#include "depthlens/train/log_sum_exp.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>

#include <cmath>

#include "depthlens/decode/runtime.hpp"
#include "depthlens/model/model.hpp"
#include "support/catch.hpp"
#include "support/devices.hpp"

namespace depthlens {
namespace {

using train::LogSumExpValues;
using train::Products;

struct Case {
  std::int64_t rows, d, vocab_size;
};

model::OutputHead random_head(const Case& sizes, bool bias) {
  model::OutputHead head;  // logits with a deviation of 3, as a trained model's
  head.unembedding = at::randn({sizes.vocab_size, sizes.d}) * (3 / std::sqrt(double(sizes.d)));
  if (bias) head.bias = at::randn({sizes.vocab_size});
  return head;
}

LogSumExpValues plain(const model::OutputHead& head, const at::Tensor& rows, const at::Tensor& scale) {
  const at::Tensor weight = head.unembedding.to(at::kDouble);
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
      const model::OutputHead head = random_head(sizes, bias);
      const at::Tensor rows = at::randn({sizes.rows, sizes.d});
      for (const at::Tensor& scale : {at::Tensor(), at::rand({sizes.vocab_size})}) {
        const LogSumExpValues expected = plain(head, rows, scale);
        const auto fused = (*train::make_log_sum_exp(head, Products::kFloat32, scale))(rows);
        CHECK(largest_difference(fused.value, expected.value) < 1e-5);
        CHECK(largest_difference(fused.gradient, expected.gradient) < 1e-5);
        CHECK(at::equal(fused.top, expected.top));
        const auto reference = (*train::make_aten_log_sum_exp(head, scale))(rows.to(at::kDouble));
        CHECK(largest_difference(reference.value, expected.value) < 1e-12);
        CHECK(largest_difference(reference.gradient, expected.gradient) < 1e-12);
        CHECK(at::equal(reference.top, expected.top));
        for (const std::string& device : test::devices()) {
          if (device == "cpu") continue;
          INFO("on " << device);
          const model::OutputHead there = test::moved(head, device);
          const auto found = (*train::make_log_sum_exp(
              there, Products::kFloat32, test::moved(scale, device)))(test::moved(rows, device));
          CHECK(found.gradient.device() == there.unembedding.device());
          CHECK(largest_difference(found.value, expected.value) < 1e-5);
          CHECK(largest_difference(found.gradient, expected.gradient) < 1e-5);
          CHECK(at::equal(found.top.cpu(), expected.top));
        }
      }
    }
  }
}

TEST_CASE("with bfloat16 products the error is that of rounding the operands") {
  const model::OutputHead head = random_head({70, 192, 1000}, true);
  const at::Tensor rows = at::randn({70, 192});
  const auto found = (*train::make_log_sum_exp(head, Products::kFastest, {}))(rows);
  // Against float64 with the same rounded operands nothing is left but the rounding of the exponentials.
  model::OutputHead rounded = head;
  rounded.unembedding = head.unembedding.to(at::kBFloat16);
  const LogSumExpValues expected = plain(rounded, rows.to(at::kBFloat16), {});
  const double largest = expected.gradient.abs().max().item<double>();
  if (train::make_log_sum_exp(head, Products::kFastest, {})->products() == "bfloat16") {
    CHECK(largest_difference(found.value, expected.value) < 1e-5);
    CHECK(largest_difference(found.gradient, expected.gradient) < largest / 256);
  } else {
    WARN("no bfloat16 products on this processor");
  }
}

TEST_CASE("all weight types give what their float32 copy gives") {
  const model::OutputHead head = random_head({40, 64, 300}, false);
  const at::Tensor rows = at::randn({40, 64});
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    model::OutputHead stored = head, widened = head;
    stored.unembedding = head.unembedding.to(type);
    widened.unembedding = stored.unembedding.to(at::kFloat);
    const auto a = (*train::make_log_sum_exp(stored, Products::kFloat32, {}))(rows);
    const auto b = (*train::make_log_sum_exp(widened, Products::kFloat32, {}))(rows);
    CHECK(at::equal(a.value, b.value));
    CHECK(at::equal(a.gradient, b.gradient));
  }
}

TEST_CASE("a row's bits depend neither on the other rows nor on the threads") {
  const model::OutputHead head = random_head({100, 96, 700}, false);
  const at::Tensor rows = at::randn({100, 96});
  for (const Products products : {Products::kFloat32, Products::kFastest}) {
    const auto all = (*train::make_log_sum_exp(head, products, {}))(rows);
    const auto some = (*train::make_log_sum_exp(head, products, {}))(rows.narrow(0, 41, 5));
    CHECK(at::equal(all.value.narrow(0, 41, 5), some.value));
    CHECK(at::equal(all.gradient.narrow(0, 41, 5), some.gradient));
    const int threads = decode::num_threads();
    decode::set_threads(threads == 1 ? 2 : 1);
    const auto other = (*train::make_log_sum_exp(head, products, {}))(rows);
    decode::set_threads(threads);
    CHECK(at::equal(all.value, other.value));
    CHECK(at::equal(all.gradient, other.gradient));
  }
}

TEST_CASE("the gradient may be asked for of the first rows only") {
  const model::OutputHead head = random_head({100, 96, 700}, false);
  const at::Tensor rows = at::randn({100, 96});
  const auto kernel = train::make_log_sum_exp(head, Products::kFloat32, {});
  const auto all = (*kernel)(rows), some = kernel->evaluate(rows, 33), none = kernel->evaluate(rows, 0);
  CHECK(at::equal(some.value, all.value));
  CHECK(at::equal(some.gradient, all.gradient.narrow(0, 0, 33)));
  CHECK(at::equal(none.value, all.value));
  CHECK(none.gradient.size(0) == 0);
}

TEST_CASE("logits far apart neither overflow nor lose the greatest") {
  model::OutputHead head;
  head.unembedding = at::randn({600, 16}) * 40;
  const at::Tensor rows = at::randn({20, 16}) * 3;
  const LogSumExpValues expected = plain(head, rows, {});
  const auto fused = (*train::make_log_sum_exp(head, Products::kFloat32, {}))(rows);
  CHECK(largest_difference(fused.value, expected.value) < 1e-3);  // values of some hundreds, in float32
  CHECK(at::equal(fused.top, expected.top));
  CHECK(largest_difference(fused.gradient, expected.gradient) < 0.05);
}

}  // namespace
}  // namespace depthlens
