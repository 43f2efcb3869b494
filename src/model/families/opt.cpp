// OPT: learned positions with an offset of two, ReLU. Odd: the 350m model has its norms after each sum and no
// last one, and an embedding narrower than the stream, which is projected to it and back; a block's second
// norm is called `final_layer_norm` as the model's last one is.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_opt(const util::JsonView& config) {
  constexpr std::int64_t kOffset = 2;
  ArchSpec spec = read_stack_with_heads(config);
  spec.mlp_size = read_size(config, "ffn_dim");
  spec.max_positions = read_size(config, "max_position_embeddings", 2048);
  spec.position_offset = kOffset;
  const bool before = read_flag(config, "do_layer_norm_before", true);
  spec.norm_place = before ? NormPlace::kBefore : NormPlace::kOfSum;
  spec.final_norm = before && !read_flag(config, "_remove_final_layer_norm", false);
  spec.activation = read_activation(config, "activation_function", "relu");
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", true);
  const bool bias = read_flag(config, "enable_bias", true);
  const bool norm_weights = read_flag(config, "layer_norm_elementwise_affine", true);

  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size;
  const std::int64_t e = read_optional_size(config, "word_embed_proj_dim", {}).value_or(d);
  spec.prefixes = {"model.decoder.", "decoder."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "embed_tokens.weight", {V, e}},
      {Slot::kPositionEmbedding, "embed_positions.weight", {spec.max_positions + kOffset, d}},
      {Slot::kUnembedding, "lm_head.weight", {V, e}},
  };
  if (e != d) {
    spec.model_tensors.push_back({Slot::kEmbeddingProjection, "project_in.weight", {d, e}});
    spec.model_tensors.push_back({Slot::kOutputProjection, "project_out.weight", {e, d}});
  }
  if (spec.final_norm && norm_weights) {
    spec.model_tensors.push_back({Slot::kFinalNormWeight, "final_layer_norm.weight", {d}});
    spec.model_tensors.push_back({Slot::kFinalNormBias, "final_layer_norm.bias", {d}});
  }
  const auto add = [&](const std::string& name, Slot weight, Slot bias_slot, std::vector<std::int64_t> shape,
                       bool with_bias) {
    add_linear(spec, "layers.{i}." + name, weight, bias_slot, std::move(shape), with_bias);
  };
  if (norm_weights) {
    add("self_attn_layer_norm", Slot::kAttentionNormWeight, Slot::kAttentionNormBias, {d}, true);
    add("final_layer_norm", Slot::kMlpNormWeight, Slot::kMlpNormBias, {d}, true);
  }
  add("self_attn.q_proj", Slot::kQueryWeight, Slot::kQueryBias, {d, d}, bias);
  add("self_attn.k_proj", Slot::kKeyWeight, Slot::kKeyBias, {d, d}, bias);
  add("self_attn.v_proj", Slot::kValueWeight, Slot::kValueBias, {d, d}, bias);
  add("self_attn.out_proj", Slot::kAttentionOutWeight, Slot::kAttentionOutBias, {d, d}, bias);
  add("fc1", Slot::kMlpUpWeight, Slot::kMlpUpBias, {m, d}, bias);
  add("fc2", Slot::kMlpDownWeight, Slot::kMlpDownBias, {d, m}, bias);
  return spec;
}

}  // namespace depthlens::model
