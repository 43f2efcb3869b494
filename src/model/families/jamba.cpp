// Jamba: a selective scan in most blocks, attention without positions in some, experts in every second. Odd:
// norms of narrow steps, writers and readers have weights; one expert means an MLP, and none to choose.
#include <utility>

#include "family.hpp"

namespace depthlens::model {
namespace {

/// Of each block, whether its number is OFFSET behind a multiple of PERIOD.
std::vector<bool> every(const util::JsonView& config, const std::string& stem, std::int64_t num_layers,
                        std::int64_t class_period, std::int64_t class_offset) {
  const std::int64_t period = read_size(config, stem + "_period", class_period);
  const std::int64_t offset = read_size(config, stem + "_offset", class_offset, /*lowest=*/0);
  if (offset >= period) {
    config.at(config.has(stem + "_offset") ? stem + "_offset" : stem + "_period")
        .fail("an offset that is less than the period");
  }
  std::vector<bool> is;
  for (std::int64_t i = 0; i < num_layers; ++i) is.push_back(i % period == offset);
  return is;
}

void read_scan(ArchSpec& spec, const util::JsonView& config) {
  const std::int64_t d = spec.hidden_size;
  spec.selective_scan = {.channels = d * read_size(config, "mamba_expand", 2),
                         .state_size = read_size(config, "mamba_d_state", 16),
                         .kernel = read_size(config, "mamba_d_conv", 4),
                         .step_rank = read_step_rank(config, "mamba_dt_rank", d),
                         .norm_epsilon = spec.norm_epsilon,
                         .activation = spec.activation};
  if (!(spec.norm_epsilon > 0)) config.at("rms_norm_eps").fail("a positive number");
}

}  // namespace

ArchSpec read_jamba(const util::JsonView& config) {
  ArchSpec spec = read_llama_like(config, {.max_positions = 262144,
                                           .kv_heads = 8,
                                           .norms = {{Slot::kAttentionNormWeight, "input_layernorm"},
                                                     {Slot::kMlpNormWeight, "pre_ff_layernorm"}},
                                           .final_norm_weight = false,
                                           .own_rope = true,
                                           .mixer = Mixer::kAttention,
                                           .dense_mlp = false});
  spec.model_tensors.push_back({Slot::kFinalNormWeight, "final_layernorm.weight", {spec.hidden_size}});
  for (const char* key : {"rope_theta", "rope_scaling", "rope_parameters"})
    tell_unused(config, key, nullptr, "attention has no positions");
  tell_unused(config, "mamba_inner_layernorms", true, "narrow steps, writers and readers are normed");
  const auto attends = every(config, "attn_layer", spec.num_layers, 8, 4);
  const auto mixes = every(config, "expert_layer", spec.num_layers, 2, 1);
  set_other_mixer(spec, attends, Mixer::kSelectiveScan);
  read_scan(spec, config);
  const bool bias = read_flag(config, "mamba_proj_bias", false);
  const bool convolution_bias = read_flag(config, "mamba_conv_bias", true);
  add_selective_scan(spec, {.stem = "mamba",
                            .mixer = Mixer::kSelectiveScan,
                            .bias = bias,
                            .convolution_bias = convolution_bias,
                            .norms = {"dt_layernorm", "b_layernorm", "c_layernorm"}});
  const std::int64_t count = read_size(config, name_of_size(config, "num_experts", "num_local_experts"), 16);
  const std::int64_t chosen = read_size(config, "num_experts_per_tok", 2);
  if (count > 1) {
    spec.experts = {.count = count, .chosen = chosen, .mlp_size = spec.mlp_size};
    check_experts(config, spec);
    for (std::size_t i = 0; i < spec.blocks.size(); ++i) spec.blocks[i].experts = mixes[i];
    add_experts(spec, {.router = "feed_forward.router", .stem = "feed_forward.experts"});
  }
  add_gated_mlp(spec, {.stem = "feed_forward", .blocks = {.experts = false}});
  return spec;
}

}  // namespace depthlens::model
