// Where a test that compares numbers runs: on the processor, on the guarded device, and on a card where there
// is one; models also on two of them at once, and on the processor with a card's arithmetic.
#pragma once

#include <ATen/detail/CUDAHooksInterface.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/model/model.hpp"
#include "support/card_arithmetic.hpp"
#include "support/guarded_device.hpp"

namespace depthlens::test {

/// Names for `compute::BackendOptions::device`, "cpu" first.
inline std::vector<std::string> devices() {
  std::vector<std::string> all = {"cpu"};
  if (const auto guarded = guarded_device()) all.push_back(*guarded);
  if (at::detail::getCUDAHooks().deviceCount() > 0) all.emplace_back("cuda");
  return all;
}

/// The backend of a device.
inline std::shared_ptr<const compute::Backend> backend_on(const std::string& device) {
  return compute::Backend::create({.device = device});
}

inline constexpr const char* kCardArithmetic = "card arithmetic";

/// Where a model can be, for `backends_on`: a device, or several with commas, which share its blocks; or
/// `kCardArithmetic`. The processor stands for a second card.
inline std::vector<std::string> placements() {
  std::vector<std::string> all = devices();
  if (const std::string other = all.back(); other != "cpu") {
    all.push_back("cpu," + other);
    all.push_back(other + ",cpu");
  }
  if (at::detail::getCUDAHooks().deviceCount() > 1) all.emplace_back("cuda:1,cuda:0");
  all.emplace_back(kCardArithmetic);
  return all;
}

/// The backends of a placement, for `model::LoadOptions`.
inline std::vector<std::shared_ptr<const compute::Backend>> backends_on(const std::string& placement) {
  if (placement == kCardArithmetic) return {card_arithmetic()};
  return compute::Backend::create_all({.device = placement});
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

/// Every place with every one of `cases`: {place, case}.
template <typename Case>
std::vector<std::pair<std::string, Case>> at_each(const std::vector<std::string>& places,
                                                  const std::vector<Case>& cases) {
  std::vector<std::pair<std::string, Case>> all;
  for (const std::string& place : places) {
    for (const Case& one : cases) all.emplace_back(place, one);
  }
  return all;
}
template <typename Case>
std::vector<std::pair<std::string, Case>> on_devices(const std::vector<Case>& cases) {
  return at_each(devices(), cases);
}
template <typename Case>
std::vector<std::pair<std::string, Case>> on_placements(const std::vector<Case>& cases) {
  return at_each(placements(), cases);
}

}  // namespace depthlens::test
