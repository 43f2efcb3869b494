// Products with weights against float64, for every arithmetic that this processor runs.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/autograd.h>

#include <array>
#include <atomic>
#include <string>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/devices.hpp"
#include "support/kernels.hpp"

namespace depthlens {
namespace {

TEST_CASE("linear: weights of every stored type, awkward sizes, rows alone and among others") {
  at::manual_seed(3);
  for (const at::ScalarType stored : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const auto& [T, d, n] : {std::array{1, 5, 3}, {9, 33, 48}, {40, 200, 130}, {70, 96, 700}}) {
      const at::Tensor x = at::randn({T, d}, at::kFloat);
      const at::Tensor weight = at::randn({n, d}, at::kFloat).to(stored), bias = at::randn({n}, at::kFloat);
      const at::Tensor expected =
          at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t()).add_(bias.to(at::kDouble));
      for (const std::string& name : compute::processor_kernels(compute::Precision::kExact)) {
        INFO(name << ": " << at::toString(stored) << ", T " << T << ", d " << d << ", n " << n);
        const auto backend = test::backend(name);
        const at::Tensor y = backend->linear(x, weight, bias);
        REQUIRE(y.sizes() == expected.sizes());
        CHECK(y.scalar_type() == at::kFloat);
        CHECK((y - expected).abs().max().item<double>() < 1e-4);
        if (name != "aten") {
          const std::int64_t last = T - 1;
          CHECK(at::equal(backend->linear(x.narrow(0, last, 1), weight, bias), y.narrow(0, last, 1)));
        }
      }
    }
  }
}

TEST_CASE("linear: of every precision what the kernel's terms keep of both factors") {
  using compute::Precision;
  at::manual_seed(4);
  const at::Tensor x = at::randn({40, 200}, at::kFloat), weight = at::randn({130, 200}, at::kFloat);
  const auto product = [](const at::Tensor& a, const at::Tensor& b) {
    return at::matmul(a.to(at::kDouble), b.to(at::kDouble).t());
  };
  const double sum_of_sizes = product(x.abs(), weight.abs()).max().item<double>();
  for (const std::string& name : compute::processor_kernels(Precision::kExact)) {
    for (const Precision precision : {Precision::kFloat32, Precision::kExact, Precision::kFast}) {
      INFO(name << ", precision " << static_cast<int>(precision));
      const auto backend = test::backend(name);
      const at::Tensor y = backend->linear(backend->pack(x, precision), weight, {});
      const bool rounded = test::is_bfloat16(name) && precision == Precision::kFast;
      const at::Tensor expected =
          rounded ? product(x.to(at::kBFloat16), weight.to(at::kBFloat16)) : product(x, weight);
      const bool split = test::is_bfloat16(name) && precision == Precision::kExact;
      CHECK((y - expected).abs().max().item<double>() < (split ? sum_of_sizes * 0x1p-15 : 1e-4));
    }
  }
}

TEST_CASE("linear: rows in 16 bits are multiplied by weights in their type, and sums are of float32") {
  using compute::Precision;
  at::manual_seed(5);
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    for (const at::ScalarType stored : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::Tensor x = at::randn({40, 200}, at::kFloat).to(type),
                       weight = at::randn({130, 200}, at::kFloat).to(stored),
                       g = at::randn({40, 130}).to(type);
      const at::Tensor multiplied = weight.to(type).to(at::kDouble);
      const at::Tensor expected = at::matmul(x.to(at::kDouble), multiplied.t()),
                       back = at::matmul(g.to(at::kDouble), multiplied);
      const double sum_of_sizes =
          at::matmul(x.to(at::kDouble).abs(), multiplied.abs().t()).max().item<double>();
      for (const std::string& name : compute::processor_kernels(Precision::kExact)) {
        INFO(name << ": rows in " << at::toString(type) << ", weights in " << at::toString(stored));
        const auto backend = test::backend(name);
        const at::Tensor y = backend->linear(backend->pack(x, Precision::kFloat32), weight, {}),
                         z = backend->linear_back(backend->pack(g, Precision::kFloat32), weight);
        CHECK(y.scalar_type() == at::kFloat);
        CHECK(z.scalar_type() == at::kFloat);
        // libtorch rounds a product to the type of its factors.
        const double bound = sum_of_sizes * (name != "aten" ? 2e-6 : type == at::kHalf ? 0x1p-10 : 0x1p-7);
        CHECK((y - expected).abs().max().item<double>() < bound);
        CHECK((z - back).abs().max().item<double>() < bound);
        if (name != "aten")
          CHECK(at::equal(backend->linear(x.narrow(0, 39, 1), weight, {}), y.narrow(0, 39, 1)));
      }
    }
  }
}

TEST_CASE("linear: back, with weights of every stored type and awkward sizes") {
  using compute::Precision;
  at::manual_seed(6);
  for (const at::ScalarType stored : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const auto& [T, n, d] : {std::array{1, 3, 5}, {9, 48, 33}, {40, 130, 200}, {70, 700, 96}}) {
      const at::Tensor g = at::randn({n, T}, at::kFloat).t();  // rows that do not follow each other in memory
      const at::Tensor weight = at::randn({n, d}, at::kFloat).to(stored);
      const at::Tensor expected = at::matmul(g.to(at::kDouble), weight.to(at::kDouble));
      const double sum_of_sizes = at::matmul(g.abs(), weight.to(at::kFloat).abs()).max().item<double>();
      for (const std::string& name : compute::processor_kernels(Precision::kExact)) {
        INFO(name << ": " << at::toString(stored) << ", T " << T << ", n " << n << ", d " << d);
        const auto backend = test::backend(name);
        const at::Tensor x = backend->linear_back(backend->pack(g, Precision::kFloat32), weight);
        REQUIRE(x.sizes() == expected.sizes());
        CHECK(x.scalar_type() == at::kFloat);
        CHECK((x - expected).abs().max().item<double>() < 2e-6 * sum_of_sizes);
      }
    }
  }
}

TEST_CASE("linear: what is recorded has the derivative by the rows, in their type") {
  at::manual_seed(7);
  const at::Tensor x = at::randn({40, 96}), weight = at::randn({70, 96}), bias = at::randn({70}),
                   by_output = at::randn({40, 70});
  std::vector<std::shared_ptr<const compute::Backend>> backends;
  for (const std::string& name : compute::processor_kernels(compute::Precision::kExact))
    backends.push_back(test::backend(name));
  for (const std::string& device : test::devices()) backends.push_back(test::backend_on(device));
  for (const auto& backend : backends) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      for (const at::ScalarType stored : {at::kFloat, at::kBFloat16}) {
        INFO(backend->kernel_name() << " on " << backend->device() << ", rows in " << at::toString(type)
                                    << ", weights in " << at::toString(stored));
        const auto there = [&](const at::Tensor& tensor) { return tensor.to(backend->device()); };
        const at::Tensor rows = there(x.to(type)).set_requires_grad(true);
        const at::Tensor y = backend->linear(rows, there(weight.to(stored)), there(bias));
        CHECK(y.scalar_type() == at::kFloat);
        const at::Tensor found = torch::autograd::grad({y}, {rows}, {there(by_output)}).front();
        CHECK(found.scalar_type() == type);
        const auto wide = [](const at::Tensor& tensor) { return tensor.detach().to(at::kCPU, at::kDouble); };
        const at::Tensor used = wide(weight.to(stored).to(type));
        const double tolerance = type == at::kFloat ? 1e-4 : 0.25;  // of sums of 96 or 70 products
        CHECK((wide(y) - at::matmul(wide(x.to(type)), used.t()) - wide(bias)).abs().max().item<double>() <
              tolerance);
        CHECK((wide(found) - at::matmul(wide(by_output.to(type)), used)).abs().max().item<double>() <
              tolerance);
      }
    }
  }
}

TEST_CASE("linear: rows in float64 are multiplied in float64") {
  at::manual_seed(5);
  const at::Tensor x = at::randn({3, 50}, at::kDouble), weight = at::randn({7, 50}, at::kDouble);
  const at::Tensor y = compute::Backend::create()->linear(x, weight, {});
  CHECK(y.scalar_type() == at::kDouble);
  CHECK((y - at::matmul(x, weight.t())).abs().max().item<double>() < 1e-13);
}

TEST_CASE("linear: no bias, and arithmetic of the input's type") {
  const at::Tensor x = at::ones({2, 300}, at::kBFloat16), weight = at::ones({4, 300}, at::kFloat);
  const auto backend = compute::Backend::create();
  CHECK(at::equal(backend->linear(x, weight, {}), at::ones({2, 4}, at::kFloat).mul_(300)));
  CHECK(at::equal(backend->linear(x.to(at::kFloat), weight, {}), at::ones({2, 4}, at::kFloat).mul_(300)));
}

TEST_CASE("linear: a product is given up where that is asked for, before it or in its middle") {
  const at::Tensor x = at::ones({200, 64}, at::kFloat), weight = at::ones({3000, 64}, at::kFloat);
  for (const std::string& name : compute::processor_kernels(compute::Precision::kExact)) {
    for (const int most : {0, 3, 1'000'000}) {
      INFO(name << ", asked " << most << " times");
      std::atomic<int> asked = 0;
      const auto backend =
          compute::Backend::create({.kernel = name, .should_stop = [&] { return asked++ >= most; }});
      if (most > asked + 1000) {
        CHECK(at::equal(backend->linear(x, weight, {}), at::ones({200, 3000}, at::kFloat).mul_(64)));
        continue;
      }
      if (name == "aten" && most > 0) continue;  // a library's product has no middle
      test::check_error(util::ErrorCode::kInterrupted, {"interrupted"},
                        [&] { backend->linear(x, weight, {}); });
    }
  }
}

}  // namespace
}  // namespace depthlens
