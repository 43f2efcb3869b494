// XGLM and BioGPT: a scaled embedding, positions that begin with the third row, layer norms, biases, a plain
// MLP; XGLM's positions are sines and cosines, BioGPT's learned. Odd: the epsilon of the norms is always the
// same, and a block's second norm is called `final_layer_norm`.
#include <cmath>

#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

constexpr std::int64_t kOffset = 2;

/// All behind the sizes, the MLP's included, and the activation.
void add_parts(ArchSpec& spec, const util::JsonView& config, const std::string& unembedding) {
  spec.position_offset = kOffset;
  spec.norm_epsilon = 1e-5;
  if (read_flag(config, "scale_embedding", true))
    spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden_size));
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", true);
  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size;
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "embed_tokens.weight", {V, d}},
      {Slot::kFinalNormWeight, "layer_norm.weight", {d}},
      {Slot::kFinalNormBias, "layer_norm.bias", {d}},
      {Slot::kUnembedding, unembedding, {V, d}},
  };
  const auto add = [&](const std::string& name, Slot weight, Slot bias, std::vector<std::int64_t> shape) {
    add_linear(spec, "layers.{i}." + name, weight, bias, std::move(shape), /*with_bias=*/true);
  };
  add("self_attn_layer_norm", Slot::kAttentionNormWeight, Slot::kAttentionNormBias, {d});
  add("final_layer_norm", Slot::kMlpNormWeight, Slot::kMlpNormBias, {d});
  add_attention(spec, {.out = "out_proj", .qkv_bias = true, .out_bias = true});
  add("fc1", Slot::kMlpUpWeight, Slot::kMlpUpBias, {m, d});
  add("fc2", Slot::kMlpDownWeight, Slot::kMlpDownBias, {d, m});
}

}  // namespace

ArchSpec read_xglm(const util::JsonView& config) {
  ArchSpec spec = read_stack_with_heads(config, {.layers = {"num_layers", "num_hidden_layers"},
                                                 .hidden = {"d_model", "hidden_size"},
                                                 .heads = {"attention_heads", "num_attention_heads"}});
  spec.mlp_size = read_size(config, "ffn_dim");
  spec.max_positions = read_size(config, "max_position_embeddings", 2048);
  spec.activation = read_activation(config, "activation_function", "gelu");
  spec.sinusoidal_positions = true;
  constexpr std::int64_t kMinSize = 4;  // of which the frequencies are two
  if (spec.hidden_size < kMinSize)
    config.at(name_of_size(config, "d_model", "hidden_size")).fail("at least 4");
  // transformers puts zeros into the row of the padding token.
  if (const auto padding = find_key(config, "pad_token_id"); padding && !padding->is_null())
    padding->as_integer(0, kOffset - 1);
  spec.prefixes = {"model."};
  add_parts(spec, config, "lm_head.weight");
  spec.ignorable = {"embed_positions.weights"};
  return spec;
}

ArchSpec read_biogpt(const util::JsonView& config) {
  ArchSpec spec = read_stack_with_heads(config);
  spec.mlp_size = read_size(config, "intermediate_size");
  spec.max_positions = read_size(config, "max_position_embeddings", 1024);
  spec.activation = read_activation(config, "hidden_act", "gelu");
  constexpr double kClassEpsilon = 1e-12;
  tell_unused(config, "layer_norm_eps", kClassEpsilon, "the epsilon of the norms is 1e-05");
  spec.prefixes = {"biogpt."};
  add_parts(spec, config, "output_projection.weight");
  spec.model_tensors.push_back(
      {Slot::kPositionEmbedding, "embed_positions.weight", {spec.max_positions + kOffset, spec.hidden_size}});
  return spec;
}

}  // namespace depthlens::model
