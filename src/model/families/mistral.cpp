// Mistral: Llama with a sliding attention window. Within one window of tokens both are the same computation,
// so the window bounds how many positions depthlens gives the model at once.
#include <algorithm>

#include "family.hpp"

namespace depthlens::model {

ArchSpec read_mistral(const util::JsonView& config) {
  ArchSpec spec = read_llama_like(config, {});
  if (config.has("sliding_window"))
    spec.max_positions = std::min(spec.max_positions, read_size(config, "sliding_window"));
  return spec;
}

}  // namespace depthlens::model
