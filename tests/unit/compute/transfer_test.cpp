// Copies that nobody waits for: they hold what was there when they were begun.
#include "depthlens/compute/transfer.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

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

TEST_CASE("a copy on the host holds what the device had when it was begun", "[cuda]") {
  const at::Device device(GENERATE(from_range(devices())));
  // Long enough that a card is still at it.
  const at::Tensor ones = at::ones({1024, 1024}, at::kFloat).to(device);
  at::Tensor product = ones;
  for (int i = 0; i < 8; ++i) product = at::mm(product, ones).div_(1024);
  HostCopy copy(product);
  if (!device.is_cpu()) product.fill_(7);  // on the processor the tensor itself is the copy
  CHECK(copy.defined());
  CHECK(copy.values().equal(at::ones({1024, 1024})));
  CHECK_FALSE(HostCopy().defined());
}

TEST_CASE("a mark is reached when what was given before it is done", "[cuda]") {
  const at::Device device(GENERATE(from_range(devices())));
  WorkMark().wait();
  WorkMark first(device), moved = std::move(first);
  moved = WorkMark(device);
  moved.wait();
  moved.wait();
}

}  // namespace
}  // namespace depthlens::test
