// Falcon (the first; Falcon 3 is Llama): one fused projection by group of heads, biases by choice, ALiBi or
// rotary positions. Odd: three layouts. The new architecture (40b, 180b) has a group for each key and a norm
// each for attention and MLP; the old one has one group (7b) or one for each head (rw), and in parallel a
// single norm. Slopes of ALiBi and their products are rounded to bfloat16 whatever the model's type.
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_falcon(const util::JsonView& config) {
  ArchSpec spec = read_stack_with_heads(config);
  spec.mlp_size = read_optional_size(config, "ffn_hidden_size", {}).value_or(4 * spec.hidden_size);
  spec.max_positions = read_size(config, "max_position_embeddings", 2048);
  spec.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  spec.activation = read_activation(config, "activation", "gelu");
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", true);

  const bool is_new = read_flag(config, "new_decoder_architecture", false);
  const bool parallel = read_flag(config, "parallel_attn", true);
  if (is_new && !parallel) require_value(config, "parallel_attn", true);
  if (is_new) {
    spec.num_kv_heads = read_optional_size(config, "num_kv_heads", {}).value_or(spec.num_heads);
  } else if (read_flag(config, "multi_query", true)) {
    spec.num_kv_heads = 1;
  }
  if (spec.num_heads % spec.num_kv_heads != 0)
    config.at("num_kv_heads").fail(util::cat("a divisor of ", spec.num_heads, " heads"));
  const auto norms = read_optional_size(config, "num_ln_in_parallel_attn", {}).value_or(is_new ? 2 : 1);
  if (norms != 1 && !(is_new && norms == 2))
    config.at("num_ln_in_parallel_attn").fail(is_new ? "1 or 2" : "1, or none");
  spec.parallel_residual = parallel;
  spec.shared_norm = parallel && norms == 1;
  if (read_flag(config, "alibi", false)) {
    spec.attention.position_bias = PositionBias::kRoundedSlopes;
  } else {
    set_rope(spec, read_rope(config, spec, {.share = ""}));
  }

  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size;
  const std::int64_t fused = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_size;
  const bool bias = read_flag(config, "bias", false);
  spec.prefixes = {"transformer."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "word_embeddings.weight", {V, d}},
      {Slot::kFinalNormWeight, "ln_f.weight", {d}},
      {Slot::kFinalNormBias, "ln_f.bias", {d}},
      {Slot::kUnembedding, "lm_head.weight", {V, d}},
  };
  const auto add = [&](const std::string& name, Slot weight, Slot bias_slot, std::vector<std::int64_t> shape,
                       bool with_bias) {
    add_linear(spec, "h.{i}." + name, weight, bias_slot, std::move(shape), with_bias);
  };
  const std::string first = norms == 2 ? "ln_attn" : "input_layernorm";
  add(first, Slot::kAttentionNormWeight, Slot::kAttentionNormBias, {d}, true);
  if (!spec.shared_norm) {
    const std::string second = norms == 2 ? "ln_mlp" : "post_attention_layernorm";
    add(second, Slot::kMlpNormWeight, Slot::kMlpNormBias, {d}, true);
  }
  add("self_attention.query_key_value", Slot::kQkvWeight, Slot::kQkvBias, {fused, d}, bias);
  add("self_attention.dense", Slot::kAttentionOutWeight, Slot::kAttentionOutBias, {d, d}, bias);
  add("mlp.dense_h_to_4h", Slot::kMlpUpWeight, Slot::kMlpUpBias, {m, d}, bias);
  add("mlp.dense_4h_to_h", Slot::kMlpDownWeight, Slot::kMlpDownBias, {d, m}, bias);
  return spec;
}

}  // namespace depthlens::model
