// What is around the selective scan: steps, and the values that skip it.
#include "selective_scan.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/softplus.h>

#include <algorithm>

#include "depthlens/compute/runtime.hpp"
#include "depthlens/compute/selective_scan.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::model {

std::int64_t selective_scan_floats(const SelectiveScanSpec& spec) {
  return spec.channels * (8 + spec.kernel) + 4 * spec.channels * spec.state_size;
}

std::int64_t recorded_selective_scan_floats(const SelectiveScanSpec& spec) {
  // Decays, what is written, states, and these as they are read; and what convolution, steps, skip and gate
  // read.
  return spec.channels * (4 * spec.state_size + 12 + spec.kernel);
}

at::Tensor mix_by_selective_scan(const SelectiveScanWeights& weights, const SelectiveScanRows& rows) {
  const at::Tensor steps = at::softplus(rows.steps + weights.step_bias);
  return compute::selective_scan(steps, -weights.log_decay.exp(), rows.values * steps, rows.writers,
                                 rows.readers) +
         rows.values * weights.skip;
}

at::Tensor mix_windows_by_selective_scan(const SelectiveScanWeights& weights, const SelectiveScanRows& rows,
                                         const std::vector<std::int64_t>& lengths) {
  DEPTHLENS_ASSERT(rows.values.device().is_cpu());
  constexpr std::int64_t kOfTask = 128;  // channels
  const std::int64_t channels = rows.values.size(1), slices = util::ceil_div(channels, kOfTask);
  std::vector<std::int64_t> begins = {0};
  for (const std::int64_t length : lengths) begins.push_back(begins.back() + length);
  at::Tensor mixed = at::empty({begins.back(), channels}, rows.values.options());
  compute::for_each_by_one_thread(static_cast<std::int64_t>(lengths.size()) * slices, [&](std::int64_t task) {
    const auto window = static_cast<std::size_t>(task / slices);
    const std::int64_t first = task % slices * kOfTask, count = std::min(kOfTask, channels - first);
    const auto of_window = [&](const at::Tensor& x) { return x.narrow(0, begins[window], lengths[window]); };
    const auto own = [&](const at::Tensor& x) {
      return of_window(x).narrow(1, first, count).contiguous().unsqueeze(0);
    };
    const auto of_channels = [&](const at::Tensor& x) { return x.narrow(0, first, count).contiguous(); };
    const auto common = [&](const at::Tensor& x) { return of_window(x).contiguous().unsqueeze(0); };
    of_window(mixed)
        .narrow(1, first, count)
        .copy_(mix_by_selective_scan({.step_bias = of_channels(weights.step_bias),
                                      .skip = of_channels(weights.skip),
                                      .log_decay = of_channels(weights.log_decay)},
                                     {.values = own(rows.values),
                                      .steps = own(rows.steps),
                                      .writers = common(rows.writers),
                                      .readers = common(rows.readers)})
                   .squeeze(0));
  });
  return mixed;
}

}  // namespace depthlens::model
