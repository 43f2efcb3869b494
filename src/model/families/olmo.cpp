// OLMo 1 (layer norms without weights, clipped projections), OLMo 2 and 3 (norms of what attention and MLP
// put out, and of whole projections), OLMoE, and FlexOlmo (OLMo 2 with experts). Odd: in OLMo 3 only the
// blocks with full attention scale their rotary positions, and the base of the others is always the class's.
#include "family.hpp"

namespace depthlens::model {
namespace {

/// Norms after the branches, and of queries and keys.
ArchSpec read_norms_after(const util::JsonView& config, LlamaLike parts) {
  const bool bias = read_flag(config, "attention_bias", false);
  parts.norms = {{Slot::kAttentionOutNormWeight, "post_attention_layernorm"},
                 {Slot::kMlpOutNormWeight, "post_feedforward_layernorm"}};
  parts.qkv_bias = parts.attention_out_bias = bias;
  ArchSpec spec = read_llama_like(config, parts);
  spec.norm_place = NormPlace::kAfter;
  add_norms_of_projections(spec);
  return spec;
}

double read_clip(const util::JsonView& config) {
  return read_optional_number(config, "clip_qkv", {}).value_or(0);
}

/// Experts in all blocks, of the size of an MLP; `class_defaults` has how many.
void read_experts(ArchSpec& spec, const util::JsonView& config, const ExpertSpec& class_defaults) {
  const std::string count = name_of_size(config, "num_experts", "num_local_experts");
  spec.experts = {.count = read_size(config, count, class_defaults.count),
                  .chosen = read_size(config, "num_experts_per_tok", class_defaults.chosen),
                  .mlp_size = spec.mlp_size,
                  .weighting = read_softmax_weighting(config)};
  check_experts(config, spec);
  set_first_dense(spec, 0);
  add_experts(spec);
}

}  // namespace

ArchSpec read_olmo(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 2048,
                                           .norm = NormKind::kLayerNorm,
                                           .epsilon_key = "",  // it has none
                                           .epsilon = 1e-5,
                                           .norms = {},
                                           .final_norm_weight = false,
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias});
  spec.attention.clip_projections = read_clip(config);
  return spec;
}

ArchSpec read_olmo2(const util::JsonView& config) {
  return read_norms_after(config, {.max_positions = 2048, .epsilon = 1e-5});
}

ArchSpec read_olmo3(const util::JsonView& config) {
  ArchSpec spec = read_norms_after(config, {.max_positions = 2048, .epsilon = 1e-5, .own_rope = true});
  const auto slides =
      sliding_blocks(config, spec.num_layers, [](std::int64_t i) { return (i + 1) % 4 != 0; });
  set_windows(spec, config, slides, 4096);
  set_ropes_by_kind(spec, config, slides, {.class_theta = 5e5}, {.theta = "", .class_theta = 5e5});
  return spec;
}

ArchSpec read_olmoe(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 4096,
                                           .epsilon = 1e-5,
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .dense_mlp = false});
  add_norms_of_projections(spec);
  spec.attention.clip_projections = read_clip(config);
  read_experts(spec, config, {.count = 64, .chosen = 8});
  return spec;
}

ArchSpec read_flex_olmo(const util::JsonView& config) {
  ArchSpec spec =
      read_norms_after(config, {.max_positions = 4096, .rope = {.class_theta = 5e5}, .dense_mlp = false});
  read_experts(spec, config, {.count = 7, .chosen = 5});
  return spec;
}

}  // namespace depthlens::model
