// GPT-NeoX and Pythia: partial rotary positions, parallel or sequential residual. Odd: the fused projection
// is interleaved by head.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_gpt_neox(const util::JsonView& config) {
  ArchSpec spec = read_stack_with_heads(config);
  require_value(config, "head_dim", spec.head_size);  // transformers rotates by it, and cuts heads without it
  spec.mlp_size = read_size(config, "intermediate_size");
  spec.max_positions = read_size(config, "max_position_embeddings", 2048);
  spec.norm_epsilon = read_epsilon(config, "layer_norm_eps", 1e-5);
  spec.parallel_residual = read_flag(config, "use_parallel_residual", true);
  spec.activation = read_activation(config, "hidden_act", "gelu");
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", false);
  set_rope(
      spec,
      read_rope(config, spec,
                {.theta = "rotary_emb_base", .share = "rotary_pct", .class_share = 0.25, .null_share = {}}));

  const bool attention_bias = read_flag(config, "attention_bias", true);
  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size;
  spec.prefixes = {"gpt_neox."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "embed_in.weight", {V, d}},
      {Slot::kFinalNormWeight, "final_layer_norm.weight", {d}},
      {Slot::kFinalNormBias, "final_layer_norm.bias", {d}},
      // The second is transformers 5's own name, which it also finds in files.
      {Slot::kUnembedding, "embed_out.weight", {V, d}, false, {"lm_head.weight"}},
  };
  spec.block_tensors = {
      {Slot::kAttentionNormWeight, "layers.{i}.input_layernorm.weight", {d}},
      {Slot::kAttentionNormBias, "layers.{i}.input_layernorm.bias", {d}},
      {Slot::kMlpNormWeight, "layers.{i}.post_attention_layernorm.weight", {d}},
      {Slot::kMlpNormBias, "layers.{i}.post_attention_layernorm.bias", {d}},
      {Slot::kQkvWeight, "layers.{i}.attention.query_key_value.weight", {3 * d, d}},
      {Slot::kAttentionOutWeight, "layers.{i}.attention.dense.weight", {d, d}},
      {Slot::kMlpUpWeight, "layers.{i}.mlp.dense_h_to_4h.weight", {m, d}},
      {Slot::kMlpUpBias, "layers.{i}.mlp.dense_h_to_4h.bias", {m}},
      {Slot::kMlpDownWeight, "layers.{i}.mlp.dense_4h_to_h.weight", {d, m}},
      {Slot::kMlpDownBias, "layers.{i}.mlp.dense_4h_to_h.bias", {d}},
  };
  if (attention_bias) {
    spec.block_tensors.push_back({Slot::kQkvBias, "layers.{i}.attention.query_key_value.bias", {3 * d}});
    spec.block_tensors.push_back({Slot::kAttentionOutBias, "layers.{i}.attention.dense.bias", {d}});
  }
  spec.ignorable = {"layers.{i}.attention.bias", "layers.{i}.attention.masked_bias",
                    "layers.{i}.attention.rotary_emb.inv_freq", "rotary_emb.inv_freq"};
  return spec;
}

}  // namespace depthlens::model
