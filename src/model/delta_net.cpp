// What is around the gated delta rule: convolutions before it, the norm and the gate behind it.
#include "delta_net.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>

#include <algorithm>
#include <cmath>

#include "depthlens/compute/delta_rule.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/util/error.hpp"
#include "layers.hpp"
#include "state_chunks.hpp"

namespace depthlens::model {
namespace {

/// The convolution of x [W, T, n] and the activation.
at::Tensor convolved(Activation activation, const at::Tensor& x, const at::Tensor& weight) {
  return activate(activation, causal_convolution(x, weight, /*bias=*/{}).flatten(0, 1)).view(x.sizes());
}

at::Tensor unit_length(const at::Tensor& x) {
  constexpr double kEpsilon = 1e-6;
  return x * at::rsqrt(x.square().sum(-1, /*keepdim=*/true) + kEpsilon);
}

}  // namespace

std::int64_t delta_net_floats(const DeltaNetSpec& spec) {
  const std::int64_t of_head = 4 * kStateChunk + 4 * spec.key_size + 6 * spec.value_size;
  return spec.value_heads * of_head + 4 * (spec.keys() + spec.values());
}

std::int64_t recorded_delta_net_floats(const DeltaNetSpec& spec) {
  // Of each head of values the matrices of a chunk, both sides of its system, the state, and what the norm
  // and the gate read; and what the convolutions and the norms of queries and keys read.
  const std::int64_t of_head = 4 * kStateChunk + 3 * spec.key_size + 7 * spec.value_size +
                               spec.key_size * spec.value_size / kStateChunk;
  return spec.value_heads * of_head + 8 * spec.keys() + 2 * spec.values();
}

at::Tensor mix_by_delta_rule(const DeltaNetSpec& spec, const DeltaNetWeights& weights,
                             const DeltaNetRows& rows) {
  const std::int64_t groups = spec.key_heads, heads = spec.value_heads / groups;
  const std::int64_t T = rows.queries.size(1);
  const double scale = 1 / std::sqrt(static_cast<double>(spec.key_size));
  const auto of_keys = [&](const at::Tensor& x, const at::Tensor& convolution) {
    return unit_length(by_chunk(convolved(weights.activation, x, convolution), groups, 1));
  };
  const at::Tensor log_decays = -weights.log_decay.exp() * at::softplus(rows.decays + weights.decay_bias);
  const at::Tensor shown = compute::gated_delta_rule(
      of_keys(rows.queries, weights.query_convolution) * scale, of_keys(rows.keys, weights.key_convolution),
      by_chunk(convolved(weights.activation, rows.values, weights.value_convolution), groups, heads),
      by_chunk(scaled(at::sigmoid(rows.updates), spec.update_scale), groups, heads),
      by_chunk(log_decays, groups, heads));
  const at::Tensor mixed = by_position(shown, spec.value_heads, T);
  const at::Tensor normed =
      apply_norm(NormKind::kRmsNorm, mixed, weights.norm, /*bias=*/{}, weights.norm_epsilon);
  return (normed * at::silu(rows.gates).view(normed.sizes())).flatten(2);
}

at::Tensor mix_windows_by_delta_rule(const DeltaNetSpec& spec, const DeltaNetWeights& weights,
                                     const DeltaNetRows& rows, const std::vector<std::int64_t>& lengths) {
  DEPTHLENS_ASSERT(rows.queries.device().is_cpu());
  const std::int64_t groups = spec.key_heads, heads = spec.value_heads / groups;
  DeltaNetSpec of_group = spec;
  of_group.key_heads = 1;
  of_group.value_heads = heads;
  std::vector<std::int64_t> begins = {0};
  for (const std::int64_t length : lengths) begins.push_back(begins.back() + length);
  at::Tensor mixed = at::empty({begins.back(), spec.values()}, rows.queries.options());

  // One window and one head of keys, with its heads of values.
  const auto mix = [&](std::size_t window, std::int64_t group) {
    const auto part = [&](const at::Tensor& x, std::int64_t columns) {
      return x.narrow(0, begins[window], lengths[window]).narrow(1, group * columns, columns);
    };
    const auto rows_of = [&](const at::Tensor& x, std::int64_t columns) {
      return part(x, columns).contiguous().unsqueeze(0);
    };
    const auto of_heads = [&](const at::Tensor& x, std::int64_t count) {
      return x.narrow(0, group * count, count).contiguous();
    };
    const std::int64_t key_size = spec.key_size, value_size = heads * spec.value_size;
    const DeltaNetWeights own = {.query_convolution = of_heads(weights.query_convolution, key_size),
                                 .key_convolution = of_heads(weights.key_convolution, key_size),
                                 .value_convolution = of_heads(weights.value_convolution, value_size),
                                 .decay_bias = of_heads(weights.decay_bias, heads),
                                 .log_decay = of_heads(weights.log_decay, heads),
                                 .norm = weights.norm,
                                 .norm_epsilon = weights.norm_epsilon,
                                 .activation = weights.activation};
    part(mixed, value_size)
        .copy_(mix_by_delta_rule(of_group, own,
                                 {.queries = rows_of(rows.queries, key_size),
                                  .keys = rows_of(rows.keys, key_size),
                                  .values = rows_of(rows.values, value_size),
                                  .gates = rows_of(rows.gates, value_size),
                                  .updates = rows_of(rows.updates, heads),
                                  .decays = rows_of(rows.decays, heads)})
                   .squeeze(0));
  };
  compute::for_each_by_one_thread(static_cast<std::int64_t>(lengths.size()) * groups, [&](std::int64_t task) {
    mix(static_cast<std::size_t>(task / groups), task % groups);
  });
  return mixed;
}

}  // namespace depthlens::model
