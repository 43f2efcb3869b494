// What is around the gated delta rule: convolutions before it, the norm and the gate behind it.
#include "delta_net.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
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
#include "depthlens/util/rounding.hpp"
#include "layers.hpp"

namespace depthlens::model {
namespace {

constexpr std::int64_t kChunk = DeltaNetSpec::kChunk;

/// Each channel of x [W, T, n] as the sum of its last values, by weight [n, 1, kernel], and the activation.
/// Not libtorch's convolution: products and sums of whole rows have the same bits in a row of any window.
at::Tensor convolved(Activation activation, const at::Tensor& x, const at::Tensor& weight) {
  const std::int64_t kernel = weight.size(2), T = x.size(1);
  const at::Tensor before = at::constant_pad_nd(x, {0, 0, kernel - 1, 0});
  at::Tensor sum;
  for (std::int64_t k = 0; k < kernel; ++k) {
    const at::Tensor part = before.narrow(1, k, T) * weight.select(2, k).squeeze(1);
    sum = sum.defined() ? sum + part : part;
  }
  return activate(activation, sum.flatten(0, 1)).view(x.sizes());
}

/// x [W, chunks · kChunk, groups · heads · size] as [chunks, W, groups, heads, kChunk, size].
at::Tensor by_chunk(const at::Tensor& x, std::int64_t groups, std::int64_t heads) {
  return x.unflatten(1, {-1, kChunk})
      .unflatten(-1, {groups, heads, -1})
      .permute({1, 0, 3, 4, 2, 5})
      .contiguous();
}

at::Tensor unit_length(const at::Tensor& x) {
  constexpr double kEpsilon = 1e-6;
  return x * at::rsqrt(x.square().sum(-1, /*keepdim=*/true) + kEpsilon);
}

}  // namespace

std::int64_t delta_net_floats(const DeltaNetSpec& spec) {
  const std::int64_t of_head = 4 * kChunk + 4 * spec.key_size + 6 * spec.value_size;
  return spec.value_heads * of_head + 4 * (spec.keys() + spec.values());
}

at::Tensor mix_by_delta_rule(const DeltaNetSpec& spec, const DeltaNetWeights& weights,
                             const DeltaNetRows& rows) {
  const std::int64_t groups = spec.key_heads, heads = spec.value_heads / groups;
  const std::int64_t W = rows.queries.size(0), T = rows.queries.size(1);
  const std::int64_t whole = util::ceil_div(T, kChunk) * kChunk;
  // Behind the window keys, values and updates of 0: they neither write nor fade.
  const auto chunked = [&](const at::Tensor& x, std::int64_t heads_of_group) {
    return by_chunk(at::constant_pad_nd(x, {0, 0, 0, whole - T}), groups, heads_of_group);
  };
  const double scale = 1 / std::sqrt(static_cast<double>(spec.key_size));
  const auto of_keys = [&](const at::Tensor& x, const at::Tensor& convolution) {
    return unit_length(chunked(convolved(weights.activation, x, convolution), 1));
  };
  const at::Tensor log_decays = -weights.log_decay.exp() * at::softplus(rows.decays + weights.decay_bias);
  const at::Tensor shown = compute::gated_delta_rule(
      of_keys(rows.queries, weights.query_convolution) * scale, of_keys(rows.keys, weights.key_convolution),
      chunked(convolved(weights.activation, rows.values, weights.value_convolution), heads),
      chunked(at::sigmoid(rows.updates), heads), chunked(log_decays, heads));
  const at::Tensor mixed = shown                                     // [chunks, N, kChunk, size]
                               .unflatten(1, {W, spec.value_heads})  // N is W · value_heads
                               .permute({1, 0, 3, 2, 4})             // [W, chunks, kChunk, heads, size]
                               .reshape({W, whole, spec.value_heads, spec.value_size})
                               .narrow(1, 0, T);
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
