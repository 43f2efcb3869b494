// Where a test that compares numbers runs: on the processor, on the guarded device, and on a card where there
// is one.
#pragma once

#include <ATen/detail/CUDAHooksInterface.h>

#include <string>
#include <vector>

#include "support/guarded_device.hpp"

namespace depthlens::test {

/// Names for `model::LoadOptions::device`, "cpu" first.
inline std::vector<std::string> devices() {
  std::vector<std::string> all = {"cpu", guarded_device()};
  if (at::detail::getCUDAHooks().deviceCount() > 0) all.emplace_back("cuda");
  return all;
}

}  // namespace depthlens::test
