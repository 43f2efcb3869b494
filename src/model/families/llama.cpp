// Llama 2 and 3, and the parts that Llama-like families share: RMS norms, rotary positions, grouped-query
// attention, gated MLP.
#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_llama_like(const util::JsonView& config, const LlamaLike& parts) {
  ArchSpec spec;
  spec.num_layers = read_size(config, "num_hidden_layers");
  spec.hidden_size = read_size(config, "hidden_size");
  spec.vocab_size = read_size(config, "vocab_size");
  spec.num_heads = read_size(config, "num_attention_heads");
  spec.num_kv_heads =
      read_optional_size(config, "num_key_value_heads", parts.kv_heads).value_or(spec.num_heads);
  if (spec.num_heads % spec.num_kv_heads != 0) {
    throw util::format_error(
        {.what = "num_key_value_heads does not divide num_attention_heads",
         .where = config.where(),
         .expected = util::cat("a divisor of ", spec.num_heads),
         .found = util::cat(spec.num_kv_heads,
                            config.has("num_key_value_heads") ? "" : ", which holds where it is not given")});
  }
  const auto head_size = parts.head_size ? read_size(config, "head_dim", *parts.head_size)
                                         : read_optional_size(config, "head_dim", {});
  if (!head_size && spec.hidden_size % spec.num_heads != 0)
    config.at("num_attention_heads").fail("a divisor of hidden_size");
  spec.head_size = head_size.value_or(spec.hidden_size / spec.num_heads);
  spec.mlp_size = read_size(config, "intermediate_size");
  spec.max_positions = read_size(config, "max_position_embeddings", parts.max_positions);
  spec.norm = NormKind::kRmsNorm;
  spec.norm_epsilon = read_epsilon(config, "rms_norm_eps", 1e-6);
  require_value(config, "partial_rotary_factor", 1.0);
  spec.rope = read_rope(config, {.head_size = spec.head_size, .max_positions = spec.max_positions});
  if (spec.rope.dims != spec.head_size) {
    throw util::format_error({.what = "unsupported setting 'partial_rotary_factor' of the model",
                              .where = config.where(),
                              .expected = "heads that are rotated whole",
                              .found = util::cat(spec.rope.dims, " of ", spec.head_size, " values")});
  }
  spec.gated_mlp = true;
  spec.activation = read_activation(config, "hidden_act", "silu");
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", false);

  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size;
  const std::int64_t q = spec.num_heads * spec.head_size, kv = spec.num_kv_heads * spec.head_size;
  spec.prefix = "model.";
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "embed_tokens.weight", {V, d}},
      {Slot::kFinalNormWeight, "norm.weight", {d}},
      {Slot::kUnembedding, "lm_head.weight", {V, d}},
  };
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
  const bool attention_bias = read_flag(config, "attention_bias", false);
  return read_llama_like(config, {.max_positions = 2048,
                                  .qkv_bias = attention_bias,
                                  .attention_out_bias = attention_bias,
                                  .mlp_bias = read_flag(config, "mlp_bias", false)});
}

}  // namespace depthlens::model
