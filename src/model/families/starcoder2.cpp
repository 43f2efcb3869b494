// StarCoder 2: Llama with layer norms, biases everywhere and a plain MLP, whose windows all blocks have.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_starcoder2(const util::JsonView& config) {
  const bool bias = read_flag(config, "use_bias", true);
  ArchSpec spec = read_llama_like(config, {.max_positions = 4096,
                                           .kv_heads = 2,
                                           .tied_unembedding = true,
                                           .norm = NormKind::kLayerNorm,
                                           .epsilon_key = "norm_epsilon",
                                           .epsilon = 1e-5,
                                           .norm_bias = true,
                                           .activation = "gelu_pytorch_tanh",
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .dense_mlp = false});
  add_plain_mlp(spec, {"c_fc", "c_proj"}, bias);
  set_one_window(spec, read_window(config, {}));
  return spec;
}

}  // namespace depthlens::model
