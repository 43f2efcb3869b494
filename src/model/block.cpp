// The one decoder block.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "delta_net.hpp"
#include "depthlens/compute/attention.hpp"
#include "depthlens/compute/mxfp4.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/error.hpp"
#include "layers.hpp"
#include "selective_scan.hpp"
#include "state_space.hpp"

namespace depthlens::model {

namespace {

at::Tensor scaled(const at::Tensor& x, double scale) {
  return scale == 1 ? x : x * scale;
}

/// Which rows of windows have no attention, [T, 1] bool: the query, or a key that may be seen from there, is
/// not finite, of which libtorch's attention on the processor makes 0. Undefined where there are none.
at::Tensor rows_without_attention(const at::Tensor& queries, const at::Tensor& keys,
                                  const std::vector<std::int64_t>& lengths) {
  const auto broken = [](const at::Tensor& x) {
    const auto [least, most] = x.detach().flatten(1).aminmax(1, /*keepdim=*/true);  // NaN where there is one
    return at::isfinite(least).logical_and(at::isfinite(most)).logical_not();
  };
  const at::Tensor of_queries = broken(queries), of_keys = broken(keys);
  if (!of_queries.logical_or(of_keys).any().item<bool>()) return {};
  std::vector<at::Tensor> seen;
  for (const at::Tensor& window : of_keys.split_with_sizes(lengths)) seen.push_back(window.cumsum(0).gt(0));
  return of_queries.logical_or(at::cat(seen));
}

}  // namespace

at::Tensor Model::Matrix::unfolded() const {
  return scales.defined() ? compute::unfold_mxfp4(values, scales) : values;
}

at::Tensor Model::norm(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) const {
  return apply_norm(spec_.norm, input, weight, bias, spec_.norm_epsilon);
}

compute::PackedRows Model::packed(const compute::Backend& backend, const at::Tensor& input) const {
  return backend.pack(input.to(options_.dtype), options_.products);
}

void Model::norm_queries_and_keys(const Weights& block, at::Tensor& q, at::Tensor& k) const {
  if (!block[Slot::kQueryNormWeight].defined()) return;
  const auto normed = [&](const at::Tensor& x, Slot weight, Slot bias) {
    if (!spec_.attention.query_key_norm_of_projection) return norm(x, block[weight], block[bias]);
    return norm(x.flatten(1), block[weight], block[bias]).view(x.sizes());
  };
  q = normed(q, Slot::kQueryNormWeight, Slot::kQueryNormBias);
  if (k.defined()) k = normed(k, Slot::kKeyNormWeight, Slot::kKeyNormBias);
}

std::array<at::Tensor, 3> Model::projections(const BlockSpec& spec, const Weights& block,
                                             const compute::PackedRows& rows) const {
  const HeadSizes heads = spec_.heads_of(spec);
  const std::int64_t H = spec_.num_heads, G = heads.num_kv_heads, dh = heads.head_size;
  const std::int64_t T = rows.values.size(0);
  const compute::Backend& backend = *block.backend;
  at::Tensor q, k, v;
  if (block[Slot::kQkvWeight].defined()) {
    const std::int64_t queries = H / G;
    const at::Tensor fused =
        backend.linear(rows, block[Slot::kQkvWeight], block[Slot::kQkvBias]).view({T, G, queries + 2, dh});
    q = fused.narrow(2, 0, queries).reshape({T, H, dh});
    k = fused.select(2, queries);
    v = fused.select(2, queries + 1);
  } else {
    q = backend.linear(rows, block[Slot::kQueryWeight], block[Slot::kQueryBias]).view({T, H, dh});
    if (spec.keys_of == BlockSpec::kOwnKeys) {
      k = backend.linear(rows, block[Slot::kKeyWeight], block[Slot::kKeyBias]).view({T, G, dh});
      const bool keys_are_values = spec.mixer == Mixer::kWideAttention && spec_.wide.keys_are_values;
      v = keys_are_values
              ? k
              : backend.linear(rows, block[Slot::kValueWeight], block[Slot::kValueBias]).view({T, G, dh});
    }
  }
  if (!spec_.attention.query_key_norm_behind_rope) norm_queries_and_keys(block, q, k);
  if (spec_.attention.value_norm && v.defined()) v = norm(v, {}, {});
  if (const double clip = spec_.attention.clip_projections; clip > 0)
    return {q.clamp(-clip, clip), k.clamp(-clip, clip), v.clamp(-clip, clip)};
  return {q, k, v};
}

std::array<at::Tensor, 3> Model::latent_projections(const BlockSpec& spec, const Weights& block,
                                                    const compute::PackedRows& rows,
                                                    const Positions& positions) const {
  const LatentSpec& latent = spec_.latent;
  const auto rope = static_cast<std::size_t>(spec.rope);
  const std::int64_t T = rows.values.size(0), H = spec_.num_heads, dh = spec_.head_size;
  const std::int64_t rotated = spec_.ropes[rope].dims, plain = dh - rotated;
  const compute::Backend& backend = *block.backend;
  const auto narrow = [&](Slot weight, Slot bias, Slot norm_weight) {
    const at::Tensor made = backend.linear(rows, block[weight], block[bias]);
    return packed(backend, apply_norm(spec_.norm, made, block[norm_weight], {}, latent.norm_epsilon));
  };
  const auto turned = [&](const at::Tensor& x) {
    return rotate(x, spec_.ropes[rope], positions.rotations[rope]);
  };
  const auto widened = [&](const at::Tensor& x) {
    const std::int64_t missing = std::max(dh, latent.value_size) - x.size(2);
    return missing > 0 ? at::constant_pad_nd(x, {0, missing}) : x;
  };

  const compute::PackedRows of_queries =
      latent.query_rank > 0
          ? narrow(Slot::kLatentQueryWeight, Slot::kLatentQueryBias, Slot::kLatentQueryNormWeight)
          : rows;
  const at::Tensor q =
      backend.linear(of_queries, block[Slot::kQueryWeight], block[Slot::kQueryBias]).view({T, H, dh});
  const compute::PackedRows of_keys = narrow(Slot::kLatentWeight, Slot::kLatentBias, Slot::kLatentNormWeight);
  const at::Tensor k = backend.linear(of_keys, block[Slot::kKeyWeight], {}).view({T, H, plain});
  const at::Tensor v = backend.linear(of_keys, block[Slot::kValueWeight], {}).view({T, H, latent.value_size});
  const at::Tensor of_all =
      backend.linear(rows, block[Slot::kRotatedKeyWeight], block[Slot::kRotatedKeyBias]).unsqueeze(1);
  return {widened(at::cat({q.narrow(2, 0, plain), turned(q.narrow(2, plain, rotated))}, 2)),
          widened(at::cat({k, turned(of_all).expand({T, H, rotated})}, 2)), widened(v)};
}

at::Tensor Model::attention(std::int64_t i, const Weights& block, const at::Tensor& input,
                            const Positions& positions, Carried& carried) const {
  const BlockSpec& spec = spec_.blocks[static_cast<std::size_t>(i)];
  const std::int64_t H = spec_.num_heads, G = spec_.heads_of(spec).num_kv_heads;
  const bool latent = spec_.latent.key_value_rank > 0;
  const compute::PackedRows packed_input = packed(*block.backend, scaled(input, spec_.attention.input_scale));
  auto [q, k, v] = latent ? latent_projections(spec, block, packed_input, positions)
                          : projections(spec, block, packed_input);
  if (!latent && spec.rope != BlockSpec::kNoRope) {
    const auto rope = static_cast<std::size_t>(spec.rope);
    q = rotate(q, spec_.ropes[rope], positions.rotations[rope]);
    if (k.defined()) k = rotate(k, spec_.ropes[rope], positions.rotations[rope]);
    if (spec_.attention.norm_of_rotated) {
      q = norm(q, {}, {});
      if (k.defined()) k = norm(k, {}, {});
    }
  }
  if (spec_.attention.query_key_norm_behind_rope) norm_queries_and_keys(block, q, k);
  if (spec.keys_of != BlockSpec::kOwnKeys) {
    auto& kept = carried.keys_values.at(spec.keys_of);
    for (at::Tensor& tensor : kept) tensor = moved_to(input.device())(tensor);
    k = kept[0];
    v = kept[1];
  } else if (spec_.last_reader_of(i) > i) {
    carried.keys_values[i] = {k, v};
  }
  const bool grows = spec.rope == BlockSpec::kNoRope || !spec_.attention.query_growth_unrotated;
  if (positions.query_scale.defined() && grows) q = q * positions.query_scale;
  at::Tensor broken;
  if (q.is_cpu())
    broken = rows_without_attention(q.to(options_.dtype), k.to(options_.dtype), positions.lengths);
  if (G != H) {  // each key-value head serves H / G query heads
    k = k.repeat_interleave(H / G, 1);
    v = v.repeat_interleave(H / G, 1);
  }
  const compute::AttentionRule rule{.scale = spec_.attention.scale,
                                    .soft_cap = spec_.attention.soft_cap,
                                    .position_bias = positions.bias,
                                    .window = spec.window,
                                    .chunk = spec.chunk,
                                    .sinks = block[Slot::kAttentionSinks]};
  at::Tensor gate;  // [T, H · dh]
  if (spec_.attention.output_gate) {
    gate = logistic(block.backend->linear(packed_input, block[Slot::kAttentionGateWeight],
                                          block[Slot::kAttentionGateBias]));
  }
  const auto projected = [&](const at::Tensor& mixed) {  // [T, H, …]
    const at::Tensor values = latent ? mixed.narrow(2, 0, spec_.latent.value_size) : mixed;
    at::Tensor flat = values.flatten(1);
    if (broken.defined()) flat = flat.masked_fill(broken, std::numeric_limits<double>::quiet_NaN());
    return scaled(block.backend->linear(packed(*block.backend, gate.defined() ? flat * gate : flat),
                                        block[Slot::kAttentionOutWeight], block[Slot::kAttentionOutBias]),
                  spec_.attention.output_scale);
  };
  if (compute::attends_adjoining(q, positions.windows, rule)) {
    const at::ScalarType dtype = options_.dtype;
    return projected(compute::attend_adjoining(q.to(dtype), k.to(dtype), v.to(dtype), positions.windows, rule)
                         .to(at::kFloat));
  }
  // Splitting and joining, not views and copies: the derivative of a view is as large as the whole batch.
  std::vector<std::int64_t> rows;
  for (const WindowGroup& group : positions.groups) rows.push_back(group.rows);
  const std::vector<at::Tensor> queries = q.split_with_sizes(rows), keys = k.split_with_sizes(rows),
                                values = v.split_with_sizes(rows);
  std::vector<at::Tensor> mixed;
  for (std::size_t g = 0; g < rows.size(); ++g) {
    const WindowGroup& group = positions.groups[g];
    const auto by_head = [&](const at::Tensor& x) {  // [windows, H, longest, dh]
      return group.by_window(x).transpose(1, 2).to(options_.dtype);
    };
    mixed.push_back(
        group.by_row(compute::attend(by_head(queries[g]), by_head(keys[g]), by_head(values[g]), rule)
                         .transpose(1, 2)
                         .to(at::kFloat)));
  }
  return projected(at::cat(mixed));
}

at::Tensor Model::over_groups(const Positions& positions, const std::vector<at::Tensor>& rows,
                              const MixWindows& mix) {
  std::vector<at::Tensor> mixed;
  std::int64_t first = 0;
  for (const WindowGroup& group : positions.groups) {
    std::vector<at::Tensor> of_group;
    for (const at::Tensor& x : rows) of_group.push_back(group.by_window(x.narrow(0, first, group.rows)));
    mixed.push_back(group.by_row(mix(of_group)));
    first += group.rows;
  }
  return at::cat(mixed);
}

at::Tensor Model::delta_net(const Weights& block, const at::Tensor& input, const Positions& positions) const {
  const compute::Backend& backend = *block.backend;
  const compute::PackedRows packed_input = packed(backend, input);
  const auto product = [&](Slot slot) { return backend.linear(packed_input, block[slot], {}); };
  const DeltaNetRows rows = {.queries = product(Slot::kDeltaQueryWeight),
                             .keys = product(Slot::kDeltaKeyWeight),
                             .values = product(Slot::kDeltaValueWeight),
                             .gates = product(Slot::kDeltaGateWeight),
                             .updates = product(Slot::kDeltaUpdateWeight),
                             .decays = product(Slot::kDeltaDecayWeight)};
  const DeltaNetWeights weights = {.query_convolution = block[Slot::kDeltaQueryConvolution],
                                   .key_convolution = block[Slot::kDeltaKeyConvolution],
                                   .value_convolution = block[Slot::kDeltaValueConvolution],
                                   .decay_bias = block[Slot::kDeltaDecayBias],
                                   .log_decay = block[Slot::kDeltaLogDecay],
                                   .norm = block[Slot::kDeltaNormWeight],
                                   .norm_epsilon = spec_.norm_epsilon,
                                   .activation = spec_.activation};
  const auto projected = [&](const at::Tensor& mixed) {
    return backend.linear(packed(backend, mixed), block[Slot::kDeltaOutWeight], {});
  };
  if (input.is_cpu() && !compute::records_gradient(input))
    return projected(mix_windows_by_delta_rule(spec_.delta_net, weights, rows, positions.lengths));
  return projected(over_groups(positions,
                               {rows.queries, rows.keys, rows.values, rows.gates, rows.updates, rows.decays},
                               [&](const std::vector<at::Tensor>& of_group) {
                                 return mix_by_delta_rule(spec_.delta_net, weights,
                                                          {.queries = of_group[0],
                                                           .keys = of_group[1],
                                                           .values = of_group[2],
                                                           .gates = of_group[3],
                                                           .updates = of_group[4],
                                                           .decays = of_group[5]});
                               }));
}

at::Tensor Model::convolution(const Weights& block, const at::Tensor& input,
                              const Positions& positions) const {
  const compute::Backend& backend = *block.backend;
  const std::vector<at::Tensor> parts =
      backend.linear(packed(backend, input), block[Slot::kMixerInWeight], block[Slot::kMixerInBias])
          .chunk(3, 1);
  const at::Tensor convolved =
      over_groups(positions, {parts[0] * parts[2]}, [&](const std::vector<at::Tensor>& of_group) {
        return causal_convolution(of_group[0], block[Slot::kMixerConvolution],
                                  block[Slot::kMixerConvolutionBias]);
      });
  return backend.linear(packed(backend, parts[1] * convolved), block[Slot::kMixerOutWeight],
                        block[Slot::kMixerOutBias]);
}

at::Tensor Model::state_space(const Weights& block, const at::Tensor& input,
                              const Positions& positions) const {
  const StateSpaceSpec& space = spec_.state_space;
  const compute::Backend& backend = *block.backend;
  const at::Tensor made = backend.linear(packed(backend, scaled(input, space.input_scale)),
                                         block[Slot::kMixerInWeight], block[Slot::kMixerInBias]);
  const std::int64_t values = space.values(), keys = space.keys();
  std::vector<at::Tensor> parts = made.split_with_sizes({values, space.channels(), space.heads}, 1);
  if (space.part_scales != StateSpaceSpec().part_scales) {
    parts = made.split_with_sizes({values, values, keys, keys, space.heads}, 1);
    for (std::size_t i = 0; i < parts.size(); ++i) parts[i] = scaled(parts[i], space.part_scales[i]);
    parts = {parts[0], at::cat({parts[1], parts[2], parts[3]}, 1), parts[4]};
  }
  const StateSpaceRows rows = {.channels = parts[1], .steps = parts[2]};
  const StateSpaceWeights weights = {.convolution = block[Slot::kMixerConvolution],
                                     .convolution_bias = block[Slot::kMixerConvolutionBias],
                                     .step_bias = block[Slot::kStateStepBias],
                                     .log_decay = block[Slot::kStateLogDecay],
                                     .skip = block[Slot::kStateSkip]};
  at::Tensor shown =
      input.is_cpu() && !compute::records_gradient(input)
          ? mix_windows_by_state_space(space, weights, rows, positions.lengths)
          : over_groups(positions, {rows.channels, rows.steps}, [&](const std::vector<at::Tensor>& of_group) {
              return mix_by_state_space(space, weights, {.channels = of_group[0], .steps = of_group[1]});
            });
  const at::Tensor gates = activate(Activation::kSilu, parts[0]);
  using Norm = StateSpaceSpec::Norm;
  if (space.norm != Norm::kBeforeGate) shown = shown * gates;
  if (space.norm != Norm::kNone) {
    const auto by_group = [&](const at::Tensor& x) { return x.unflatten(-1, {space.groups, -1}); };
    shown = apply_norm(NormKind::kRmsNorm, by_group(shown), by_group(block[Slot::kStateNormWeight]), {},
                       spec_.norm_epsilon)
                .flatten(1);
  }
  if (space.norm == Norm::kBeforeGate) shown = shown * gates;
  return scaled(
      backend.linear(packed(backend, shown), block[Slot::kMixerOutWeight], block[Slot::kMixerOutBias]),
      space.output_scale);
}

at::Tensor Model::selective_scan(const Weights& block, const at::Tensor& input,
                                 const Positions& positions) const {
  const SelectiveScanSpec& scan = spec_.selective_scan;
  const compute::Backend& backend = *block.backend;
  const std::vector<at::Tensor> made =
      backend.linear(packed(backend, input), block[Slot::kMixerInWeight], block[Slot::kMixerInBias])
          .chunk(2, 1);
  const at::Tensor values = activate(
      scan.activation, over_groups(positions, {made[0]}, [&](const std::vector<at::Tensor>& of_group) {
        return causal_convolution(of_group[0], block[Slot::kMixerConvolution],
                                  block[Slot::kMixerConvolutionBias]);
      }));
  std::vector<at::Tensor> parts =
      backend.linear(packed(backend, values), block[Slot::kScanWeight], {})
          .split_with_sizes({scan.step_rank, scan.state_size, scan.state_size}, 1);
  if (scan.norm_epsilon > 0) {
    for (at::Tensor& part : parts) part = apply_norm(NormKind::kRmsNorm, part, {}, {}, scan.norm_epsilon);
  }
  const at::Tensor steps = backend.linear(packed(backend, parts[0]), block[Slot::kScanStepWeight], {});
  const SelectiveScanWeights weights = {.step_bias = block[Slot::kStateStepBias],
                                        .skip = block[Slot::kStateSkip],
                                        .log_decay = block[Slot::kStateLogDecay]};
  const at::Tensor shown =
      input.is_cpu() && !compute::records_gradient(input)
          ? mix_windows_by_selective_scan(
                weights, {.values = values, .steps = steps, .writers = parts[1], .readers = parts[2]},
                positions.lengths)
          : over_groups(positions, {values, steps, parts[1], parts[2]},
                        [&](const std::vector<at::Tensor>& of_group) {
                          return mix_by_selective_scan(weights, {.values = of_group[0],
                                                                 .steps = of_group[1],
                                                                 .writers = of_group[2],
                                                                 .readers = of_group[3]});
                        });
  const at::Tensor gated = shown * activate(Activation::kSilu, made[1]);
  return backend.linear(packed(backend, gated), block[Slot::kMixerOutWeight], block[Slot::kMixerOutBias]);
}

at::Tensor Model::mixed(std::int64_t i, const Weights& block, const at::Tensor& input,
                        const Positions& positions, Carried& carried) const {
  switch (spec_.blocks[static_cast<std::size_t>(i)].mixer) {
    case Mixer::kAttention:
    case Mixer::kWideAttention:
      return attention(i, block, input, positions, carried);
    case Mixer::kDeltaNet:
      return delta_net(block, input, positions);
    case Mixer::kConvolution:
      return convolution(block, input, positions);
    case Mixer::kStateSpace:
      return state_space(block, input, positions);
    case Mixer::kAttentionAndStateSpace:
      return state_space(block, input, positions) + attention(i, block, input, positions, carried);
    case Mixer::kSelectiveScan:
      return selective_scan(block, input, positions);
    case Mixer::kNone:
      break;
  }
  DEPTHLENS_ASSERT(false);
  return {};
}

at::Tensor Model::mlp(const compute::Backend& backend, const MlpWeights& weights,
                      const compute::PackedRows& rows) const {
  const at::Tensor up = backend.linear(rows, weights.up.unfolded(), weights.up_bias);
  at::Tensor inner;
  if (spec_.gated_mlp) {
    const at::Tensor gate = backend.linear(rows, weights.gate.unfolded(), weights.gate_bias);
    inner = gated(spec_, scaled(gate, spec_.mlp_gate_scale), up);
  } else {
    inner = spec_.activation == Activation::kXielu ? activate_xielu(up, weights.xielu)
                                                   : activate(spec_.activation, up);
  }
  return scaled(backend.linear(packed(backend, inner), weights.down.unfolded(), weights.down_bias),
                spec_.mlp_out_scale);
}

namespace {

/// Which experts are chosen one after the other, and with what weights, by scores [T, E].
std::array<at::Tensor, 2> chosen_near_best(const ExpertSpec& experts, const at::Tensor& scores) {
  constexpr double kOut = -std::numeric_limits<double>::infinity();
  const at::Tensor sizes = scores.abs();
  at::Tensor left = scores;
  std::vector<at::Tensor> all_chosen, all_weights;
  for (std::int64_t n = 0; n < experts.chosen; ++n) {
    const auto [best, chosen] = left.max(-1, /*keepdim=*/true);
    const at::Tensor far = (best - scores) / at::maximum(sizes, best) > experts.nearness;
    all_weights.push_back(left.masked_fill(far, kOut).softmax(-1).gather(1, chosen));
    all_chosen.push_back(chosen);
    left = left.scatter(1, chosen, kOut);
  }
  return {at::cat(all_chosen, 1), at::cat(all_weights, 1)};
}

}  // namespace

std::array<at::Tensor, 2> Model::choice(const Weights& block, const compute::PackedRows& rows) const {
  using Weighting = ExpertSpec::Weighting;
  const ExpertSpec& experts = spec_.experts;
  const bool ranks_by_bias = experts.ranks_by_bias();
  at::Tensor scores = block.backend->linear(rows, block[Slot::kRouterWeight],
                                            ranks_by_bias ? at::Tensor() : block[Slot::kRouterBias]);
  if (experts.weighting == Weighting::kNearBest) return chosen_near_best(experts, scores);
  at::Tensor ranked = scores;  // [T, E]
  if (ranks_by_bias) {
    scores = ranked = experts.is_logistic() ? logistic(scores) : scores.softmax(-1);
    if (const at::Tensor& bias = block[Slot::kRouterBias]; bias.defined()) ranked = scores + bias;
  }
  if (experts.groups > 1) {
    const at::Tensor by_group = ranked.unflatten(1, {experts.groups, -1});  // [T, groups, E / groups]
    const std::int64_t counted = experts.groups_by_best ? 1 : 2;
    const at::Tensor best_of_group = std::get<0>(by_group.topk(counted, -1)).sum(-1);
    const at::Tensor groups = std::get<1>(best_of_group.topk(experts.chosen_groups, -1));
    const at::Tensor out = at::ones_like(best_of_group, at::kBool).scatter(1, groups, false);
    ranked = by_group.masked_fill(out.unsqueeze(-1), -std::numeric_limits<double>::infinity()).flatten(1);
  }
  const auto [best, chosen] = ranked.topk(experts.chosen, -1);
  at::Tensor weights = experts.weighting == Weighting::kSoftmaxOfChosen ? best.softmax(-1)
                       : ranks_by_bias                                  ? scores.gather(1, chosen)
                                       : scores.softmax(-1).gather(1, chosen);
  if (experts.shares()) {
    const at::Tensor sum = weights.sum(-1, /*keepdim=*/true) + experts.shares_epsilon;
    weights = weights / sum.clamp_min(experts.least_sum);
  }
  if (experts.scale != 1) weights = weights * experts.scale;
  if (const at::Tensor& scale = block[Slot::kExpertScale]; scale.defined())
    weights = weights * scale.index_select(0, chosen.flatten()).view_as(weights);
  return {chosen, weights};
}

at::Tensor Model::mixture(std::int64_t i, const Weights& block, const at::Tensor& input,
                          const at::Tensor& routed) const {
  const std::int64_t T = input.size(0), k = spec_.experts.chosen;
  const compute::Backend& backend = *block.backend;
  const compute::PackedRows rows = packed(backend, input);
  const auto [chosen, weights] = choice(block, routed.is_same(input) ? rows : packed(backend, routed));

  const at::Tensor& narrowing = block[Slot::kExpertsInWeight];
  const at::Tensor reads = narrowing.defined() ? backend.linear(rows, narrowing, {}) : input;
  at::Tensor output = at::zeros_like(reads), of_shared;
  if (block[Slot::kSharedUpWeight].defined()) {
    const at::Tensor shared = mlp(backend,
                                  {.gate = {block[Slot::kSharedGateWeight], {}},
                                   .up = {block[Slot::kSharedUpWeight], {}},
                                   .down = {block[Slot::kSharedDownWeight], {}}},
                                  rows);
    const at::Tensor& share = block[Slot::kSharedShareWeight];
    of_shared = share.defined() ? shared * logistic(backend.linear(rows, share, {})) : shared;
    if (!narrowing.defined()) output = of_shared;
  }
  // Places in `chosen`, by expert and then by token.
  const at::Tensor on_host = chosen.cpu().contiguous();
  std::vector<std::vector<std::int64_t>> of_experts(static_cast<std::size_t>(spec_.experts.count));
  for (std::int64_t place = 0; place < T * k; ++place)
    of_experts[static_cast<std::size_t>(on_host.const_data_ptr<std::int64_t>()[place])].push_back(place);
  std::vector<std::int64_t> by_expert;
  for (const auto& places : of_experts) by_expert.insert(by_expert.end(), places.begin(), places.end());
  const at::Tensor places = index_tensor(by_expert, backend.device()), tokens = places.floor_divide(k);
  std::int64_t first = 0;
  for (std::size_t e = 0; e < of_experts.size(); ++e) {
    const auto count = static_cast<std::int64_t>(of_experts[e].size());
    if (count == 0) continue;
    const at::Tensor place = places.narrow(0, first, count), token = tokens.narrow(0, first, count);
    first += count;
    const MlpWeights expert = block.experts.empty()
                                  ? load_expert(i, static_cast<std::int64_t>(e), moved_to(backend.device()))
                                  : block.experts[e].on(backend.device());
    const at::Tensor weight = weights.flatten().index_select(0, place).unsqueeze(1);
    const at::Tensor read = reads.index_select(0, token);
    if (spec_.experts.weighs_input) {
      output.index_add_(0, token, mlp(backend, expert, packed(backend, read * weight)));
    } else {
      output.index_add_(0, token, mlp(backend, expert, packed(backend, read)) * weight);
    }
  }
  if (!narrowing.defined()) return output;
  const at::Tensor widened = backend.linear(packed(backend, output), block[Slot::kExpertsOutWeight], {});
  return of_shared.defined() ? widened + of_shared : widened;
}

at::Tensor Model::feed_forward(std::int64_t i, const Weights& block, const at::Tensor& input,
                               const at::Tensor& middle) const {
  const bool experts = spec_.blocks[static_cast<std::size_t>(i)].experts;
  if (experts && !spec_.experts.beside_mlp) return mixture(i, block, input, input);
  const at::Tensor dense = mlp(*block.backend,
                               {.gate = {block[Slot::kMlpGateWeight], {}},
                                .up = {block[Slot::kMlpUpWeight], {}},
                                .down = {block[Slot::kMlpDownWeight], {}},
                                .gate_bias = block[Slot::kMlpGateBias],
                                .up_bias = block[Slot::kMlpUpBias],
                                .down_bias = block[Slot::kMlpDownBias],
                                .xielu = {block[Slot::kXieluAbove], block[Slot::kXieluBelow],
                                          block[Slot::kXieluSlope], block[Slot::kXieluLimit]}},
                               packed(*block.backend, input));
  if (!experts) return dense;
  const at::Tensor routed =
      norm(middle, {}, {}) * block[Slot::kRouterScale] / std::sqrt(static_cast<double>(spec_.hidden_size));
  const at::Tensor mixed = mixture(i, block, norm(middle, block[Slot::kExpertsNormWeight], {}), routed);
  return norm(dense, block[Slot::kDenseOutNormWeight], {}) +
         norm(mixed, block[Slot::kExpertsOutNormWeight], {});
}

at::Tensor Model::WindowGroup::by_window(const at::Tensor& of_rows) const {
  const at::Tensor whole = padded.defined() ? of_rows.index_select(0, padded) : of_rows;
  return whole.unflatten(0, {windows, longest});
}

at::Tensor Model::WindowGroup::by_row(const at::Tensor& of_windows) const {
  const at::Tensor rows_of_all = of_windows.flatten(0, 1);
  return kept.defined() ? rows_of_all.index_select(0, kept) : rows_of_all;
}

std::vector<Model::WindowGroup> Model::groups_of(const PackedWindows& windows,
                                                 const compute::Backend& backend) {
  const std::int64_t padding = backend.work_sizes().attention_padding;
  std::vector<WindowGroup> groups;
  for (std::size_t first = 0, end = 0; first < windows.lengths.size(); first = end) {
    WindowGroup group = {.rows = 0, .windows = 0, .longest = 0, .padded = {}, .kept = {}};
    for (; end < windows.lengths.size(); ++end, ++group.windows) {
      const std::int64_t length = windows.lengths[end], longest = std::max(group.longest, length);
      if ((group.windows + 1) * longest > padding * (group.rows + length)) break;
      group.rows += length;
      group.longest = longest;
    }
    if (group.windows * group.longest > group.rows) {
      std::vector<std::int64_t> padded, kept;
      std::int64_t row = 0;
      for (std::size_t i = first; i < end; ++i) {
        for (std::int64_t t = 0; t < group.longest; ++t) {
          const bool present = t < windows.lengths[i];
          if (present) kept.push_back(static_cast<std::int64_t>(padded.size()));
          padded.push_back(present ? row++ : row - 1);
        }
      }
      group.padded = index_tensor(padded, backend.device());
      group.kept = index_tensor(kept, backend.device());
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

Model::Positions Model::prepared(const PackedWindows& windows, const compute::Backend& backend) const {
  const at::Device device = backend.device();
  Positions prepared;
  prepared.lengths = windows.lengths;
  prepared.groups = groups_of(windows, backend);
  for (const RopeSpec& rope : spec_.ropes)
    prepared.rotations.push_back(rotary_tables(rope, windows.lengths, device));
  const std::int64_t longest = *std::max_element(windows.lengths.begin(), windows.lengths.end());
  if (device.is_cuda()) {
    std::vector<std::int32_t> begins = {0};
    for (const std::int64_t length : windows.lengths)
      begins.push_back(begins.back() + static_cast<std::int32_t>(length));
    const auto count = static_cast<std::int64_t>(begins.size());
    prepared.windows = {.begins = compute::copied_to(device, at::from_blob(begins.data(), {count}, at::kInt)),
                        .longest = longest};
  }
  prepared.bias = position_bias(spec_, longest, device);
  if (const AttentionSpec& attention = spec_.attention; attention.query_growth != 0) {
    std::vector<float> scales;
    for (const std::int64_t position : positions_of(windows)) {
      const auto grown = static_cast<double>(position + attention.query_growth_first);
      const double steps = std::floor(grown / attention.query_growth_length);
      scales.push_back(static_cast<float>(1 + attention.query_growth * std::log1p(steps)));
    }
    const auto T = static_cast<std::int64_t>(scales.size());
    prepared.query_scale = compute::copied_to(device, at::from_blob(scales.data(), {T, 1, 1}, at::kFloat));
  }
  return prepared;
}

at::Tensor Model::run_block(std::int64_t i, const Weights& block, const at::Tensor& states,
                            const Positions& positions, Carried& carried) const {
  const NormPlace place = spec_.norm_place;
  const bool before = place == NormPlace::kBefore || place == NormPlace::kBeforeAndAfter;
  const bool after = place == NormPlace::kAfter || place == NormPlace::kBeforeAndAfter;
  const auto read = [&](const at::Tensor& x, Slot weight, Slot bias) {
    return before ? norm(x, block[weight], block[bias]) : x;
  };
  const auto added = [&](const at::Tensor& x, at::Tensor branch, Slot out_norm, Slot weight, Slot bias) {
    if (after) branch = norm(branch, block[out_norm], {});
    if (spec_.residual_scale != 1) branch = branch * spec_.residual_scale;
    const at::Tensor sum = x + branch;
    return place == NormPlace::kOfSum ? norm(sum, block[weight], block[bias]) : sum;
  };

  const BlockSpec& spec = spec_.blocks[static_cast<std::size_t>(i)];
  at::Tensor attention_reads, middle = states;
  if (spec.mixer != Mixer::kNone) {
    attention_reads = read(states, Slot::kAttentionNormWeight, Slot::kAttentionNormBias);
    middle = added(states, mixed(i, block, attention_reads, positions, carried),
                   Slot::kAttentionOutNormWeight, Slot::kAttentionNormWeight, Slot::kAttentionNormBias);
  }
  at::Tensor out = middle;
  if (spec.feed_forward) {
    const at::Tensor mlp_reads = spec_.shared_norm ? attention_reads
                                                   : read(spec_.parallel_residual ? states : middle,
                                                          Slot::kMlpNormWeight, Slot::kMlpNormBias);
    out = added(middle, feed_forward(i, block, mlp_reads, middle), Slot::kMlpOutNormWeight,
                Slot::kMlpNormWeight, Slot::kMlpNormBias);
  }
  if (block[Slot::kBlockInputGateWeight].defined()) {
    const compute::Backend& backend = *block.backend;
    const std::int64_t p = spec_.block_embedding_size;
    const at::Tensor told = carried.told.narrow(1, i * p, p).to(backend.device());
    const at::Tensor gate = backend.linear(packed(backend, out), block[Slot::kBlockInputGateWeight], {});
    const at::Tensor gated = activate(spec_.activation, gate) * told;
    const at::Tensor told_out = backend.linear(packed(backend, gated), block[Slot::kBlockInputOutWeight], {});
    out = out + norm(told_out, block[Slot::kBlockInputNormWeight], {});
  }
  return block[Slot::kBlockScale].defined() ? out * block[Slot::kBlockScale] : out;
}

}  // namespace depthlens::model
