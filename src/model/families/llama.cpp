// Llama 2 and 3, and the parts that Llama-like families share: RMS norms, rotary positions, grouped-query
// attention, gated MLP.
#include <algorithm>

#include "depthlens/util/error.hpp"
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_llama_like(const util::JsonView& config, const LlamaLike& parts) {
  ArchSpec spec;
  spec.num_layers = read_size(config, "num_hidden_layers");
  spec.hidden_size = read_size(config, "hidden_size");
  spec.vocab_size = read_size(config, "vocab_size");
  spec.num_heads = read_size(config, "num_attention_heads");
  spec.num_kv_heads =
      config.has("num_key_value_heads") ? read_size(config, "num_key_value_heads") : spec.num_heads;
  if (spec.num_heads % spec.num_kv_heads != 0)
    config.at("num_key_value_heads").fail("a divisor of num_attention_heads");
  if (config.has("head_dim")) {
    spec.head_size = read_size(config, "head_dim");
  } else {
    if (spec.hidden_size % spec.num_heads != 0)
      config.at("num_attention_heads").fail("a divisor of hidden_size");
    spec.head_size = spec.hidden_size / spec.num_heads;
  }
  spec.mlp_size = read_size(config, "intermediate_size");
  spec.max_positions = read_size(config, "max_position_embeddings");
  spec.norm = NormKind::kRmsNorm;
  spec.norm_epsilon = config.get_number("rms_norm_eps", 1e-6);
  spec.rope = read_rope(config, spec.head_size);
  require_value(config, "partial_rotary_factor", 1.0);
  if (spec.head_size % 2 != 0) {
    throw util::format_error({.what = "unsupported head size",
                              .where = config.where(),
                              .expected = "an even number, as rotary positions need",
                              .found = std::to_string(spec.head_size)});
  }
  spec.gated_mlp = true;
  spec.activation = read_activation(config, "hidden_act", "silu");
  spec.tied_unembedding = config.get_bool("tie_word_embeddings", false);

  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size;
  const std::int64_t q = spec.num_heads * spec.head_size, kv = spec.num_kv_heads * spec.head_size;
  spec.prefix = "model.";
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "embed_tokens.weight", {V, d}},
      {Slot::kFinalNormWeight, "norm.weight", {d}},
  };
  if (!spec.tied_unembedding) spec.model_tensors.push_back({Slot::kUnembedding, "lm_head.weight", {V, d}});
  spec.block_tensors = {
      {Slot::kAttentionNormWeight, "layers.{i}.input_layernorm.weight", {d}},
      {Slot::kQueryWeight, "layers.{i}.self_attn.q_proj.weight", {q, d}},
      {Slot::kKeyWeight, "layers.{i}.self_attn.k_proj.weight", {kv, d}},
      {Slot::kValueWeight, "layers.{i}.self_attn.v_proj.weight", {kv, d}},
      {Slot::kAttentionOutWeight, "layers.{i}.self_attn.o_proj.weight", {d, q}},
      {Slot::kMlpNormWeight, "layers.{i}.post_attention_layernorm.weight", {d}},
      {Slot::kMlpGateWeight, "layers.{i}.mlp.gate_proj.weight", {m, d}},
      {Slot::kMlpUpWeight, "layers.{i}.mlp.up_proj.weight", {m, d}},
      {Slot::kMlpDownWeight, "layers.{i}.mlp.down_proj.weight", {d, m}},
  };
  const auto add = [&](bool wanted, std::vector<TensorRule> rules) {
    if (wanted) std::move(rules.begin(), rules.end(), std::back_inserter(spec.block_tensors));
  };
  add(parts.qkv_bias, {{Slot::kQueryBias, "layers.{i}.self_attn.q_proj.bias", {q}},
                       {Slot::kKeyBias, "layers.{i}.self_attn.k_proj.bias", {kv}},
                       {Slot::kValueBias, "layers.{i}.self_attn.v_proj.bias", {kv}}});
  add(parts.attention_out_bias, {{Slot::kAttentionOutBias, "layers.{i}.self_attn.o_proj.bias", {d}}});
  add(parts.mlp_bias, {{Slot::kMlpGateBias, "layers.{i}.mlp.gate_proj.bias", {m}},
                       {Slot::kMlpUpBias, "layers.{i}.mlp.up_proj.bias", {m}},
                       {Slot::kMlpDownBias, "layers.{i}.mlp.down_proj.bias", {d}}});
  add(parts.query_key_norm, {{Slot::kQueryNormWeight, "layers.{i}.self_attn.q_norm.weight", {spec.head_size}},
                             {Slot::kKeyNormWeight, "layers.{i}.self_attn.k_norm.weight", {spec.head_size}}});
  spec.ignorable = {"layers.{i}.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"};
  return spec;
}

ArchSpec read_llama(const util::JsonView& config) {
  const bool attention_bias = config.get_bool("attention_bias", false);
  return read_llama_like(config, {.qkv_bias = attention_bias,
                                  .attention_out_bias = attention_bias,
                                  .mlp_bias = config.get_bool("mlp_bias", false)});
}

}  // namespace depthlens::model
