// SmolLM 3: Llama whose every fourth block has no rotary positions. (SmolLM 1 and 2 are Llama.)
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_smollm3(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  const bool mlp_bias = read_flag(config, "mlp_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 32768,
                                           .kv_heads = 4,
                                           .tied_unembedding = true,
                                           .rope = {.class_theta = 2e6},
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .mlp_bias = mlp_bias});
  const std::vector<bool> rotates = rotating_blocks(config, spec.num_layers);
  rotate_only(spec, rotates);
  const bool used = read_flag(config, "use_sliding_window", false);
  const auto slides = sliding_blocks(config, spec.num_layers, [&](std::int64_t i) {
    return used && config.has("sliding_window") && !rotates[static_cast<std::size_t>(i)];
  });
  set_windows(spec, config, slides, {}, used);
  return spec;
}

}  // namespace depthlens::model
