// Llama 2 and 3.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_llama(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  const bool mlp_bias = read_flag(config, "mlp_bias", false);
  return read_llama_like(
      config, {.max_positions = 2048, .qkv_bias = bias, .attention_out_bias = bias, .mlp_bias = mlp_bias});
}

}  // namespace depthlens::model
