// SmolLM 3: Llama whose every fourth block has no rotary positions. (SmolLM 1 and 2 are Llama.)
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_smollm3(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 32768,
                                           .kv_heads = 4,
                                           .tied_unembedding = true,
                                           .rope = {.class_theta = 2e6},
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .mlp_bias = read_flag(config, "mlp_bias", false)});
  const std::int64_t interval = read_size(config, "no_rope_layer_interval", 4);
  std::vector<bool> rotates;
  for (std::int64_t i = 0; i < spec.num_layers; ++i) rotates.push_back((i + 1) % interval != 0);
  if (config.has("no_rope_layers")) {  // 1: it has them
    const util::JsonView list = config.at("no_rope_layers");
    if (!list.is_array() || static_cast<std::int64_t>(list.size()) != spec.num_layers)
      list.fail("an array with a 0 or 1 for each block");
    for (std::size_t i = 0; i < list.size(); ++i) rotates[i] = list.at(i).as_integer(0, 1) == 1;
  }
  for (std::size_t i = 0; i < rotates.size(); ++i) {
    if (!rotates[i]) spec.blocks[i].rope = BlockSpec::kNoRope;
  }
  const bool used = read_flag(config, "use_sliding_window", false);
  const auto slides = sliding_blocks(config, spec.num_layers, [&](std::int64_t i) {
    return used && config.has("sliding_window") && !rotates[static_cast<std::size_t>(i)];
  });
  set_windows(spec, config, slides, {}, used);
  return spec;
}

}  // namespace depthlens::model
