// GPT-NeoX and Pythia: partial rotary positions, parallel or sequential residual. Odd: the fused projection
// is interleaved by head. Persimmon: the same, sequential, with norms of each head and the square of ReLU.
// GPT-NeoX Japanese: sequential, without biases but for the norms' and one of the last block's attention.
#include "family.hpp"

namespace depthlens::model {
namespace {

/// The sizes, and the norms and matrices of a block.
ArchSpec read_neox_blocks(const util::JsonView& config, const std::string& attention) {
  ArchSpec spec = read_stack_with_heads(config);
  require_value(config, "head_dim", spec.head_size);  // transformers rotates by it, and cuts heads without it
  spec.norm_epsilon = read_epsilon(config, "layer_norm_eps", 1e-5);
  const std::int64_t d = spec.hidden_size;
  spec.block_tensors = {
      {Slot::kAttentionNormWeight, "layers.{i}.input_layernorm.weight", {d}},
      {Slot::kAttentionNormBias, "layers.{i}.input_layernorm.bias", {d}},
      {Slot::kMlpNormWeight, "layers.{i}.post_attention_layernorm.weight", {d}},
      {Slot::kMlpNormBias, "layers.{i}.post_attention_layernorm.bias", {d}},
      {Slot::kQkvWeight, "layers.{i}." + attention + ".query_key_value.weight", {3 * d, d}},
      {Slot::kAttentionOutWeight, "layers.{i}." + attention + ".dense.weight", {d, d}},
  };
  spec.ignorable = {"layers.{i}." + attention + ".bias", "layers.{i}." + attention + ".masked_bias",
                    "layers.{i}." + attention + ".rotary_emb.inv_freq", "rotary_emb.inv_freq"};
  return spec;
}

void add_attention_biases(ArchSpec& spec, const std::string& attention) {
  const std::int64_t d = spec.hidden_size;
  spec.block_tensors.push_back(
      {Slot::kQkvBias, "layers.{i}." + attention + ".query_key_value.bias", {3 * d}});
  spec.block_tensors.push_back({Slot::kAttentionOutBias, "layers.{i}." + attention + ".dense.bias", {d}});
}

void add_neox_mlp(ArchSpec& spec, bool bias) {
  add_plain_mlp(spec, {"dense_h_to_4h", "dense_4h_to_h"}, bias);
}

}  // namespace

ArchSpec read_gpt_neox(const util::JsonView& config) {
  ArchSpec spec = read_neox_blocks(config, "attention");
  spec.mlp_size = read_size(config, "intermediate_size");
  spec.max_positions = read_size(config, "max_position_embeddings", 2048);
  spec.parallel_residual = read_flag(config, "use_parallel_residual", true);
  spec.activation = read_activation(config, "hidden_act", "gelu");
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", false);
  set_rope(
      spec,
      read_rope(config, spec,
                {.theta = "rotary_emb_base", .share = "rotary_pct", .class_share = 0.25, .null_share = {}}));
  if (read_flag(config, "attention_bias", true)) add_attention_biases(spec, "attention");
  add_neox_mlp(spec, /*bias=*/true);

  const std::int64_t d = spec.hidden_size, V = spec.vocab_size;
  spec.prefixes = {"gpt_neox."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "embed_in.weight", {V, d}},
      {Slot::kFinalNormWeight, "final_layer_norm.weight", {d}},
      {Slot::kFinalNormBias, "final_layer_norm.bias", {d}},
      // The second is transformers 5's own name, which it also finds in files.
      {Slot::kUnembedding, "embed_out.weight", {V, d}, false, {"lm_head.weight"}},
  };
  return spec;
}

ArchSpec read_persimmon(const util::JsonView& config) {
  ArchSpec spec = read_neox_blocks(config, "self_attn");
  spec.mlp_size = read_size(config, "intermediate_size");
  spec.max_positions = read_size(config, "max_position_embeddings", 16384);
  spec.activation = read_activation(config, "hidden_act", "relu2");
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", false);
  tell_unused(config, "num_key_value_heads", spec.num_heads, "each head has keys of its own");
  set_rope(spec, read_rope(config, spec, {.class_share = 0.5, .null_share = {}}));
  add_attention_biases(spec, "self_attn");
  add_neox_mlp(spec, /*bias=*/true);
  if (read_flag(config, "qk_layernorm", true)) {
    const std::vector<std::int64_t> shape = {spec.head_size};
    add_linear(spec, "layers.{i}.self_attn.q_layernorm", Slot::kQueryNormWeight, Slot::kQueryNormBias, shape,
               /*with_bias=*/true);
    add_linear(spec, "layers.{i}.self_attn.k_layernorm", Slot::kKeyNormWeight, Slot::kKeyNormBias, shape,
               /*with_bias=*/true);
  }

  const std::int64_t d = spec.hidden_size, V = spec.vocab_size;
  spec.prefixes = {"model."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "embed_tokens.weight", {V, d}},
      {Slot::kFinalNormWeight, "final_layernorm.weight", {d}},
      {Slot::kFinalNormBias, "final_layernorm.bias", {d}},
      {Slot::kUnembedding, "lm_head.weight", {V, d}},
  };
  return spec;
}

ArchSpec read_gpt_neox_japanese(const util::JsonView& config) {
  ArchSpec spec = read_neox_blocks(config, "attention");
  const std::int64_t d = spec.hidden_size, V = spec.vocab_size;
  spec.mlp_size = d * read_size(config, "intermediate_multiple_size", 4);
  tell_unused(config, "intermediate_size", spec.mlp_size, "the MLP's size is a multiple of hidden_size");
  tell_unused(config, "use_parallel_residual", false, "the residual is sequential");
  spec.max_positions = read_size(config, "max_position_embeddings", 2048);
  spec.activation = read_activation(config, "hidden_act", "gelu");
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", true);
  set_rope(spec,
           read_rope(config, spec, {.theta = "rotary_emb_base", .share = "rotary_pct", .null_share = {}}));
  add_neox_mlp(spec, /*bias=*/false);
  spec.block_tensors.push_back({.slot = Slot::kAttentionOutBias,
                                .name = "layers.{i}.attention.dense_bias",
                                .shape = {d},
                                .blocks = {.index = spec.num_layers - 1}});
  spec.prefixes = {"gpt_neox_japanese."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "embed_in.weight", {V, d}},
      {Slot::kFinalNormWeight, "final_layer_norm.weight", {d}},
      {Slot::kFinalNormBias, "final_layer_norm.bias", {d}},
      {Slot::kUnembedding, "embed_out.weight", {V, d}},
  };
  return spec;
}

}  // namespace depthlens::model
