// The gated delta rule by chunks of positions: within one, what its positions write is the solution of a
// triangular system; from one to the next goes the state.
#include "delta_net.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

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

/// What a chunk does to the state S [key_size, value_size], of N heads and all chunks, [chunks, N, …]: it
/// writes written − reads · S with its keys, and shows shown · S + seen · what it writes.
struct Chunks {
  at::Tensor written, reads, shown, seen, keys, decay;
};

/// Queries and keys [chunks, W, groups, 1, kChunk, key_size], values [chunks, W, groups, heads, kChunk,
/// value_size], updates and log decays [chunks, W, groups, heads, kChunk, 1].
Chunks chunks_of(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                 const at::Tensor& updates, const at::Tensor& log_decays) {
  // Sums of logs can be large where what matters is their small differences; and no exponential here is of
  // more than 0.
  const at::Tensor sums = log_decays.squeeze(-1).to(at::kDouble).cumsum(-1);
  const at::Tensor later = at::ones({kChunk, kChunk}, values.options().dtype(at::kBool)).triu(1);
  const at::Tensor between = (sums.unsqueeze(-1) - sums.unsqueeze(-2))
                                 .to(at::kFloat)
                                 .masked_fill(later, -std::numeric_limits<double>::infinity())
                                 .exp();
  const at::Tensor from_start = sums.to(at::kFloat).exp().unsqueeze(-1);
  const at::Tensor last = sums.narrow(-1, kChunk - 1, 1);
  const at::Tensor to_end = (last - sums).to(at::kFloat).exp().unsqueeze(-1);

  const at::Tensor turned = keys.transpose(-1, -2);
  const at::Tensor system = at::matmul(keys, turned) * between * updates;
  const at::Tensor sides = at::cat({values * updates, keys * (updates * from_start)}, -1);
  // Of the system the entries below the diagonal are read.
  const at::Tensor solved = at::linalg_solve_triangular(system, sides, /*upper=*/false, /*left=*/true,
                                                        /*unitriangular=*/true);
  const std::vector<at::Tensor> parts = solved.split_with_sizes({values.size(-1), keys.size(-1)}, -1);
  const auto by_head = [](const at::Tensor& x) { return x.flatten(1, 3); };
  return {.written = by_head(parts[0]),
          .reads = by_head(parts[1]),
          .shown = by_head(queries * from_start),
          .seen = by_head(at::matmul(queries, turned) * between),
          .keys = by_head(keys * to_end),
          .decay = by_head(last.to(at::kFloat).exp().unsqueeze(-1))};
}

/// Of each chunk what the state shows of it, [chunks, N, kChunk, value_size].
at::Tensor run_through(const Chunks& chunks) {
  // Taken apart at once: the derivative of a view is as large as the whole.
  const auto written = chunks.written.unbind(), reads = chunks.reads.unbind(), shown = chunks.shown.unbind(),
             seen = chunks.seen.unbind(), keys = chunks.keys.unbind(), decay = chunks.decay.unbind();
  at::Tensor state;
  std::vector<at::Tensor> outputs;
  for (std::size_t c = 0; c < written.size(); ++c) {
    if (!state.defined()) {  // nothing has been written
      outputs.push_back(at::matmul(seen[c], written[c]));
      state = at::matmul(keys[c].transpose(-1, -2), written[c]);
      continue;
    }
    const at::Tensor writes = at::baddbmm(written[c], reads[c], state, /*beta=*/1, /*alpha=*/-1);
    outputs.push_back(at::baddbmm(at::matmul(shown[c], state), seen[c], writes));
    if (c + 1 < written.size()) state = at::baddbmm(state * decay[c], keys[c].transpose(-1, -2), writes);
  }
  return at::stack(outputs);
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
  const Chunks chunks = chunks_of(
      of_keys(rows.queries, weights.query_convolution) * scale, of_keys(rows.keys, weights.key_convolution),
      chunked(convolved(weights.activation, rows.values, weights.value_convolution), heads),
      chunked(at::sigmoid(rows.updates), heads), chunked(log_decays, heads));
  const at::Tensor mixed = run_through(chunks)                       // [chunks, N, kChunk, size]
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
  // Each task is computed by one thread: shared out among several, libtorch's operations round the ends of
  // their shares in other ways. So there are two at least, since one alone would be shared out.
  const auto tasks = static_cast<std::int64_t>(lengths.size()) * groups;
  std::atomic<std::int64_t> next = 0;
  at::parallel_for(0, std::max<std::int64_t>(2, at::get_num_threads()), 1, [&](std::int64_t, std::int64_t) {
    const c10::InferenceMode inference;  // a setting of each thread
    for (std::int64_t task = next++; task < tasks; task = next++)
      mix(static_cast<std::size_t>(task / groups), task % groups);
  });
  return mixed;
}

}  // namespace depthlens::model
