// Granite: Llama with a factor at the embedding, the scores, what is added to the stream, and the logits.
// Odd: the factor of the scores is 1 where the config does not say.
#include "family.hpp"

namespace depthlens::model {

void set_granite_factors(ArchSpec& spec, const util::JsonView& config) {
  spec.embedding_scale = read_number(config, "embedding_multiplier", 1);
  spec.attention.scale = read_positive(config, "attention_multiplier", 1);
  spec.residual_scale = read_number(config, "residual_multiplier", 1);
  spec.logit_transform.scale = 1 / read_positive(config, "logits_scaling", 1);
}

ArchSpec read_granite(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  const bool mlp_bias = read_flag(config, "mlp_bias", false);
  ArchSpec spec = read_llama_like(
      config, {.max_positions = 2048, .qkv_bias = bias, .attention_out_bias = bias, .mlp_bias = mlp_bias});
  set_granite_factors(spec, config);
  return spec;
}

}  // namespace depthlens::model
