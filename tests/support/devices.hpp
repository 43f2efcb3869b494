// Where a test that compares numbers runs: on the processor, and on a card where there is one, else on the
// guarded device.
#pragma once

#include <ATen/detail/CUDAHooksInterface.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/model/model.hpp"
#include "support/guarded_device.hpp"

namespace depthlens::test {

/// Names for `compute::BackendOptions::device`, "cpu" first.
inline std::vector<std::string> devices() {
  // Not both: with a device registered, libtorch's backward passes find no streams on a card.
  if (at::detail::getCUDAHooks().deviceCount() > 0) return {"cpu", "cuda"};
  return {"cpu", guarded_device()};
}

/// The backend of a device.
inline std::shared_ptr<const compute::Backend> backend_on(const std::string& device) {
  return compute::Backend::create({.device = device});
}

/// The same numbers elsewhere; an undefined tensor stays one.
inline at::Tensor moved(const at::Tensor& tensor, const std::string& device) {
  return tensor.defined() ? tensor.to(at::Device(device)) : tensor;
}
inline compute::Unembedding moved(compute::Unembedding unembedding, const std::string& device) {
  for (at::Tensor* tensor : {&unembedding.weight, &unembedding.bias}) *tensor = moved(*tensor, device);
  return unembedding;
}
inline model::OutputHead moved(model::OutputHead head, const std::string& device) {
  for (at::Tensor* tensor : {&head.norm_weight, &head.norm_bias}) *tensor = moved(*tensor, device);
  head.unembedding = moved(std::move(head.unembedding), device);
  return head;
}

/// Every device with every one of `cases`: {device, case}.
template <typename Case>
std::vector<std::pair<std::string, Case>> on_devices(const std::vector<Case>& cases) {
  std::vector<std::pair<std::string, Case>> all;
  for (const std::string& device : devices()) {
    for (const Case& one : cases) all.emplace_back(device, one);
  }
  return all;
}

}  // namespace depthlens::test
