// GLM 4 (9B and 32B): Llama with half of each head rotated, by pairs of neighbours, gate and up in one
// matrix, and in the models of 2025 norms behind the branches, too. GLM 4.5 to 4.7: experts chosen by
// logistic scores and a bias, beside a shared one, in all blocks but the first. Odd: the bias decides only
// who is chosen, and checkpoints have another block behind the last, which predicts a second token and is not
// read. Solar Open: the same experts in all blocks, heads that are rotated whole and have no norms.
#include "family.hpp"

namespace depthlens::model {
namespace {

ArchSpec read_dense_glm(const util::JsonView& config, LlamaLike parts) {
  parts.max_positions = 131072;
  parts.kv_heads = 2;
  parts.head_size = 128;
  parts.epsilon = 1.5625e-7;
  parts.rope.class_share = 0.5;
  parts.rope.interleaved = true;
  parts.partial_rotary = true;
  parts.qkv_bias = read_flag(config, "attention_bias", true);
  parts.dense_mlp = false;
  ArchSpec spec = read_llama_like(config, parts);
  const std::int64_t d = spec.hidden_size, m = spec.mlp_size;
  add_rows_of(
      spec, {.slot = Slot::kMlpGateWeight, .name = "layers.{i}.mlp.gate_up_proj.weight", .shape = {2 * m, d}},
      {{Slot::kMlpGateWeight, m}, {Slot::kMlpUpWeight, m}});
  spec.block_tensors.push_back({Slot::kMlpDownWeight, "layers.{i}.mlp.down_proj.weight", {d, m}});
  return spec;
}

}  // namespace

ArchSpec read_glm(const util::JsonView& config) {
  return read_dense_glm(config, {});
}

// Odd: `post_attention_layernorm` is the norm before the MLP.
ArchSpec read_glm4(const util::JsonView& config) {
  ArchSpec spec =
      read_dense_glm(config, {.norms = {{Slot::kAttentionNormWeight, "input_layernorm"},
                                        {Slot::kAttentionOutNormWeight, "post_self_attn_layernorm"},
                                        {Slot::kMlpNormWeight, "post_attention_layernorm"},
                                        {Slot::kMlpOutNormWeight, "post_mlp_layernorm"}}});
  spec.norm_place = NormPlace::kBeforeAndAfter;
  return spec;
}

ArchSpec read_glm4_moe(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  const bool query_key_norm = read_flag(config, "use_qk_norm", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 131072,
                                           .kv_heads = 8,
                                           .epsilon = 1e-5,
                                           .rope = {.class_share = 0.5},
                                           .partial_rotary = true,
                                           .qkv_bias = bias,
                                           .query_key_norm = query_key_norm,
                                           .dense_mlp = false});
  set_first_dense(spec, read_size(config, "first_k_dense_replace", 1, /*lowest=*/0));
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  add_logistic_experts(spec, config, {.count = 128, .chosen = 8, .mlp_size = 1408});
  return spec;
}

ArchSpec read_solar_open(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 131072,
                                           .kv_heads = 8,
                                           .head_size = 128,
                                           .mlp_size_key = "",
                                           .epsilon = 1e-5,
                                           .rope = {.class_theta = 1e6},
                                           .partial_rotary = true,
                                           .qkv_bias = bias,
                                           .dense_mlp = false});
  set_first_dense(spec, 0);
  const std::string reason = "all blocks have experts, and heads no norms";
  tell_unused(config, "first_k_dense_replace", 0, reason);
  tell_unused(config, "use_qk_norm", false, reason);
  add_logistic_experts(spec, config, {.count = 128, .chosen = 8, .mlp_size = 1280});
  return spec;
}

}  // namespace depthlens::model
