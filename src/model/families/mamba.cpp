// Mamba 2: blocks that mix positions by a state space and have no MLP. And what models with such blocks
// beside others share. Odd: there are no positions, so that windows may be of any length.
#include <cmath>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

/// A number, or an infinity as `util::parse_config` gives it.
double read_limit(const util::JsonView& value) {
  return value.raw() == util::Json{{"__float__", "Infinity"}} ? StateSpaceSpec::kNoLimit : value.as_number();
}

}  // namespace

void read_step_limits(const util::JsonView& config, const std::string& key, StateSpaceSpec& space) {
  if (!config.raw().contains(key)) return;
  const util::JsonView limits = config.at(key);
  if (!limits.is_array() || limits.size() != 2) limits.fail("an array of the least and the largest step");
  space.least_step = read_limit(limits.at(0));
  space.largest_step = read_limit(limits.at(1));
  if (!(space.least_step >= 0 && space.least_step <= space.largest_step && space.largest_step > 0))
    limits.fail("0 ≤ least step ≤ largest step, and the latter more than 0");
}

void check_state_space(const util::JsonView& config, const StateSpaceSpec& space, std::int64_t values) {
  if (space.values() != values) {
    throw util::format_error(
        {.what = "heads that do not make up the state space's values",
         .where = config.where(),
         .expected = util::cat(values, " values"),
         .found = util::cat(space.heads, " heads of ", space.head_size, " values each")});
  }
  if (space.heads % space.groups != 0) {
    throw util::format_error({.what = "groups that do not divide the heads of the state space",
                              .where = config.where(),
                              .expected = util::cat("a divisor of ", space.heads),
                              .found = util::cat(space.groups)});
  }
}

void add_state_space(ArchSpec& spec, const std::string& stem, Mixer mixer, const StateSpaceBiases& biases) {
  const StateSpaceSpec& space = spec.state_space;
  const std::int64_t d = spec.hidden_size;
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = "layers.{i}." + stem + "." + name,
                                  .shape = std::move(shape),
                                  .blocks = {.mixer = mixer}});
  };
  add(Slot::kMixerInWeight, "in_proj.weight", {space.projected(), d});
  if (biases.in) add(Slot::kMixerInBias, "in_proj.bias", {space.projected()});
  add(Slot::kMixerConvolution, "conv1d.weight", {space.channels(), 1, space.kernel});
  if (biases.convolution) add(Slot::kMixerConvolutionBias, "conv1d.bias", {space.channels()});
  add(Slot::kStateStepBias, "dt_bias", {space.heads});
  add(Slot::kStateLogDecay, "A_log", {space.heads});
  add(Slot::kStateSkip, "D", {space.heads});
  if (space.norm != StateSpaceSpec::Norm::kNone) add(Slot::kStateNormWeight, "norm.weight", {space.values()});
  add(Slot::kMixerOutWeight, "out_proj.weight", {d, space.values()});
  if (biases.out) add(Slot::kMixerOutBias, "out_proj.bias", {d});
}

namespace {

/// All but the mixers, which are of this kind.
ArchSpec read_mamba_like(const util::JsonView& config, Mixer mixer, bool tied_unembedding) {
  ArchSpec spec;
  spec.num_layers = read_size(config, "num_hidden_layers");
  spec.hidden_size = read_size(config, "hidden_size");
  spec.vocab_size = read_size(config, "vocab_size");
  spec.max_positions = kAnyLength;
  spec.norm = NormKind::kRmsNorm;
  spec.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", tied_unembedding);
  spec.blocks.assign(static_cast<std::size_t>(spec.num_layers), {.mixer = mixer, .feed_forward = false});
  const std::int64_t d = spec.hidden_size, V = spec.vocab_size;
  spec.prefixes = {"backbone."};
  spec.model_tensors = {{.slot = Slot::kTokenEmbedding,
                         .name = "embeddings.weight",
                         .shape = {V, d},
                         .other_names = {"embedding.weight"}},
                        {Slot::kUnembedding, "lm_head.weight", {V, d}},
                        {Slot::kFinalNormWeight, "norm_f.weight", {d}}};
  spec.block_tensors = {{Slot::kAttentionNormWeight, "layers.{i}.norm.weight", {d}}};
  return spec;
}

ArchSpec read_mamba1(const util::JsonView& config, double norm_epsilon) {
  ArchSpec spec = read_mamba_like(config, Mixer::kSelectiveScan, /*tied_unembedding=*/true);
  const std::int64_t d = spec.hidden_size;
  const bool automatic =
      !config.raw().contains("time_step_rank") || config.raw().at("time_step_rank") == "auto";
  const SelectiveScanSpec scan = {
      // The class makes it of `expand`; what a config has takes its place (Falcon Mamba 7B).
      .channels = config.has("intermediate_size") ? read_size(config, "intermediate_size")
                                                  : d * read_size(config, "expand", 2),
      .state_size = read_size(config, "state_size", 16),
      .kernel = read_size(config, "conv_kernel", 4),
      .step_rank = automatic ? util::ceil_div(d, std::int64_t{16}) : read_size(config, "time_step_rank"),
      .norm_epsilon = norm_epsilon,
      .activation = read_activation(config, "hidden_act", "silu")};
  spec.selective_scan = scan;
  const std::int64_t D = scan.channels, N = scan.state_size, R = scan.step_rank;
  const auto add = [&](Slot slot, const char* name, std::vector<std::int64_t> shape) {
    spec.block_tensors.push_back({slot, std::string("layers.{i}.mixer.") + name, std::move(shape)});
  };
  const bool bias = read_flag(config, "use_bias", false);
  add(Slot::kMixerInWeight, "in_proj.weight", {2 * D, d});
  if (bias) add(Slot::kMixerInBias, "in_proj.bias", {2 * D});
  add(Slot::kMixerConvolution, "conv1d.weight", {D, 1, scan.kernel});
  if (read_flag(config, "use_conv_bias", true)) add(Slot::kMixerConvolutionBias, "conv1d.bias", {D});
  add(Slot::kScanWeight, "x_proj.weight", {R + 2 * N, D});
  add(Slot::kScanStepWeight, "dt_proj.weight", {D, R});
  add(Slot::kStateStepBias, "dt_proj.bias", {D});
  add(Slot::kStateLogDecay, "A_log", {D, N});
  add(Slot::kStateSkip, "D", {D});
  add(Slot::kMixerOutWeight, "out_proj.weight", {d, D});
  if (bias) add(Slot::kMixerOutBias, "out_proj.bias", {d});
  return spec;
}

}  // namespace

ArchSpec read_mamba(const util::JsonView& config) {
  return read_mamba1(config, /*norm_epsilon=*/0);
}

ArchSpec read_falcon_mamba(const util::JsonView& config) {
  const double epsilon = read_number(config, "mixer_rms_eps", 1e-6);
  if (!(epsilon > 0)) config.at("mixer_rms_eps").fail("a positive number");
  return read_mamba1(config, epsilon);
}

ArchSpec read_mamba2(const util::JsonView& config) {
  ArchSpec spec = read_mamba_like(config, Mixer::kStateSpace, /*tied_unembedding=*/false);
  StateSpaceSpec& space = spec.state_space;
  space.heads = read_size(config, "num_heads", 128);
  space.head_size = read_size(config, "head_dim", 64);
  space.groups = read_size(config, "n_groups", 8);
  space.state_size = read_size(config, "state_size", 128);
  space.kernel = read_size(config, "conv_kernel", 4);
  space.activation = read_activation(config, "hidden_act", "silu");
  read_step_limits(config, "time_step_limit", space);
  check_state_space(config, space, spec.hidden_size * read_size(config, "expand", 2));
  tell_unused(config, "norm_before_gate", false, "the norm is behind the gate");
  tell_unused(config, "rms_norm", true, "there is a norm behind the gate");
  const bool bias = read_flag(config, "use_bias", false);
  add_state_space(spec, "mixer", Mixer::kStateSpace,
                  {.in = bias, .convolution = read_flag(config, "use_conv_bias", true), .out = bias});
  return spec;
}

}  // namespace depthlens::model
