// Mistral: Llama with a sliding attention window. Odd: a config without `sliding_window` has one of 4,096,
// and only null means none.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_mistral(const util::JsonView& config) {
  ArchSpec spec = read_llama_like(config, {.max_positions = 131072, .kv_heads = 8});
  if (const auto window = read_optional_size(config, "sliding_window", 4096))
    spec.attention_windows.assign(static_cast<std::size_t>(spec.num_layers), *window);
  return spec;
}

}  // namespace depthlens::model
