// Phi 1, 1.5 and 2 (parallel residual through one norm, biases everywhere, half of a head rotated), and Phi
// 3, 3.5, 4 and 4-mini (Llama with fused projections). Odd: Phi 3 calls longrope "su" or "yarn" in older
// configs, and has an `original_max_position_embeddings` of its own where the config does not say.
#include "family.hpp"

namespace depthlens::model {
ArchSpec read_phi(const util::JsonView& config) {
  ArchSpec spec = read_llama_like(config, {.max_positions = 2048,
                                           .norm = NormKind::kLayerNorm,
                                           .epsilon_key = "layer_norm_eps",
                                           .epsilon = 1e-5,
                                           .norms = {{Slot::kAttentionNormWeight, "input_layernorm"}},
                                           .final_norm_weight = false,
                                           .activation = "gelu_new",
                                           .rope = {.class_share = 0.5, .null_share = {}},
                                           .partial_rotary = true,
                                           .qkv_bias = true,
                                           .attention_out = "dense",
                                           .attention_out_bias = true,
                                           .dense_mlp = false});
  spec.gated_mlp = false;
  spec.parallel_residual = spec.shared_norm = true;
  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size, dh = spec.head_size;
  spec.model_tensors.push_back({Slot::kUnembeddingBias, "lm_head.bias", {V}});
  spec.model_tensors.push_back({Slot::kFinalNormWeight, "final_layernorm.weight", {d}});
  spec.model_tensors.push_back({Slot::kFinalNormBias, "final_layernorm.bias", {d}});
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
    spec.block_tensors.push_back({slot, "layers.{i}." + name, std::move(shape)});
  };
  add(Slot::kAttentionNormBias, "input_layernorm.bias", {d});
  add(Slot::kMlpUpWeight, "mlp.fc1.weight", {m, d});
  add(Slot::kMlpUpBias, "mlp.fc1.bias", {m});
  add(Slot::kMlpDownWeight, "mlp.fc2.weight", {d, m});
  add(Slot::kMlpDownBias, "mlp.fc2.bias", {d});
  if (!read_flag(config, "qk_layernorm", false)) return spec;
  add(Slot::kQueryNormWeight, "self_attn.q_layernorm.weight", {dh});
  add(Slot::kQueryNormBias, "self_attn.q_layernorm.bias", {dh});
  add(Slot::kKeyNormWeight, "self_attn.k_layernorm.weight", {dh});
  add(Slot::kKeyNormBias, "self_attn.k_layernorm.bias", {dh});
  return spec;
}

ArchSpec read_phi3(const util::JsonView& config) {
  util::Json renamed = config.raw();
  for (const char* block : {"rope_scaling", "rope_parameters"}) {
    if (!renamed.contains(block) || !renamed[block].is_object()) continue;
    for (const char* key : {"type", "rope_type"}) {
      if (renamed[block].contains(key) && (renamed[block][key] == "su" || renamed[block][key] == "yarn"))
        renamed[block][key] = "longrope";
    }
  }
  ArchSpec spec =
      read_llama_like({renamed, config.where()}, {.max_positions = 4096,
                                                  .epsilon = 1e-5,
                                                  .rope = {.null_share = {}, .original_max_positions = 4096},
                                                  .partial_rotary = true,
                                                  .qkv = false,
                                                  .dense_mlp = false});
  const std::int64_t d = spec.hidden_size, m = spec.mlp_size;
  const std::int64_t q = spec.num_heads * spec.head_size, kv = spec.num_kv_heads * spec.head_size;
  add_rows_of(
      spec,
      {.slot = Slot::kQueryWeight, .name = "layers.{i}.self_attn.qkv_proj.weight", .shape = {q + 2 * kv, d}},
      {{Slot::kQueryWeight, q}, {Slot::kKeyWeight, kv}, {Slot::kValueWeight, kv}});
  add_rows_of(
      spec, {.slot = Slot::kMlpGateWeight, .name = "layers.{i}.mlp.gate_up_proj.weight", .shape = {2 * m, d}},
      {{Slot::kMlpGateWeight, m}, {Slot::kMlpUpWeight, m}});
  spec.block_tensors.push_back({Slot::kMlpDownWeight, "layers.{i}.mlp.down_proj.weight", {d, m}});
  set_one_window(spec, read_window(config, {}));
  return spec;
}

}  // namespace depthlens::model
