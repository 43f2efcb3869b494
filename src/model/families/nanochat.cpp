// nanochat: norms without weights, also behind the embedding and of queries and keys behind the rotation, a
// plain MLP with ReLU squared, a soft cap of the logits. Odd: pairs turn the other way than in all others.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_nanochat(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 2048,
                                           .norms = {},
                                           .final_norm_weight = false,
                                           .activation = "relu2",
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .dense_mlp = false});
  for (RopeSpec& rope : spec.ropes) rope.backwards = true;
  spec.attention.norm_of_rotated = true;
  spec.embedding_norm = true;
  spec.logit_transform.soft_cap = read_optional_number(config, "final_logit_softcapping", 15).value_or(0);
  add_plain_mlp(spec, {.up = "fc1", .down = "fc2"}, /*bias=*/false);
  return spec;
}

}  // namespace depthlens::model
