// Qwen 2 and 2.5 (biases on queries, keys and values) and Qwen 3 (norms on queries and keys of each head).
// Odd: the blocks from `max_window_layers` on, or those that `layer_types` names, can have sliding attention
// windows.
#include <algorithm>

#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

/// Of each block, whether it has a sliding window, by `layer_types`.
std::vector<bool> sliding_blocks(const util::JsonView& types, std::int64_t num_layers, bool has_window) {
  if (!types.is_array() || static_cast<std::int64_t>(types.size()) != num_layers)
    types.fail(util::cat("an array of ", num_layers, " values, one a block"));
  std::vector<bool> slides;
  for (std::size_t i = 0; i < types.size(); ++i) {
    const std::string type = types.at(i).as_string();
    slides.push_back(type == "sliding_attention");
    if (slides.back() && !has_window)
      types.at(i).fail("full_attention, since the config has no sliding window (use_sliding_window)");
    if (!slides.back() && type != "full_attention") types.at(i).fail("full_attention or sliding_attention");
  }
  return slides;
}

ArchSpec with_sliding_windows(ArchSpec spec, const util::JsonView& config) {
  const bool used = read_flag(config, "use_sliding_window", false);
  const auto given = read_optional_size(config, "sliding_window", 4096);
  const std::int64_t window = used ? given.value_or(0) : 0;
  const std::int64_t first =
      std::min(read_size(config, "max_window_layers", 28, /*lowest=*/0), spec.num_layers);
  std::vector<bool> slides(static_cast<std::size_t>(spec.num_layers), false);
  if (window > 0) std::fill(slides.begin() + first, slides.end(), true);
  if (config.has("layer_types")) {
    const std::vector<bool> by_type = sliding_blocks(config.at("layer_types"), spec.num_layers, window > 0);
    if (by_type != slides)
      tell_unused(config, "max_window_layers", nullptr, "layer_types says which blocks have windows");
    slides = by_type;
  }
  if (std::find(slides.begin(), slides.end(), true) == slides.end()) return spec;
  for (const bool block : slides) spec.attention_windows.push_back(block ? window : 0);
  return spec;
}

}  // namespace

ArchSpec read_qwen2(const util::JsonView& config) {
  return with_sliding_windows(
      read_llama_like(config, {.max_positions = 32768, .kv_heads = 32, .qkv_bias = true}), config);
}

ArchSpec read_qwen3(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  return with_sliding_windows(read_llama_like(config, {.max_positions = 32768,
                                                       .kv_heads = 32,
                                                       .head_size = 128,
                                                       .qkv_bias = bias,
                                                       .attention_out_bias = bias,
                                                       .query_key_norm = true}),
                              config);
}

}  // namespace depthlens::model
