// Cohere 1 and 2 (Command R, Aya): parallel residual through one layer norm without bias, interleaved rotary
// pairs, scaled logits. Odd: in Cohere 2 only the sliding blocks have rotary positions.
#include "family.hpp"

namespace depthlens::model {
namespace {

ArchSpec read_parallel(const util::JsonView& config, double class_theta) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 8192,
                                           .tied_unembedding = true,
                                           .norm = NormKind::kLayerNorm,
                                           .epsilon_key = "layer_norm_eps",
                                           .epsilon = 1e-5,
                                           .norms = {{Slot::kAttentionNormWeight, "input_layernorm"}},
                                           .rope = {.class_theta = class_theta, .interleaved = true},
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias});
  spec.parallel_residual = spec.shared_norm = true;
  spec.logit_transform.scale = read_number(config, "logit_scale", 0.0625);
  return spec;
}

}  // namespace

ArchSpec read_cohere(const util::JsonView& config) {
  ArchSpec spec = read_parallel(config, 5e5);
  if (!read_flag(config, "use_qk_norm", false)) return spec;
  spec.block_tensors.push_back(
      {Slot::kQueryNormWeight, "layers.{i}.self_attn.q_norm.weight", {spec.num_heads, spec.head_size}});
  spec.block_tensors.push_back(
      {Slot::kKeyNormWeight, "layers.{i}.self_attn.k_norm.weight", {spec.num_kv_heads, spec.head_size}});
  return spec;
}

ArchSpec read_cohere2(const util::JsonView& config) {
  ArchSpec spec = read_parallel(config, 1e4);
  const std::int64_t pattern = read_size(config, "sliding_window_pattern", 4);
  const auto slides =
      sliding_blocks(config, spec.num_layers, [&](std::int64_t i) { return (i + 1) % pattern != 0; });
  set_windows(spec, config, slides, 4096);
  rotate_only(spec, slides);
  return spec;
}

}  // namespace depthlens::model
