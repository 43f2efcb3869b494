// StableLM: layer norms with biases, a quarter of each head rotated, and in some a parallel residual and
// norms of each head of queries and keys, every one with weights of its own.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_stablelm(const util::JsonView& config) {
  const bool bias = read_flag(config, "use_qkv_bias", false);
  const bool parallel = read_flag(config, "use_parallel_residual", false);
  LlamaLike parts = {.max_positions = 4096,
                     .kv_heads = 32,
                     .norm = NormKind::kLayerNorm,
                     .epsilon_key = "layer_norm_eps",
                     .epsilon = 1e-5,
                     .norm_bias = true,
                     .rope = {.class_share = 0.25, .null_share = {}},
                     .partial_rotary = true,
                     .qkv_bias = bias};
  if (parallel) parts.norms = {{Slot::kAttentionNormWeight, "input_layernorm"}};
  ArchSpec spec = read_llama_like(config, parts);
  spec.parallel_residual = spec.shared_norm = parallel;
  if (!read_flag(config, "qk_layernorm", false)) return spec;
  const auto add = [&](Slot slot, const std::string& name, std::int64_t heads) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = "layers.{i}.self_attn." + name + ".norms.{n}.weight",
                                  .shape = {spec.head_size},
                                  .stacked = heads});
  };
  add(Slot::kQueryNormWeight, "q_layernorm", spec.num_heads);
  add(Slot::kKeyNormWeight, "k_layernorm", spec.num_kv_heads);
  return spec;
}

}  // namespace depthlens::model
