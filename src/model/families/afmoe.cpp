// AFMoE (Trinity): norms on both sides of a branch and of each head, gates of what the heads make, experts by
// logistic scores and a bias beside a shared one, windows. Odd: full blocks have no positions.
#include <cmath>

#include "family.hpp"

namespace depthlens::model {

ArchSpec read_afmoe(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec =
      read_llama_like(config, {.max_positions = 16384,
                               .head_size = 128,
                               .epsilon = 1e-5,
                               .norms = {{Slot::kAttentionNormWeight, "input_layernorm"},
                                         {Slot::kAttentionOutNormWeight, "post_attention_layernorm"},
                                         {Slot::kMlpNormWeight, "pre_mlp_layernorm"},
                                         {Slot::kMlpOutNormWeight, "post_mlp_layernorm"}},
                               .qkv_bias = bias,
                               .attention_out_bias = bias,
                               .query_key_norm = true,
                               .dense_mlp = false});
  spec.norm_place = NormPlace::kBeforeAndAfter;
  spec.attention.output_gate = true;
  spec.block_tensors.push_back({Slot::kAttentionGateWeight,
                                "layers.{i}.self_attn.gate_proj.weight",
                                {spec.num_heads * spec.head_size, spec.hidden_size}});
  if (read_flag(config, "mup_enabled", false))
    spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden_size));
  const std::int64_t interval = read_size(config, "global_attn_every_n_layers", 4);
  const auto slides =
      sliding_blocks(config, spec.num_layers, [&](std::int64_t i) { return (i + 1) % interval != 0; });
  set_windows(spec, config, slides, 1024);
  rotate_only(spec, slides);

  set_first_dense(spec, read_size(config, "num_dense_layers", 1, /*lowest=*/0));
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  spec.experts = {.count = read_size(config, "num_experts", 64),
                  .chosen = read_size(config, "num_experts_per_tok", 6),
                  .mlp_size = read_size(config, "moe_intermediate_size", 1408),
                  .weighting = ExpertSpec::Weighting::kLogisticShares,
                  .scale = read_number(config, "route_scale", 1),
                  .shares_epsilon = 1e-20};
  check_experts(config, spec);
  tell_unused(config, "score_func", "sigmoid", "experts are chosen by logistic scores");
  tell_unused(config, "route_norm", true, "weights of experts are shared out");
  for (const char* key : {"n_group", "topk_group", "num_expert_groups", "num_limited_groups"})
    tell_unused(config, key, 1, "experts are in no groups");
  add_experts(spec, {.router = "mlp.router.gate", .router_bias = "mlp.expert_bias"});
  add_shared_expert(spec, "mlp.shared_experts",
                    spec.experts.mlp_size * read_size(config, "num_shared_experts", 2));
  return spec;
}

}  // namespace depthlens::model
