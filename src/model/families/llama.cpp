// Llama 2 and 3.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_llama(const util::JsonView& config) {
  const bool attention_bias = read_flag(config, "attention_bias", false);
  return read_llama_like(config, {.max_positions = 2048,
                                  .qkv_bias = attention_bias,
                                  .attention_out_bias = attention_bias,
                                  .mlp_bias = read_flag(config, "mlp_bias", false)});
}

}  // namespace depthlens::model
