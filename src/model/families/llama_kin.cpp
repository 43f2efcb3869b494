// Families that are Llama but for what their configs leave out, biases, and which values a pair is of: Ernie
// 4.5 (without experts), Helium, Seed-OSS.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_ernie4_5(const util::JsonView& config) {
  tell_unused(config, "compression_ratio", 1.0, "positions are not divided");
  const util::Json whole = with_class_defaults(config, {{"head_dim", 128}});
  const bool bias = read_flag(config, "use_bias", false);
  return read_llama_like({whole, config.where()}, {.max_positions = 131072,
                                                   .kv_heads = 2,
                                                   .tied_unembedding = true,
                                                   .epsilon = 1e-5,
                                                   .rope = {.class_theta = 5e5, .interleaved = true},
                                                   .qkv_bias = bias,
                                                   .attention_out_bias = bias,
                                                   .mlp_bias = bias});
}

ArchSpec read_helium(const util::JsonView& config) {
  return read_llama_like(config, {.max_positions = 4096,
                                  .kv_heads = 20,
                                  .head_size = 128,
                                  .epsilon = 1e-8,
                                  .rope = {.class_theta = 1e5, .interleaved = true},
                                  .qkv_bias = read_flag(config, "attention_bias", false),
                                  .mlp_bias = read_flag(config, "mlp_bias", false)});
}

ArchSpec read_seed_oss(const util::JsonView& config) {
  const util::Json whole = with_class_defaults(config, {{"head_dim", 128}});
  return read_llama_like({whole, config.where()},
                         {.max_positions = 524288,
                          .kv_heads = 8,
                          .qkv_bias = read_flag(config, "attention_bias", true),
                          .attention_out_bias = read_flag(config, "attention_out_bias", false),
                          .mlp_bias = read_flag(config, "mlp_bias", false)});
}

}  // namespace depthlens::model
