// What mixes the positions of windows in place of attention, or beside it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include <array>
#include <vector>

#include "block.hpp"
#include "delta_net.hpp"
#include "layers.hpp"
#include "selective_scan.hpp"
#include "state_space.hpp"

namespace depthlens::model {
namespace {

/// The block's convolution of x [T, n].
at::Tensor mixer_convolution(const Block& block, const at::Tensor& x) {
  return over_groups(block.positions, {x}, [&](const std::vector<at::Tensor>& of_group) {
    return causal_convolution(of_group[0], block[Slot::kMixerConvolution],
                              block[Slot::kMixerConvolutionBias]);
  });
}

/// What a state space's input is projected to: gates, what goes through the convolution, and steps.
std::vector<at::Tensor> parts_of_state_space(const Block& block, const at::Tensor& input) {
  const StateSpaceSpec& space = block.arch.state_space;
  const at::Tensor made =
      block.linear(scaled(input, space.input_scale), Slot::kMixerInWeight, Slot::kMixerInBias);
  const std::int64_t values = space.values(), keys = space.keys();
  if (space.part_scales == StateSpaceSpec().part_scales)
    return made.split_with_sizes({values, space.channels(), space.heads}, 1);
  std::vector<at::Tensor> parts = made.split_with_sizes({values, values, keys, keys, space.heads}, 1);
  for (std::size_t i = 0; i < parts.size(); ++i) parts[i] = scaled(parts[i], space.part_scales[i]);
  return {parts[0], at::cat({parts[1], parts[2], parts[3]}, 1), parts[4]};
}

/// What the states show, through gates and the norm, whichever is first.
at::Tensor gated_and_normed(const Block& block, at::Tensor shown, const at::Tensor& gates) {
  using Norm = StateSpaceSpec::Norm;
  const StateSpaceSpec& space = block.arch.state_space;
  if (space.norm != Norm::kBeforeGate) shown = shown * gates;
  if (space.norm != Norm::kNone) {
    const auto by_group = [&](const at::Tensor& x) { return x.unflatten(-1, {space.groups, -1}); };
    shown = apply_norm(NormKind::kRmsNorm, by_group(shown), by_group(block[Slot::kStateNormWeight]), {},
                       block.arch.norm_epsilon)
                .flatten(1);
  }
  return space.norm == Norm::kBeforeGate ? shown * gates : shown;
}

}  // namespace

at::Tensor delta_net(const Block& block, const at::Tensor& input) {
  const DeltaNetSpec& delta = block.arch.delta_net;
  const compute::PackedRows packed = block.packed(input);
  const std::vector<at::Tensor> rows = {
      block.linear(packed, Slot::kDeltaQueryWeight),  block.linear(packed, Slot::kDeltaKeyWeight),
      block.linear(packed, Slot::kDeltaValueWeight),  block.linear(packed, Slot::kDeltaGateWeight),
      block.linear(packed, Slot::kDeltaUpdateWeight), block.linear(packed, Slot::kDeltaDecayWeight)};
  const auto named = [](const std::vector<at::Tensor>& all) {
    return DeltaNetRows{.queries = all[0],
                        .keys = all[1],
                        .values = all[2],
                        .gates = all[3],
                        .updates = all[4],
                        .decays = all[5]};
  };
  const DeltaNetWeights weights = {
      .query_convolution = block[Slot::kDeltaQueryConvolution],
      .key_convolution = block[Slot::kDeltaKeyConvolution],
      .value_convolution = block[Slot::kDeltaValueConvolution],
      .decay_bias = block[Slot::kDeltaDecayBias],
      .log_decay = block[Slot::kDeltaLogDecay],
      .norm = block[Slot::kDeltaNormWeight],
      .norm_epsilon = delta.norm_epsilon > 0 ? delta.norm_epsilon : block.arch.norm_epsilon,
      .activation = block.arch.activation};
  const at::Tensor mixed = over_windows(
      block.positions, rows,
      [&](const std::vector<at::Tensor>& all) {
        return mix_windows_by_delta_rule(delta, weights, named(all), block.positions.lengths);
      },
      [&](const std::vector<at::Tensor>& all) { return mix_by_delta_rule(delta, weights, named(all)); });
  return block.linear(mixed, Slot::kDeltaOutWeight);
}

at::Tensor convolution(const Block& block, const at::Tensor& input) {
  const std::vector<at::Tensor> parts =
      block.linear(input, Slot::kMixerInWeight, Slot::kMixerInBias).chunk(3, 1);
  const at::Tensor convolved = mixer_convolution(block, parts[0] * parts[2]);
  return block.linear(parts[1] * convolved, Slot::kMixerOutWeight, Slot::kMixerOutBias);
}

at::Tensor state_space(const Block& block, const at::Tensor& input) {
  const StateSpaceSpec& space = block.arch.state_space;
  const std::vector<at::Tensor> parts = parts_of_state_space(block, input);
  const StateSpaceWeights weights = {.convolution = block[Slot::kMixerConvolution],
                                     .convolution_bias = block[Slot::kMixerConvolutionBias],
                                     .step_bias = block[Slot::kStateStepBias],
                                     .log_decay = block[Slot::kStateLogDecay],
                                     .skip = block[Slot::kStateSkip]};
  const auto named = [](const std::vector<at::Tensor>& all) {
    return StateSpaceRows{.channels = all[0], .steps = all[1]};
  };
  const at::Tensor shown = over_windows(
      block.positions, {parts[1], parts[2]},
      [&](const std::vector<at::Tensor>& all) {
        return mix_windows_by_state_space(space, weights, named(all), block.positions.lengths);
      },
      [&](const std::vector<at::Tensor>& all) { return mix_by_state_space(space, weights, named(all)); });
  const at::Tensor out = gated_and_normed(block, shown, activate(Activation::kSilu, parts[0]));
  return scaled(block.linear(out, Slot::kMixerOutWeight, Slot::kMixerOutBias), space.output_scale);
}

at::Tensor selective_scan(const Block& block, const at::Tensor& input) {
  const SelectiveScanSpec& scan = block.arch.selective_scan;
  const std::vector<at::Tensor> made =
      block.linear(input, Slot::kMixerInWeight, Slot::kMixerInBias).chunk(2, 1);
  const at::Tensor values = activate(scan.activation, mixer_convolution(block, made[0]));
  std::vector<at::Tensor> parts =
      block.linear(values, Slot::kScanWeight)
          .split_with_sizes({scan.step_rank, scan.state_size, scan.state_size}, 1);
  if (scan.norm_epsilon > 0) {
    constexpr std::array kNorms = {Slot::kScanStepNormWeight, Slot::kScanWriterNormWeight,
                                   Slot::kScanReaderNormWeight};
    for (std::size_t i = 0; i < parts.size(); ++i)
      parts[i] = apply_norm(NormKind::kRmsNorm, parts[i], block[kNorms[i]], {}, scan.norm_epsilon);
  }
  const at::Tensor steps = block.linear(parts[0], Slot::kScanStepWeight);
  const SelectiveScanWeights weights = {.step_bias = block[Slot::kStateStepBias],
                                        .skip = block[Slot::kStateSkip],
                                        .log_decay = block[Slot::kStateLogDecay]};
  const auto named = [](const std::vector<at::Tensor>& all) {
    return SelectiveScanRows{.values = all[0], .steps = all[1], .writers = all[2], .readers = all[3]};
  };
  const at::Tensor shown = over_windows(
      block.positions, {values, steps, parts[1], parts[2]},
      [&](const std::vector<at::Tensor>& all) {
        return mix_windows_by_selective_scan(weights, named(all), block.positions.lengths);
      },
      [&](const std::vector<at::Tensor>& all) { return mix_by_selective_scan(weights, named(all)); });
  const at::Tensor gated = shown * activate(Activation::kSilu, made[1]);
  return block.linear(gated, Slot::kMixerOutWeight, Slot::kMixerOutBias);
}

}  // namespace depthlens::model
