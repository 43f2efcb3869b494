// MPT: ALiBi, layer norms without biases, no biases at all. Odd: the settings of attention are in a block of
// their own, which transformers reads in part: it adds ALiBi whatever they say, and always with slopes up to
// 2^-8. What the settings say of the slopes holds here; what would be another model is refused.
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

void read_attention(ArchSpec& spec, const util::JsonView& config) {
  AttentionSpec& attention = spec.attention;
  attention.position_bias = PositionBias::kSlopes;
  if (!config.has("attn_config")) return;
  const util::JsonView given = config.at("attn_config");
  if (!given.is_object()) given.fail("an object");
  require_value(given, "attn_type", "multihead_attention");
  require_value(given, "alibi", true);
  for (const char* key : {"prefix_lm", "attn_uses_sequence_id", "qk_ln", "qk_gn", "rope"})
    require_value(given, key, false);
  require_value(given, "sliding_window_size", -1);
  require_value(given, "attn_logit_softcapping", nullptr);
  if (given.has("softmax_scale")) attention.scale = read_number(given, "softmax_scale", attention.scale);
  attention.clip_projections = read_optional_number(given, "clip_qkv", {}).value_or(0);
  attention.position_bias_max = read_positive(given, "alibi_bias_max", attention.position_bias_max);
  constexpr double kOfTransformers = 8;
  if (attention.position_bias_max != kOfTransformers) {
    util::log_warning(util::cat(
        given.at("alibi_bias_max").where(), ": slopes go down to 2^-", attention.position_bias_max,
        ", as the settings say; transformers 5.24 does not read them and takes 2^-", kOfTransformers));
  }
}

}  // namespace

ArchSpec read_mpt(const util::JsonView& config) {
  ArchSpec spec = read_stack_with_heads(config, {.layers = {"n_layers", "num_hidden_layers"},
                                                 .hidden = {"d_model", "hidden_size"},
                                                 .heads = {"n_heads", "num_attention_heads"}});
  require_value(config, "expansion_ratio", 4);
  require_value(config, "no_bias", true);
  if (config.has("norm_type") && config.at("norm_type").raw() != "layernorm")
    require_value(config, "norm_type", "low_precision_layernorm");
  if (config.has("ffn_config")) require_value(config.at("ffn_config"), "ffn_type", "mptmlp");
  spec.mlp_size = 4 * spec.hidden_size;
  spec.max_positions = read_size(config, "max_seq_len", 2048);
  spec.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  read_attention(spec, config);
  spec.activation = Activation::kGelu;
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", true);

  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size;
  spec.prefixes = {"transformer."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "wte.weight", {V, d}},
      {Slot::kFinalNormWeight, "norm_f.weight", {d}},
      {Slot::kUnembedding, "lm_head.weight", {V, d}},
  };
  spec.block_tensors = {
      {Slot::kAttentionNormWeight, "blocks.{i}.norm_1.weight", {d}},
      {Slot::kAttentionOutWeight, "blocks.{i}.attn.out_proj.weight", {d, d}},
      {Slot::kMlpNormWeight, "blocks.{i}.norm_2.weight", {d}},
      {Slot::kMlpUpWeight, "blocks.{i}.ffn.up_proj.weight", {m, d}},
      {Slot::kMlpDownWeight, "blocks.{i}.ffn.down_proj.weight", {d, m}},
  };
  add_rows_of(spec, {.slot = Slot::kQueryWeight, .name = "blocks.{i}.attn.Wqkv.weight", .shape = {3 * d, d}},
              {{Slot::kQueryWeight, d}, {Slot::kKeyWeight, d}, {Slot::kValueWeight, d}});
  return spec;
}

}  // namespace depthlens::model
