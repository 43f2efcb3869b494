// Copies that nobody waits for: they hold what was there when they were begun.
#include "depthlens/compute/transfer.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "support/catch.hpp"
#include "support/devices.hpp"

namespace depthlens::test {
namespace {

using compute::copied_to;
using compute::HostCopy;
using compute::staged_for;
using compute::WorkMark;

TEST_CASE("what is copied to a device may change behind it", "[cuda]") {
  const at::Device device(GENERATE(from_range(devices())));
  at::Tensor values = at::arange(12).view({3, 4}).t();
  const at::Tensor before = values.clone();
  const at::Tensor there = copied_to(device, values), staged = staged_for(device, values);
  values.fill_(-1);
  CHECK(there.device().type() == device.type());
  CHECK(there.cpu().equal(before));
  CHECK(staged.device().is_cpu());
  CHECK(staged.is_contiguous());
  CHECK(staged.equal(before));
  CHECK_FALSE(copied_to(device, at::Tensor()).defined());
}

/// Ones [1024, 1024], which take so long to come that a card is still at it.
at::Tensor slow_ones(at::Device device) {
  const at::Tensor ones = at::ones({1024, 1024}, at::kFloat).to(device);
  at::Tensor product = ones;
  for (int i = 0; i < 8; ++i) product = at::mm(product, ones).div_(1024);
  return product;
}

TEST_CASE("a copy on the host holds what the device had when it was begun", "[cuda]") {
  const at::Device device(GENERATE(from_range(devices())));
  const at::Tensor product = slow_ones(device);
  HostCopy copy(product);
  if (!device.is_cpu()) product.fill_(7);  // on the processor the tensor itself is the copy
  CHECK(copy.defined());
  CHECK(copy.values().equal(at::ones({1024, 1024})));
  CHECK_FALSE(HostCopy().defined());
}

TEST_CASE("a mark is reached when what was given before it is done", "[cuda]") {
  const at::Device device(GENERATE(from_range(devices())));
  WorkMark().wait();
  const at::Tensor host = staged_for(device, at::zeros({1024, 1024}));
  host.copy_(slow_ones(device), /*non_blocking=*/true);
  WorkMark first(device), moved = std::move(first);
  moved.wait();
  CHECK(host.equal(at::ones({1024, 1024})));
  host.zero_();
  host.copy_(slow_ones(device), /*non_blocking=*/true);
  moved = WorkMark(device);
  moved.wait();
  CHECK(host.equal(at::ones({1024, 1024})));
  moved.wait();
}

}  // namespace
}  // namespace depthlens::test
