// What is around a state space: the convolution before it, steps and decays, the values that skip it.
#include "state_space.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/softplus.h>

#include "depthlens/compute/runtime.hpp"
#include "depthlens/compute/state_space.hpp"
#include "depthlens/util/error.hpp"
#include "layers.hpp"
#include "state_chunks.hpp"

namespace depthlens::model {
namespace {

/// Of tensors whose dimension `dim` has all groups' values, then all their writers, then all their readers:
/// those of one group, likewise.
at::Tensor of_group(const StateSpaceSpec& spec, const at::Tensor& x, std::int64_t dim, std::int64_t group) {
  const std::int64_t values = spec.values() / spec.groups, n = spec.state_size;
  return at::cat({x.narrow(dim, group * values, values), x.narrow(dim, spec.values() + group * n, n),
                  x.narrow(dim, spec.values() + spec.keys() + group * n, n)},
                 dim);
}

}  // namespace

std::int64_t state_space_floats(const StateSpaceSpec& spec) {
  const std::int64_t of_head = 4 * kStateChunk + 2 * spec.state_size + 6 * spec.head_size;
  return spec.heads * of_head + 5 * spec.channels();
}

std::int64_t recorded_state_space_floats(const StateSpaceSpec& spec) {
  // Of each head the matrices of a chunk, what is read and written, the state, and what skip, gate and norm
  // read; and what goes through the convolution.
  const std::int64_t of_head = 4 * kStateChunk + 2 * spec.state_size + 7 * spec.head_size +
                               spec.state_size * spec.head_size / kStateChunk;
  return spec.heads * of_head + (3 + spec.kernel) * spec.channels();
}

at::Tensor mix_by_state_space(const StateSpaceSpec& spec, const StateSpaceWeights& weights,
                              const StateSpaceRows& rows) {
  const std::int64_t groups = spec.groups, heads = spec.heads / groups, T = rows.steps.size(1);
  const at::Tensor convolved =
      causal_convolution(rows.channels, weights.convolution, weights.convolution_bias);
  const std::vector<at::Tensor> parts = activate(spec.activation, convolved.flatten(0, 1))
                                            .view(convolved.sizes())
                                            .split_with_sizes({spec.values(), spec.keys(), spec.keys()}, -1);
  at::Tensor steps = at::softplus(rows.steps + weights.step_bias);  // [W, T, heads]
  if (spec.least_step > 0) steps = steps.clamp_min(spec.least_step);
  if (spec.largest_step < StateSpaceSpec::kNoLimit) steps = steps.clamp_max(spec.largest_step);
  const at::Tensor values = parts[0].unflatten(-1, {spec.heads, spec.head_size});
  const at::Tensor written = (values * steps.unsqueeze(-1)).flatten(2);
  const at::Tensor log_decays = -weights.log_decay.exp() * steps;
  const at::Tensor shown =
      compute::state_space(by_chunk(parts[2], groups, 1), by_chunk(parts[1], groups, 1),
                           by_chunk(written, groups, heads), by_chunk(log_decays, groups, heads));
  return (by_position(shown, spec.heads, T) + values * weights.skip.unsqueeze(-1)).flatten(2);
}

at::Tensor mix_windows_by_state_space(const StateSpaceSpec& spec, const StateSpaceWeights& weights,
                                      const StateSpaceRows& rows, const std::vector<std::int64_t>& lengths) {
  DEPTHLENS_ASSERT(rows.steps.device().is_cpu());
  const std::int64_t groups = spec.groups, heads = spec.heads / groups, values = heads * spec.head_size;
  StateSpaceSpec alone = spec;
  alone.groups = 1;
  alone.heads = heads;
  std::vector<StateSpaceWeights> of_groups;
  for (std::int64_t group = 0; group < groups; ++group) {
    const auto channels = [&](const at::Tensor& x) { return x.defined() ? of_group(spec, x, 0, group) : x; };
    const auto of_heads = [&](const at::Tensor& x) { return x.narrow(0, group * heads, heads).contiguous(); };
    of_groups.push_back({.convolution = channels(weights.convolution),
                         .convolution_bias = channels(weights.convolution_bias),
                         .step_bias = of_heads(weights.step_bias),
                         .log_decay = of_heads(weights.log_decay),
                         .skip = of_heads(weights.skip)});
  }
  std::vector<std::int64_t> begins = {0};
  for (const std::int64_t length : lengths) begins.push_back(begins.back() + length);
  at::Tensor mixed = at::empty({begins.back(), spec.values()}, rows.steps.options());
  compute::for_each_by_one_thread(static_cast<std::int64_t>(lengths.size()) * groups, [&](std::int64_t task) {
    const auto window = static_cast<std::size_t>(task / groups);
    const std::int64_t group = task % groups;
    const auto of_window = [&](const at::Tensor& x) { return x.narrow(0, begins[window], lengths[window]); };
    const at::Tensor steps = of_window(rows.steps).narrow(1, group * heads, heads).contiguous();
    of_window(mixed)
        .narrow(1, group * values, values)
        .copy_(
            mix_by_state_space(alone, of_groups[static_cast<std::size_t>(group)],
                               {.channels = of_group(spec, of_window(rows.channels), 1, group).unsqueeze(0),
                                .steps = steps.unsqueeze(0)})
                .squeeze(0));
  });
  return mixed;
}

}  // namespace depthlens::model
