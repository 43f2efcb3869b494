// Nemotron 3 and 4, Minitron (layer norms of weight 1 + w, half of each head rotated), Jais 2 (layer norms,
// biases) and Arcee: Llama with a plain MLP whose activation is the square of ReLU.
#include "family.hpp"

namespace depthlens::model {
namespace {

ArchSpec read_squared_relu(const util::JsonView& config, LlamaLike parts, bool class_bias = false) {
  parts.epsilon = 1e-5;
  parts.activation = "relu2";
  parts.qkv_bias = parts.attention_out_bias = read_flag(config, "attention_bias", class_bias);
  parts.dense_mlp = false;
  ArchSpec spec = read_llama_like(config, parts);
  add_plain_mlp(spec, {"up_proj", "down_proj"}, read_flag(config, "mlp_bias", class_bias));
  return spec;
}

}  // namespace

ArchSpec read_arcee(const util::JsonView& config) {
  return read_squared_relu(config, {.max_positions = 4096});
}

ArchSpec read_jais2(const util::JsonView& config) {
  return read_squared_relu(config,
                           {.max_positions = 8192,
                            .norm = NormKind::kLayerNorm,
                            .epsilon_key = "layer_norm_eps",
                            .norm_bias = true},
                           /*class_bias=*/true);
}

ArchSpec read_nemotron(const util::JsonView& config) {
  return read_squared_relu(config, {.max_positions = 4096,
                                    .norm = NormKind::kLayerNorm,
                                    .epsilon_key = "norm_eps",
                                    .norm_bias = true,
                                    .norms_less_one = true,
                                    .rope = {.class_share = 0.5, .null_share = {}},
                                    .partial_rotary = true});
}

}  // namespace depthlens::model
