// BLOOM: a norm after the embedding, ALiBi instead of positions, a fused projection interleaved by head.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_bloom(const util::JsonView& config) {
  ArchSpec spec = read_stack_with_heads(config, {.layers = {"n_layer", "num_hidden_layers"},
                                                 .hidden = {"hidden_size", "n_embed"},
                                                 .heads = {"n_head", "num_attention_heads"}});
  spec.mlp_size = 4 * spec.hidden_size;
  // transformers then leaves biases out.
  if (read_size(config, "pretraining_tp", 1) > 1) require_value(config, "slow_but_exact", false);
  // Positions have no table: this is how long the texts were that the published models learned from.
  spec.max_positions = read_size(config, "seq_length", 2048);
  spec.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  spec.attention.position_bias = PositionBias::kSlopes;
  spec.activation = Activation::kGeluTanh;
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", true);

  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size;
  spec.embedding_norm = true;
  spec.prefixes = {"transformer."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "word_embeddings.weight", {V, d}},
      {Slot::kEmbeddingNormWeight, "word_embeddings_layernorm.weight", {d}},
      {Slot::kEmbeddingNormBias, "word_embeddings_layernorm.bias", {d}},
      {Slot::kFinalNormWeight, "ln_f.weight", {d}},
      {Slot::kFinalNormBias, "ln_f.bias", {d}},
      {Slot::kUnembedding, "lm_head.weight", {V, d}},
  };
  spec.block_tensors = {
      {Slot::kAttentionNormWeight, "h.{i}.input_layernorm.weight", {d}},
      {Slot::kAttentionNormBias, "h.{i}.input_layernorm.bias", {d}},
      {Slot::kQkvWeight, "h.{i}.self_attention.query_key_value.weight", {3 * d, d}},
      {Slot::kQkvBias, "h.{i}.self_attention.query_key_value.bias", {3 * d}},
      {Slot::kAttentionOutWeight, "h.{i}.self_attention.dense.weight", {d, d}},
      {Slot::kAttentionOutBias, "h.{i}.self_attention.dense.bias", {d}},
      {Slot::kMlpNormWeight, "h.{i}.post_attention_layernorm.weight", {d}},
      {Slot::kMlpNormBias, "h.{i}.post_attention_layernorm.bias", {d}},
      {Slot::kMlpUpWeight, "h.{i}.mlp.dense_h_to_4h.weight", {m, d}},
      {Slot::kMlpUpBias, "h.{i}.mlp.dense_h_to_4h.bias", {m}},
      {Slot::kMlpDownWeight, "h.{i}.mlp.dense_4h_to_h.weight", {d, m}},
      {Slot::kMlpDownBias, "h.{i}.mlp.dense_4h_to_h.bias", {d}},
  };
  return spec;
}

}  // namespace depthlens::model
