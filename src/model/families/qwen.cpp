// Qwen 2 and 2.5 (biases on queries, keys and values) and Qwen 3 (norms on queries and keys of each head).
#include <algorithm>

#include "family.hpp"

namespace depthlens::model {
namespace {

/// Layers with a sliding window, where the config asks for them: they bound the positions given at once.
ArchSpec with_sliding_window(ArchSpec spec, const util::JsonView& config) {
  if (config.get_bool("use_sliding_window", false) && config.has("sliding_window")) {
    spec.max_positions = std::min(spec.max_positions, read_size(config, "sliding_window"));
  }
  return spec;
}

}  // namespace

ArchSpec read_qwen2(const util::JsonView& config) {
  return with_sliding_window(read_llama_like(config, {.qkv_bias = true}), config);
}

ArchSpec read_qwen3(const util::JsonView& config) {
  const bool bias = config.get_bool("attention_bias", false);
  return with_sliding_window(
      read_llama_like(config, {.qkv_bias = bias, .attention_out_bias = bias, .query_key_norm = true}),
      config);
}

}  // namespace depthlens::model
