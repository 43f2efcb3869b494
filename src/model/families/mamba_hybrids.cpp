// Falcon-H1: attention and a state space side by side in each block, with a dozen factors. Bamba: a state
// space in most blocks, attention with half of each head rotated in some. Granite 4: likewise, without
// positions or with heads rotated whole, four factors, and experts beside a shared one or the latter alone.
// Odd: Falcon-H1's state space may have no norm, and all convolutions have the MLP's activation.
#include <algorithm>

#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

/// What the classes have in common; `values` is how many the state space has.
void read_hybrid_state_space(ArchSpec& spec, const util::JsonView& config, std::int64_t values) {
  StateSpaceSpec& space = spec.state_space;
  space.heads = read_size(config, "mamba_n_heads", 128);
  const util::Json automatic = "auto";
  const bool given = config.raw().contains("mamba_d_head") && config.raw().at("mamba_d_head") != automatic;
  space.head_size = given ? read_size(config, "mamba_d_head") : values / space.heads;
  space.groups = read_size(config, "mamba_n_groups", 1);
  space.state_size = read_size(config, "mamba_d_state", 256);
  space.kernel = read_size(config, "mamba_d_conv", 4);
  space.activation = spec.activation;
  read_step_limits(config, "time_step_limit", space);
  check_state_space(config, space, values);
}

std::int64_t expanded(const util::JsonView& config, std::int64_t hidden_size) {
  return hidden_size * read_size(config, "mamba_expand", 2);
}

/// Llama's parts under other names.
ArchSpec read_like_llama(const util::JsonView& config, LlamaLike parts) {
  parts.kv_heads = 8;
  parts.norms = {{Slot::kAttentionNormWeight, "input_layernorm"}, {Slot::kMlpNormWeight, "pre_ff_layernorm"}};
  parts.epsilon = 1e-5;
  parts.final_norm_weight = false;
  parts.qkv_bias = parts.attention_out_bias = read_flag(config, "attention_bias", false);
  parts.mlp_stem = "feed_forward";
  parts.mlp_bias = read_flag(config, "mlp_bias", false);
  ArchSpec spec = read_llama_like(config, parts);
  spec.model_tensors.push_back({Slot::kFinalNormWeight, "final_layernorm.weight", {spec.hidden_size}});
  return spec;
}

/// Of the blocks that do not attend; nothing: none does.
void add_state_spaces(ArchSpec& spec, const util::JsonView& config,
                      const std::optional<std::vector<bool>>& attends) {
  set_other_mixer(spec, attends.value_or(std::vector<bool>(spec.blocks.size(), false)), Mixer::kStateSpace);
  read_hybrid_state_space(spec, config, expanded(config, spec.hidden_size));
  const bool bias = read_flag(config, "mamba_proj_bias", false);
  add_state_space(spec, "mamba", Mixer::kStateSpace,
                  {.in = bias, .convolution = read_flag(config, "mamba_conv_bias", true), .out = bias});
}

/// Factors in a list of so many; null: all are 1.
std::vector<double> read_factors(const util::JsonView& config, const std::string& key, std::size_t count) {
  if (!config.has(key)) return std::vector<double>(count, 1);
  const util::JsonView given = config.at(key);
  if (!given.is_array() || given.size() != count) given.fail(util::cat("an array of ", count, " numbers"));
  std::vector<double> factors;
  for (std::size_t i = 0; i < count; ++i) factors.push_back(given.at(i).as_number());
  return factors;
}

}  // namespace

ArchSpec read_falcon_h1(const util::JsonView& config) {
  ArchSpec spec = read_like_llama(config, {.max_positions = 8192});
  for (BlockSpec& block : spec.blocks) block.mixer = Mixer::kAttentionAndStateSpace;
  const auto values = read_optional_size(config, "mamba_d_ssm", 1024);
  read_hybrid_state_space(spec, config, values ? *values : expanded(config, spec.hidden_size));
  using Norm = StateSpaceSpec::Norm;
  StateSpaceSpec& space = spec.state_space;
  space.norm = !read_flag(config, "mamba_rms_norm", false)         ? Norm::kNone
               : read_flag(config, "mamba_norm_before_gate", true) ? Norm::kBeforeGate
                                                                   : Norm::kBehindGate;
  add_state_space(spec, "mamba", Mixer::kAttentionAndStateSpace,
                  {.in = read_flag(config, "mamba_proj_bias", false),
                   .convolution = read_flag(config, "mamba_conv_bias", true),
                   .out = read_flag(config, "projectors_bias", false)});
  spec.embedding_scale = read_number(config, "embedding_multiplier", 1);
  spec.logit_transform.scale = read_number(config, "lm_head_multiplier", 1);
  spec.attention.scale *= read_positive(config, "key_multiplier", 1);
  spec.attention.input_scale = read_number(config, "attention_in_multiplier", 1);
  spec.attention.output_scale = read_number(config, "attention_out_multiplier", 1);
  space.input_scale = read_number(config, "ssm_in_multiplier", 1);
  space.output_scale = read_number(config, "ssm_out_multiplier", 1);
  const std::vector<double> of_parts = read_factors(config, "ssm_multipliers", space.part_scales.size());
  std::copy(of_parts.begin(), of_parts.end(), space.part_scales.begin());
  const std::vector<double> of_mlp = read_factors(config, "mlp_multipliers", 2);
  spec.mlp_gate_scale = of_mlp[0];
  spec.mlp_out_scale = of_mlp[1];
  tell_unused(config, "mamba_use_mlp", true, "all blocks have an MLP");
  tell_unused(config, "attn_layer_indices", nullptr, "all blocks attend");
  spec.ignorable.emplace_back("layers.{i}.mamba.mup_vector");
  return spec;
}

ArchSpec read_bamba(const util::JsonView& config) {
  // The class has its own, whatever stands beside the rotary settings.
  tell_unused(config, "partial_rotary_factor", 0.5,
              "half of each head is rotated, or what rope_parameters say");
  util::Json whole = config.raw();
  whole.erase("partial_rotary_factor");
  ArchSpec spec = read_like_llama({whole, config.where()}, {.max_positions = 262144,
                                                            .rope = {.class_share = 0.5},
                                                            .partial_rotary = true,
                                                            .mixer = Mixer::kAttention});
  add_state_spaces(spec, config, read_listed_blocks(config, "attn_layer_indices", spec.num_layers));
  return spec;
}

ArchSpec read_granite_moe_hybrid(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 2048,
                                           .own_rope = true,
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .mixer = Mixer::kAttention,
                                           .dense_mlp = false});
  const auto kind = config.raw().find("position_embedding_type");
  if (kind != config.raw().end() && *kind == "rope") {
    require_value(config, "partial_rotary_factor", 1.0);
    set_rope(spec, read_rope(config, spec, {.share = ""}));
  }
  set_granite_factors(spec, config);
  const auto attends = read_kinds_of_blocks(config, name_of_size(config, "layer_types", "layers_block_type"),
                                            spec.num_layers, "linear_attention", "full_attention");
  add_state_spaces(spec, config, attends);

  const std::int64_t d = spec.hidden_size, m = spec.mlp_size;
  const std::int64_t shared = read_size(config, "shared_intermediate_size", 1024);
  const std::int64_t E = read_size(config, "num_local_experts", 8, /*lowest=*/0);
  if (E == 0) {
    spec.mlp_size = shared;
    const std::string stem = "layers.{i}.shared_mlp.";
    add_rows_of(
        spec, {.slot = Slot::kMlpGateWeight, .name = stem + "input_linear.weight", .shape = {2 * shared, d}},
        {{Slot::kMlpGateWeight, shared}, {Slot::kMlpUpWeight, shared}});
    spec.block_tensors.push_back({Slot::kMlpDownWeight, stem + "output_linear.weight", {d, shared}});
    return spec;
  }
  spec.mlp_size = 0;
  spec.experts = {.count = E,
                  .chosen = read_size(config, "num_experts_per_tok", 2),
                  .mlp_size = m,
                  .weighting = ExpertSpec::Weighting::kSoftmaxOfChosen};
  check_experts(config, spec);
  set_first_dense(spec, 0);
  add_granite_experts(spec);
  add_granite_shared_expert(spec, shared);
  return spec;
}

}  // namespace depthlens::model
