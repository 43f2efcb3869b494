// The guarded device itself: that the host cannot read it, that operations work there with and without
// gradients, and that mixed devices are refused.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/topk.h>
#include <c10/core/InferenceMode.h>
#include <sys/wait.h>
#include <torch/csrc/autograd/autograd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/devices.hpp"

namespace depthlens {
namespace {

/// Some numbers in no order, [rows, columns] on the host.
at::Tensor numbers(std::int64_t rows, std::int64_t columns) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>((i * 37 + 11) % 101) / 50.0F - 1.0F;
  return at::from_blob(values.data(), {rows, columns}, at::kFloat).clone();
}

/// Then there is nothing to test.
bool no_guarded_device() {
  if (test::guarded_device()) return false;
  WARN("a card takes the guarded device's place");
  return true;
}

at::Tensor on_device(const at::Tensor& tensor) {
  return tensor.to(at::Device(test::guarded_device().value()));
}

/// The signal that ends a child process which runs `action`; 0 where it comes to its end.
int signal_of_child(const std::function<void()>& action) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);  // not the handlers of the test framework or a sanitizer
    std::signal(SIGBUS, SIG_DFL);
    action();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST_CASE("the host dies that touches a device tensor's data, wherever it touches it") {
  if (no_guarded_device()) return;
  const at::Tensor host = numbers(300, 7), device = on_device(host);
  const auto read = [](const at::Tensor& tensor, std::int64_t at) {
    volatile const float* data = tensor.const_data_ptr<float>();
    [[maybe_unused]] const float value = data[at];
  };
  CHECK(signal_of_child([&] { read(host, 0); }) == 0);
  CHECK(signal_of_child([&] { read(device, 0); }) == SIGSEGV);
  CHECK(signal_of_child([&] { read(device, device.numel() - 1); }) == SIGSEGV);
  CHECK(signal_of_child([&] { read(device.narrow(0, 100, 3), 0); }) == SIGSEGV);
  CHECK(signal_of_child([&] { device.mutable_data_ptr<float>()[5] = 1; }) == SIGSEGV);
  CHECK(signal_of_child([&] { read(device * 2, 0); }) == SIGSEGV);
  CHECK(signal_of_child([&] {  // and amid the device's own work
          std::atomic<bool> started = false;
          std::thread worker([&] {
            for (;;) {
              device.add(1);  // too few for threads of libtorch, which a child has not
              started = true;
            }
          });
          while (!started) std::this_thread::yield();
          read(device, 0);
        }) == SIGSEGV);
  CHECK(at::equal(device.cpu(), host));
}

TEST_CASE("tensors go to the device and back, in every shape and type") {
  if (no_guarded_device()) return;
  const at::Tensor host = numbers(5, 6);
  const at::Tensor device = on_device(host);
  CHECK(device.device() == at::Device(at::kPrivateUse1, 0));
  CHECK(at::equal(device.cpu(), host));
  CHECK(at::equal(device.t().cpu(), host.t()));
  CHECK(at::equal(device.narrow(1, 2, 3).contiguous().cpu(), host.narrow(1, 2, 3)));
  CHECK(at::equal(device.to(at::kDouble).cpu(), host.to(at::kDouble)));
  CHECK(at::equal(device.to(at::kCPU, at::kBFloat16), host.to(at::kBFloat16)));
  CHECK(device[2][3].item<float>() == host[2][3].item<float>());
  CHECK(on_device(at::empty({0, 3})).cpu().numel() == 0);

  at::Tensor changed = device.clone();
  changed.select(0, 1).copy_(host.select(0, 4));
  changed.select(1, 2).add_(device.select(1, 3), -2);
  changed.narrow(0, 2, 2).fill_(7);
  at::Tensor expected = host.clone();
  expected.select(0, 1).copy_(host.select(0, 4));
  expected.select(1, 2).add_(host.select(1, 3), -2);
  expected.narrow(0, 2, 2).fill_(7);
  CHECK(at::equal(changed.cpu(), expected));
  CHECK(at::equal(device.cpu(), host));

  at::Tensor grown = device.clone();
  grown.resize_({9, 6});
  CHECK(at::equal(grown.narrow(0, 0, 5).cpu(), host));
  CHECK(at::empty({4}, device.options()).isnan().all().item<bool>());
}

TEST_CASE("operations give the processor's bits, in inference mode and out of it") {
  if (no_guarded_device()) return;
  const auto count = test::guarded_counts().operations;
  for (const bool inference : {false, true}) {
    INFO("inference mode " << inference);
    const c10::InferenceMode mode(inference);
    const at::Tensor x = numbers(6, 8), w = numbers(4, 8), y = on_device(x), v = on_device(w);
    const auto same = [](const at::Tensor& device, const at::Tensor& host) {
      return device.device().is_privateuseone() && at::equal(device.cpu(), host);
    };
    CHECK(same(at::linear(y, v), at::linear(x, w)));
    CHECK(same(1 - y * 2, 1 - x * 2));
    CHECK(same(at::cat({y, v}), at::cat({x, w})));
    CHECK(same(y.log_softmax(1), x.log_softmax(1)));
    CHECK(same(y.view({2, 3, 8}).transpose(0, 1).reshape({6, 8}),
               x.view({2, 3, 8}).transpose(0, 1).reshape({6, 8})));
    CHECK(same(std::get<1>(at::topk(y, 3)), std::get<1>(at::topk(x, 3))));
    CHECK(same(std::get<0>(at::sort(y, true, 1, true)), std::get<0>(at::sort(x, true, 1, true))));
    CHECK(same(y.clone().masked_fill_(y > 0, 3), x.clone().masked_fill_(x > 0, 3)));
    CHECK(same(y.split_with_sizes({1, 5})[1], x.split_with_sizes({1, 5})[1]));
    const auto heads = [](const at::Tensor& t) { return t.view({1, 2, 3, 8}); };
    CHECK(same(at::scaled_dot_product_attention(heads(y), heads(y), heads(y), {}, 0.0, true).isnan(),
               heads(x).isnan()));
  }
  CHECK(test::guarded_counts().operations > count + 20);
}

TEST_CASE("gradients flow on the device") {
  if (no_guarded_device()) return;
  const auto gradient = [](const at::Tensor& x, const at::Tensor& w) {
    const at::Tensor input = x.clone().set_requires_grad(true);
    const at::Tensor hidden = at::linear(input, w).tanh();
    const at::Tensor parts = at::cat(hidden.split_with_sizes({2, 4}));
    const at::Tensor loss = (parts.view({2, 3, 4}).transpose(0, 1) * 3).square().sum();
    return torch::autograd::grad({loss}, {input}).front();
  };
  const at::Tensor x = numbers(6, 8), w = numbers(4, 8);
  const at::Tensor found = gradient(on_device(x), on_device(w));
  CHECK(found.device().is_privateuseone());
  CHECK((found.cpu() - gradient(x, w)).abs().max().item<double>() < 1e-6);
}

TEST_CASE("tensors of different devices are refused, but for single numbers") {
  if (no_guarded_device()) return;
  const at::Tensor x = numbers(3, 3), y = on_device(x);
  std::vector<std::int64_t> rows = {2, 0};
  const at::Tensor index = at::from_blob(rows.data(), {2}, at::kLong);
  CHECK_THROWS_WITH(y + x, ContainsSubstring("device"));
  CHECK_THROWS_WITH(at::mm(y, x), ContainsSubstring("device"));
  CHECK_THROWS_WITH(at::cat({y, x}), ContainsSubstring("device"));
  CHECK_THROWS_WITH(at::index_select(y, 0, index), ContainsSubstring("device"));
  CHECK(at::equal((y * x[1][1]).cpu(), x * x[1][1]));
  CHECK(at::equal((x[1][1] - y).cpu(), x[1][1] - x));
  CHECK(at::equal(at::index_select(y, 0, on_device(index)).cpu(), at::index_select(x, 0, index)));
}

TEST_CASE("several threads may work on the device at once") {
  if (no_guarded_device()) return;
  const at::Tensor x = numbers(40, 40), y = on_device(x), expected = at::mm(x, x);
  std::atomic<int> equal = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) equal += (at::mm(y, y).cpu() - expected).abs().max().item<float>() < 1e-5F;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(equal == 200);
}

}  // namespace
}  // namespace depthlens
