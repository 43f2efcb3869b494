// GPT-2: learned positions, layer norms, one fused projection. Odd: its linear maps are stored as [in, out]
// ("Conv1D").
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_gpt2(const util::JsonView& config) {
  require_value(config, "scale_attn_weights", true);
  require_value(config, "scale_attn_by_inverse_layer_idx", false);
  // reorder_and_upcast_attn changes only the precision in which transformers works.

  ArchSpec spec;
  spec.num_layers = read_size(config, "n_layer");
  spec.hidden_size = read_size(config, "n_embd");
  spec.vocab_size = read_size(config, "vocab_size");
  spec.num_heads = spec.num_kv_heads = read_size(config, "n_head");
  if (spec.hidden_size % spec.num_heads != 0) config.at("n_head").fail("a divisor of n_embd");
  spec.head_size = spec.hidden_size / spec.num_heads;
  spec.mlp_size = config.has("n_inner") ? read_size(config, "n_inner") : 4 * spec.hidden_size;
  spec.max_positions = read_size(config, "n_positions");
  spec.norm_epsilon = config.get_number("layer_norm_epsilon", 1e-5);
  spec.qkv = QkvLayout::kFusedByKind;
  spec.activation = read_activation(config, "activation_function", "gelu_new");
  spec.tied_unembedding = config.get_bool("tie_word_embeddings", true);

  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size;
  spec.prefix = "transformer.";
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "wte.weight", {V, d}},
      {Slot::kPositionEmbedding, "wpe.weight", {spec.max_positions, d}},
      {Slot::kFinalNormWeight, "ln_f.weight", {d}},
      {Slot::kFinalNormBias, "ln_f.bias", {d}},
  };
  if (!spec.tied_unembedding) spec.model_tensors.push_back({Slot::kUnembedding, "lm_head.weight", {V, d}});
  spec.block_tensors = {
      {Slot::kAttentionNormWeight, "h.{i}.ln_1.weight", {d}},
      {Slot::kAttentionNormBias, "h.{i}.ln_1.bias", {d}},
      {Slot::kQkvWeight, "h.{i}.attn.c_attn.weight", {d, 3 * d}, true},
      {Slot::kQkvBias, "h.{i}.attn.c_attn.bias", {3 * d}},
      {Slot::kAttentionOutWeight, "h.{i}.attn.c_proj.weight", {d, d}, true},
      {Slot::kAttentionOutBias, "h.{i}.attn.c_proj.bias", {d}},
      {Slot::kMlpNormWeight, "h.{i}.ln_2.weight", {d}},
      {Slot::kMlpNormBias, "h.{i}.ln_2.bias", {d}},
      {Slot::kMlpUpWeight, "h.{i}.mlp.c_fc.weight", {d, m}, true},
      {Slot::kMlpUpBias, "h.{i}.mlp.c_fc.bias", {m}},
      {Slot::kMlpDownWeight, "h.{i}.mlp.c_proj.weight", {m, d}, true},
      {Slot::kMlpDownBias, "h.{i}.mlp.c_proj.bias", {d}},
  };
  spec.ignorable = {"h.{i}.attn.bias", "h.{i}.attn.masked_bias"};
  return spec;
}

}  // namespace depthlens::model
