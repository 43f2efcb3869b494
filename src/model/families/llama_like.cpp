#include "llama_like.hpp"

#include "blocks.hpp"
#include "config_keys.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "rules.hpp"

namespace depthlens::model {
namespace {

RopeSpec read_llama_rope(const util::JsonView& config, const ArchSpec& spec, const LlamaLike& parts) {
  if (!parts.partial_rotary) require_value(config, "partial_rotary_factor", 1.0);
  RopeSpec rope = read_rope(config, spec, parts.rope);
  if (parts.partial_rotary || rope.dims == spec.head_size) return rope;
  throw util::format_error({.what = "unsupported setting 'partial_rotary_factor' of the model",
                            .where = config.where(),
                            .expected = "heads that are rotated whole",
                            .found = util::cat(rope.dims, " of ", spec.head_size, " values")});
}

}  // namespace

ArchSpec read_llama_like(const util::JsonView& config, const LlamaLike& parts) {
  ArchSpec spec = read_stack(config);
  spec.num_kv_heads =
      read_optional_size(config, "num_key_value_heads", parts.kv_heads).value_or(spec.num_heads);
  require_divides(config, "num_key_value_heads", spec.num_kv_heads, "num_attention_heads", spec.num_heads);
  const auto head_size = parts.head_size ? read_size(config, "head_dim", *parts.head_size)
                                         : read_optional_size(config, "head_dim", {});
  set_head_size(spec, head_size ? *head_size : head_size_of(config, spec, "num_attention_heads"));
  spec.mlp_size = parts.mlp_size_key.empty() ? 0 : read_size(config, parts.mlp_size_key);
  spec.max_positions = read_size(config, "max_position_embeddings", parts.max_positions);
  spec.norm = parts.norm;
  spec.norm_epsilon =
      parts.epsilon_key.empty() ? parts.epsilon : read_epsilon(config, parts.epsilon_key, parts.epsilon);
  if (!parts.own_rope) set_rope(spec, read_llama_rope(config, spec, parts));
  spec.gated_mlp = true;
  spec.activation = read_activation(config, parts.activation_key, parts.activation);
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", parts.tied_unembedding);

  const std::int64_t d = spec.hidden_size, V = spec.vocab_size;
  spec.prefixes = {"model."};
  spec.model_tensors = {{Slot::kTokenEmbedding, "embed_tokens.weight", {V, d}},
                        {Slot::kUnembedding, "lm_head.weight", {V, d}}};
  const auto add_norm = [&](std::vector<TensorRule>& rules, Slot slot, const std::string& name) {
    rules.push_back({.slot = slot, .name = name, .shape = {d}, .less_one = parts.norms_less_one});
  };
  if (parts.final_norm_weight) add_norm(spec.model_tensors, Slot::kFinalNormWeight, "norm.weight");
  if (parts.norm_bias) spec.model_tensors.push_back({Slot::kFinalNormBias, "norm.bias", {d}});
  for (const auto& [slot, name] : parts.norms) {
    add_norm(spec.block_tensors, slot, "layers.{i}." + name + ".weight");
    if (!parts.norm_bias) continue;
    const Slot bias = slot == Slot::kAttentionNormWeight ? Slot::kAttentionNormBias : Slot::kMlpNormBias;
    spec.block_tensors.push_back({bias, "layers.{i}." + name + ".bias", {d}});
  }
  if (parts.attention) {
    add_attention(spec, {.out = parts.attention_out,
                         .query_norm = parts.query_key_norm ? "q_norm" : "",
                         .key_norm = parts.query_key_norm ? "k_norm" : "",
                         .norms_less_one = parts.norms_less_one,
                         .qkv = parts.qkv,
                         .qkv_bias = parts.qkv_bias,
                         .out_bias = parts.attention_out_bias,
                         .mixer = parts.mixer});
  }
  if (parts.dense_mlp) add_gated_mlp(spec, {.stem = parts.mlp_stem, .bias = parts.mlp_bias});
  spec.ignorable = {"layers.{i}.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"};
  return spec;
}

}  // namespace depthlens::model
