// The selective scan, position by position, with what does not depend on the state for some positions at
// once.
#include "depthlens/compute/selective_scan.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <vector>

namespace depthlens::compute {

at::Tensor selective_scan(const at::Tensor& steps, const at::Tensor& rates, const at::Tensor& values,
                          const at::Tensor& writers, const at::Tensor& readers) {
  constexpr std::int64_t kAtOnce = 64;
  const std::int64_t T = steps.size(1);
  at::Tensor state;  // [W, D, N]
  std::vector<at::Tensor> shown;
  for (std::int64_t first = 0; first < T; first += kAtOnce) {
    const std::int64_t count = std::min(kAtOnce, T - first);
    const auto part = [&](const at::Tensor& x) { return x.narrow(1, first, count); };
    const std::vector<at::Tensor> decays = (part(steps).unsqueeze(-1) * rates).exp().unbind(1);
    const std::vector<at::Tensor> written =
        (part(values).unsqueeze(-1) * part(writers).unsqueeze(2)).unbind(1);
    std::vector<at::Tensor> states;
    for (std::size_t t = 0; t < written.size(); ++t) {
      state = state.defined() ? at::addcmul(written[t], decays[t], state) : written[t];
      states.push_back(state);
    }
    shown.push_back((at::stack(states, 1) * part(readers).unsqueeze(2)).sum(-1));
  }
  return at::cat(shown, 1);
}

}  // namespace depthlens::compute
