// EXAONE 4: norms of what attention and MLP put out, and of each head of queries and keys. Odd: where there
// are windows, only the blocks that slide have rotary positions; without windows all have.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_exaone4(const util::JsonView& config) {
  ArchSpec spec =
      read_llama_like(config, {.max_positions = 2048,
                               .kv_heads = 32,
                               .epsilon = 1e-5,
                               .norms = {{Slot::kAttentionOutNormWeight, "post_attention_layernorm"},
                                         {Slot::kMlpOutNormWeight, "post_feedforward_layernorm"}},
                               .query_key_norm = true});
  spec.norm_place = NormPlace::kAfter;
  constexpr std::int64_t kClassWindow = 4096;
  const bool used = read_window(config, kClassWindow).has_value();
  // A pattern in letters is only repeated by layer_types, which then must be there.
  const bool by_number = used && !config.has("layer_types");
  const std::int64_t pattern = by_number ? read_size(config, "sliding_window_pattern", 4) : 1;
  const auto slides =
      sliding_blocks(config, spec.num_layers, [&](std::int64_t i) { return (i + 1) % pattern != 0; });
  set_windows(spec, config, slides, kClassWindow, used);
  if (used) rotate_only(spec, slides);
  return spec;
}

}  // namespace depthlens::model
