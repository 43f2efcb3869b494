// GLM 4 (9B and 32B): Llama with half of each head rotated, by pairs of neighbours, gate and up in one
// matrix, and in the models of 2025 norms behind the branches, too. GLM 4.5 to 4.7: experts chosen by
// logistic scores and a bias, beside a shared one, in all blocks but the first. Odd: the bias decides only
// who is chosen, and checkpoints have another block behind the last, which predicts a second token and is not
// read. Solar Open: the same experts in all blocks, heads that are rotated whole and have no norms. Sarvam
// 30B: as GLM 4.5 with heads that are rotated whole and have norms, and names of its own. The language models
// of GLM 4.1V to 4.6V and GLM-OCR: as GLM 4, or with experts as GLM 4.5, rotated by three coordinates, which
// of a text are one.
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

std::vector<std::pair<Slot, std::string>> norms_on_both_sides() {
  return {{Slot::kAttentionNormWeight, "input_layernorm"},
          {Slot::kAttentionOutNormWeight, "post_self_attn_layernorm"},
          {Slot::kMlpNormWeight, "post_attention_layernorm"},
          {Slot::kMlpOutNormWeight, "post_mlp_layernorm"}};
}

ArchSpec with_fused_mlp(ArchSpec spec) {
  const std::int64_t d = spec.hidden_size, m = spec.mlp_size;
  add_rows_of(
      spec, {.slot = Slot::kMlpGateWeight, .name = "layers.{i}.mlp.gate_up_proj.weight", .shape = {2 * m, d}},
      {{Slot::kMlpGateWeight, m}, {Slot::kMlpUpWeight, m}});
  spec.block_tensors.push_back({Slot::kMlpDownWeight, "layers.{i}.mlp.down_proj.weight", {d, m}});
  return spec;
}

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
  return with_fused_mlp(read_llama_like(config, parts));
}

/// GLM 4 inside a model that sees. `defaults` has the class's sizes.
ArchSpec read_seeing_glm(const util::JsonView& config, const util::Json& defaults, LlamaLike parts) {
  tell_unused(config, "attention_bias", parts.qkv_bias,
              parts.qkv_bias ? "the projections have biases" : "the projections have no biases");
  const util::Json whole = with_class_defaults(config, defaults);
  parts.epsilon = 1e-5;
  parts.norms = norms_on_both_sides();
  parts.rope.interleaved = true;
  parts.rope.others = {"mrope_section"};
  parts.partial_rotary = true;
  parts.dense_mlp = false;
  ArchSpec spec = with_fused_mlp(read_llama_like({whole, config.where()}, parts));
  spec.norm_place = NormPlace::kBeforeAndAfter;
  return spec;
}

}  // namespace

ArchSpec read_glm(const util::JsonView& config) {
  return read_dense_glm(config, {});
}

// Odd: `post_attention_layernorm` is the norm before the MLP.
ArchSpec read_glm4(const util::JsonView& config) {
  ArchSpec spec = read_dense_glm(config, {.norms = norms_on_both_sides()});
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

// Odd: of a head all is rotated where the config does not say, and `head_dim` would be the rotary embedding's
// alone.
ArchSpec read_glm4v(const util::JsonView& config) {
  ArchSpec spec = read_seeing_glm(config,
                                  {{"vocab_size", 151552},
                                   {"hidden_size", 4096},
                                   {"intermediate_size", 13696},
                                   {"num_hidden_layers", 40},
                                   {"num_attention_heads", 32}},
                                  {.max_positions = 32768, .kv_heads = 2, .qkv_bias = true});
  require_value(config, "head_dim", spec.hidden_size / spec.num_heads);
  return spec;
}

ArchSpec read_glm_ocr(const util::JsonView& config) {
  ArchSpec spec = read_seeing_glm(config,
                                  {{"vocab_size", 59392},
                                   {"hidden_size", 1024},
                                   {"intermediate_size", 4096},
                                   {"num_hidden_layers", 16},
                                   {"num_attention_heads", 16}},
                                  {.max_positions = 131072, .kv_heads = 8});
  // What predicts a second token.
  spec.ignorable.push_back(util::cat("layers.", spec.num_layers, ".*"));
  return spec;
}

ArchSpec read_glm4v_moe(const util::JsonView& config) {
  const util::Json whole = with_class_defaults(config, {{"vocab_size", 151424},
                                                        {"hidden_size", 4096},
                                                        {"intermediate_size", 10944},
                                                        {"num_hidden_layers", 46},
                                                        {"num_attention_heads", 96}});
  tell_unused(config, "use_qk_norm", false, "heads have no norms");
  const bool bias = read_flag(config, "attention_bias", true);
  ArchSpec spec =
      read_llama_like({whole, config.where()}, {.max_positions = 65536,
                                                .kv_heads = 8,
                                                .epsilon = 1e-5,
                                                .rope = {.class_share = 0.5, .others = {"mrope_section"}},
                                                .partial_rotary = true,
                                                .qkv_bias = bias,
                                                .dense_mlp = false});
  set_first_dense(spec, read_size(config, "first_k_dense_replace", 1, /*lowest=*/0));
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  add_logistic_experts(spec, config, {.count = 128, .chosen = 8, .mlp_size = 1408});
  return spec;
}

// Odd: tensors have names of their own, as published, or GLM's.
ArchSpec read_sarvam_moe(const util::JsonView& config) {
  const util::Json whole = with_own_names(config, {{"n_routed_experts", "num_experts"},
                                                   {"n_shared_experts", "num_shared_experts"},
                                                   {"attention_bias", "use_qkv_bias"}});
  const util::JsonView renamed(whole, config.where());
  const bool bias = read_flag(renamed, "attention_bias", false);
  const bool query_key_norm = read_flag(renamed, "use_qk_norm", true);
  ArchSpec spec = read_llama_like(renamed, {.max_positions = 131072,
                                            .kv_heads = 4,
                                            .head_size = 64,
                                            .rope = {.class_theta = 8e6},
                                            .partial_rotary = true,
                                            .qkv_bias = bias,
                                            .query_key_norm = query_key_norm,
                                            .dense_mlp = false});
  set_first_dense(spec, read_size(renamed, "first_k_dense_replace", 1, /*lowest=*/0));
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  add_logistic_experts(spec, renamed, {.count = 128, .chosen = 6, .mlp_size = 1024, .scale = 2.5});
  for (TensorRule& rule : spec.model_tensors) {
    if (rule.slot == Slot::kTokenEmbedding) rule.other_names = {"word_embeddings.weight"};
  }
  add_other_names(spec, {{"self_attn.o_proj", "attention.dense"},
                         {"self_attn.q_norm", "attention.query_layernorm"},
                         {"self_attn.k_norm", "attention.key_layernorm"},
                         {"mlp.gate.e_score_correction_bias", "mlp.gate.expert_bias"}});
  const std::int64_t d = spec.hidden_size, q = spec.num_heads * spec.head_size,
                     kv = spec.num_kv_heads * spec.head_size;
  ArchSpec fused;
  const std::string projections = "layers.{i}.attention.query_key_value";
  add_rows_of(fused, {.slot = Slot::kQueryWeight, .name = projections + ".weight", .shape = {q + 2 * kv, d}},
              {{Slot::kQueryWeight, q}, {Slot::kKeyWeight, kv}, {Slot::kValueWeight, kv}});
  if (bias) {
    add_rows_of(fused, {.slot = Slot::kQueryBias, .name = projections + ".bias", .shape = {q + 2 * kv}},
                {{Slot::kQueryBias, q}, {Slot::kKeyBias, kv}, {Slot::kValueBias, kv}});
  }
  for (TensorRule& rule : fused.block_tensors) spec.other_block_tensors.push_back(std::move(rule));
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
