// Mamba 1 and 2, Falcon Mamba: blocks that mix positions by a selective scan or a state space and have no
// MLP. Odd: there are no positions, so that windows may be of any length.
#include <utility>

#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

/// All but the mixers, which are of this kind.
ArchSpec read_mamba_like(const util::JsonView& config, Mixer mixer, bool tied_unembedding) {
  ArchSpec spec;
  spec.num_layers = read_size(config, "num_hidden_layers");
  spec.hidden_size = read_size(config, "hidden_size");
  spec.vocab_size = read_size(config, "vocab_size");
  spec.max_positions = kMaxSize;
  spec.norm = NormKind::kRmsNorm;
  spec.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", tied_unembedding);
  if (read_flag(config, "rescale_prenorm_residual", false)) {
    util::log_warning(
        util::cat(config.at("rescale_prenorm_residual").where(),
                  " is ignored: weights are used as they are stored, where transformers divides "
                  "those of out_proj by the root of the number of blocks when it loads them"));
  }
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
  spec.selective_scan = {
      // The class makes it of `expand`; what a config has takes its place (Falcon Mamba 7B).
      .channels = config.has("intermediate_size") ? read_size(config, "intermediate_size")
                                                  : d * read_size(config, "expand", 2),
      .state_size = read_size(config, "state_size", 16),
      .kernel = read_size(config, "conv_kernel", 4),
      .step_rank = read_step_rank(config, "time_step_rank", d),
      .norm_epsilon = norm_epsilon,
      .activation = read_activation(config, "hidden_act", "silu")};
  const bool bias = read_flag(config, "use_bias", false);
  const bool convolution_bias = read_flag(config, "use_conv_bias", true);
  add_selective_scan(spec, {.bias = bias, .convolution_bias = convolution_bias});
  return spec;
}

}  // namespace

ArchSpec read_mamba(const util::JsonView& config) {
  return read_mamba1(config, /*norm_epsilon=*/0);
}

ArchSpec read_falcon_mamba(const util::JsonView& config) {
  return read_mamba1(config, read_positive(config, "mixer_rms_eps", 1e-6));
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
