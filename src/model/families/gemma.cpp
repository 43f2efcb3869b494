// Gemma 1, 2 and 3, VaultGemma: norms whose weight is 1 + w, a scaled embedding, tied unembedding. Gemma 2
// has norms on both sides of a branch, soft caps and a sliding window in every second block; Gemma 3 norms on
// queries and keys, five sliding blocks to a full one, and rotary settings of their own for each kind. Odd:
// in Gemma 2 and 3 `post_attention_layernorm` is the norm of attention's output.
#include <cmath>

#include "family.hpp"

namespace depthlens::model {
namespace {

LlamaLike gemma_parts(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  return {.tied_unembedding = true, .norms_less_one = true, .qkv_bias = bias, .attention_out_bias = bias};
}

ArchSpec with_scaled_embedding(ArchSpec spec) {
  spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden_size));
  spec.rounds_embedding_scale = true;
  return spec;
}

/// What Gemma 2 and 3 share, with norms before the branches or also behind them. All sizes have defaults:
/// published configs of Gemma 3 leave most of them out.
ArchSpec read_later_gemma(const util::JsonView& config, LlamaLike parts, NormPlace place) {
  parts.norms = {{Slot::kAttentionNormWeight, "input_layernorm"},
                 {Slot::kMlpNormWeight, "pre_feedforward_layernorm"}};
  if (place == NormPlace::kBeforeAndAfter) {
    parts.norms.emplace_back(Slot::kAttentionOutNormWeight, "post_attention_layernorm");
    parts.norms.emplace_back(Slot::kMlpOutNormWeight, "post_feedforward_layernorm");
  }
  parts.activation_key = "hidden_activation";
  ArchSpec spec = with_scaled_embedding(read_llama_like(config, parts));
  spec.norm_place = place;
  spec.attention.scale = 1 / std::sqrt(static_cast<double>(read_size(config, "query_pre_attn_scalar")));
  spec.logit_transform.soft_cap = read_optional_number(config, "final_logit_softcapping", {}).value_or(0);
  return spec;
}

const util::Json& common_defaults() {
  static const util::Json all = {{"hidden_size", 2304},
                                 {"intermediate_size", 9216},
                                 {"num_hidden_layers", 26},
                                 {"num_attention_heads", 8},
                                 {"num_key_value_heads", 4},
                                 {"head_dim", 256},
                                 {"hidden_activation", "gelu_pytorch_tanh"},
                                 {"query_pre_attn_scalar", 256},
                                 {"sliding_window", 4096}};
  return all;
}

util::Json with_defaults(const util::JsonView& config, const util::Json& own) {
  util::Json defaults = common_defaults();
  defaults.update(own);
  return with_class_defaults(config, defaults);
}

ArchSpec read_like_gemma2(const util::JsonView& config, NormPlace place) {
  const util::Json whole = with_defaults(
      config, {{"vocab_size", 256000}, {"final_logit_softcapping", 30.0}, {"attn_logit_softcapping", 50.0}});
  const util::JsonView filled(whole, config.where());
  LlamaLike parts = gemma_parts(config);
  parts.max_positions = 8192;
  parts.head_size = 256;
  ArchSpec spec = read_later_gemma(filled, parts, place);
  spec.attention.soft_cap = read_optional_number(filled, "attn_logit_softcapping", {}).value_or(0);
  set_windows(spec, filled,
              sliding_blocks(config, spec.num_layers, [](std::int64_t i) { return i % 2 == 0; }), {});
  return spec;
}

}  // namespace

ArchSpec read_gemma(const util::JsonView& config) {
  // "gelu" in the first published configs means the tanh form, and hidden_activation is not read.
  util::Json whole = with_class_defaults(config, {{"head_dim", 256}, {"hidden_act", "gelu_pytorch_tanh"}});
  if (whole.at("hidden_act") == "gelu") whole["hidden_act"] = "gelu_pytorch_tanh";
  LlamaLike parts = gemma_parts(config);
  parts.max_positions = 8192;
  parts.kv_heads = 16;
  parts.head_size = 256;
  return with_scaled_embedding(read_llama_like({whole, config.where()}, parts));
}

ArchSpec read_gemma2(const util::JsonView& config) {
  return read_like_gemma2(config, NormPlace::kBeforeAndAfter);
}

// Gemma 2 without norms behind the branches.
ArchSpec read_vaultgemma(const util::JsonView& config) {
  return read_like_gemma2(config, NormPlace::kBefore);
}

ArchSpec read_gemma3(const util::JsonView& config) {
  const util::Json whole = with_defaults(config, {{"vocab_size", 262208}});
  const util::JsonView filled(whole, config.where());
  const std::int64_t pattern = read_size(config, "sliding_window_pattern", 6);
  LlamaLike parts = gemma_parts(config);
  parts.max_positions = 131072;
  parts.head_size = 256;
  parts.query_key_norm = true;
  parts.own_rope = true;
  ArchSpec spec = read_later_gemma(filled, parts, NormPlace::kBeforeAndAfter);
  const auto slides =
      sliding_blocks(config, spec.num_layers, [&](std::int64_t i) { return (i + 1) % pattern != 0; });
  set_windows(spec, filled, slides, {});
  set_ropes_by_kind(spec, config, slides, {.class_theta = 1e6},
                    {.theta = "rope_local_base_freq", .class_theta = 1e4});
  return spec;
}

}  // namespace depthlens::model
