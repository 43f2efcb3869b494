// Cohere 1 and 2 (Command R, Aya) and 2 with experts (Command A+): parallel residual through one layer norm
// without bias, interleaved rotary pairs, scaled logits. Odd: in Cohere 2 only the sliding blocks have rotary
// positions, and dense ones before the experts where their pattern is 1.
#include "family.hpp"

namespace depthlens::model {
namespace {

ArchSpec read_parallel(const util::JsonView& config, double class_theta) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 8192,
                                           .tied_unembedding = true,
                                           .norm = NormKind::kLayerNorm,
                                           .epsilon_key = "layer_norm_eps",
                                           .epsilon = 1e-5,
                                           .norms = {{Slot::kAttentionNormWeight, "input_layernorm"}},
                                           .rope = {.class_theta = class_theta, .interleaved = true},
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias});
  spec.parallel_residual = spec.shared_norm = true;
  spec.logit_transform.scale = read_number(config, "logit_scale", 0.0625);
  return spec;
}

}  // namespace

ArchSpec read_cohere(const util::JsonView& config) {
  ArchSpec spec = read_parallel(config, 5e5);
  if (!read_flag(config, "use_qk_norm", false)) return spec;
  spec.block_tensors.push_back(
      {Slot::kQueryNormWeight, "layers.{i}.self_attn.q_norm.weight", {spec.num_heads, spec.head_size}});
  spec.block_tensors.push_back(
      {Slot::kKeyNormWeight, "layers.{i}.self_attn.k_norm.weight", {spec.num_kv_heads, spec.head_size}});
  return spec;
}

ArchSpec read_cohere2(const util::JsonView& config) {
  ArchSpec spec = read_parallel(config, 1e4);
  const std::int64_t pattern = read_size(config, "sliding_window_pattern", 4);
  const auto slides =
      sliding_blocks(config, spec.num_layers, [&](std::int64_t i) { return (i + 1) % pattern != 0; });
  set_windows(spec, config, slides, 4096);
  rotate_only(spec, slides);
  return spec;
}

ArchSpec read_cohere2_moe(const util::JsonView& given) {
  using Weighting = ExpertSpec::Weighting;
  // A field of this class of transformers, which never becomes its rope_parameters.
  tell_unused(given, "rope_scaling", nullptr, "rotary settings are rope_parameters and rope_theta");
  util::Json whole = given.raw();
  whole.erase("rope_scaling");
  const util::JsonView config(whole, given.where());
  const bool root_mean_square = config.has("rms_norm_eps");
  const bool bias = read_flag(config, "attention_bias", false);
  const bool shares = read_flag(config, "norm_topk_prob", true);
  ArchSpec spec =
      read_llama_like(config, {.max_positions = 8192,
                               .head_size = 128,
                               .tied_unembedding = true,
                               .norm = root_mean_square ? NormKind::kRmsNorm : NormKind::kLayerNorm,
                               .epsilon_key = root_mean_square ? "rms_norm_eps" : "layer_norm_eps",
                               .epsilon = 1e-5,
                               .norms = {{Slot::kAttentionNormWeight, "input_layernorm"}},
                               .rope = {.interleaved = true},
                               .qkv_bias = bias,
                               .attention_out_bias = bias,
                               .dense_mlp = false});
  spec.parallel_residual = spec.shared_norm = true;
  spec.logit_transform.scale = read_number(config, "logit_scale", 0.0625);

  const std::int64_t dense = read_size(config, "first_k_dense_replace", 0, /*lowest=*/0);
  const std::int64_t pattern = read_size(config, "sliding_window_pattern", 4);
  const std::int64_t dense_pattern = read_size(config, "prefix_dense_sliding_window_pattern", 1);
  auto rotated = sliding_blocks(config, spec.num_layers, [&](std::int64_t i) {
    return (i < dense ? (i + 1) % dense_pattern : (i - dense + 1) % pattern) != 0;
  });
  set_windows(spec, config, rotated, 4096);
  if (const auto sparse =
          read_kinds_of_blocks(config, "mlp_layer_types", spec.num_layers, "dense", "sparse")) {
    for (std::size_t i = 0; i < spec.blocks.size(); ++i) spec.blocks[i].experts = (*sparse)[i];
  } else {
    set_first_dense(spec, dense);
  }
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
    if (!spec.blocks[i].experts && dense_pattern == 1) rotated[i] = true;
  }
  rotate_only(spec, rotated);

  const std::string function = config.get_string("expert_selection_fn", "softmax");
  if (function != "softmax" && function != "sigmoid")
    config.at("expert_selection_fn").fail("softmax or sigmoid");
  spec.experts = {.count = read_size(config, "num_experts", 8),
                  .chosen = read_size(config, "num_experts_per_tok", 2),
                  .mlp_size = spec.mlp_size,
                  .weighting = function == "softmax" ? Weighting::kSoftmaxOfChosen
                               : shares              ? Weighting::kLogisticShares
                                                     : Weighting::kLogistic};
  check_experts(config, spec);
  add_experts(spec);
  if (const std::int64_t shared = read_size(config, "num_shared_experts", 0, /*lowest=*/0); shared > 0) {
    add_shared_expert(spec, "mlp.shared_experts", spec.mlp_size * shared);
    const std::string combined = config.get_string("shared_expert_combination_strategy", "average");
    if (combined != "average" && combined != "sum")
      config.at("shared_expert_combination_strategy").fail("average or sum");
    if (combined == "average") spec.experts.output_scale = 0.5;
  }
  spec.mlp_size = read_optional_size(config, "prefix_dense_intermediate_size", {}).value_or(spec.mlp_size);
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  return spec;
}

}  // namespace depthlens::model
