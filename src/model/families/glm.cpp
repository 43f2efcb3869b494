// GLM 4.5 to 4.7: Llama with half of each head rotated, and experts chosen by logistic scores and a bias,
// beside a shared one, in all blocks but the first. Odd: the bias decides only who is chosen, and checkpoints
// have another block behind the last, which predicts a second token and is not read.
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_glm4_moe(const util::JsonView& config) {
  ArchSpec spec = read_llama_like(config, {.max_positions = 131072,
                                           .kv_heads = 8,
                                           .epsilon = 1e-5,
                                           .rope = {.class_share = 0.5},
                                           .partial_rotary = true,
                                           .qkv_bias = read_flag(config, "attention_bias", false),
                                           .query_key_norm = read_flag(config, "use_qk_norm", false),
                                           .dense_mlp = false});
  using Weighting = ExpertSpec::Weighting;
  spec.experts = {
      .count = read_size(config, name_of_size(config, "n_routed_experts", "num_local_experts"), 128),
      .chosen = read_size(config, "num_experts_per_tok", 8),
      .mlp_size = read_size(config, "moe_intermediate_size", 1408),
      .weighting =
          read_flag(config, "norm_topk_prob", true) ? Weighting::kLogisticShares : Weighting::kLogistic,
      .scale = read_number(config, "routed_scaling_factor", 1),
      .groups = read_size(config, "n_group", 1),
      .chosen_groups = read_size(config, "topk_group", 1)};
  check_experts(config, spec);
  const std::int64_t first = read_size(config, "first_k_dense_replace", 1, /*lowest=*/0);
  for (std::int64_t i = 0; i < spec.num_layers; ++i)
    spec.blocks[static_cast<std::size_t>(i)].experts = i >= first;
  add_gated_mlp(spec, /*bias=*/false, {.experts = false});
  add_experts(spec);
  add_shared_expert(spec, "shared_experts", spec.experts.mlp_size * read_size(config, "n_shared_experts", 1));
  spec.block_tensors.push_back({.slot = Slot::kRouterBias,
                                .name = "layers.{i}.mlp.gate.e_score_correction_bias",
                                .shape = {spec.experts.count},
                                .blocks = {.experts = true}});
  spec.ignorable.push_back(util::cat("layers.", spec.num_layers, ".*"));
  return spec;
}

}  // namespace depthlens::model
