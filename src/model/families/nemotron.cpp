// Nemotron 3 and 4, Minitron (layer norms of weight 1 + w, half of each head rotated) and Arcee: Llama with a
// plain MLP whose activation is the square of ReLU.
#include "family.hpp"

namespace depthlens::model {
namespace {

ArchSpec read_squared_relu(const util::JsonView& config, LlamaLike parts) {
  parts.max_positions = 4096;
  parts.epsilon = 1e-5;
  parts.activation = "relu2";
  parts.qkv_bias = parts.attention_out_bias = read_flag(config, "attention_bias", false);
  parts.dense_mlp = false;
  ArchSpec spec = read_llama_like(config, parts);
  add_plain_mlp(spec, {"up_proj", "down_proj"}, read_flag(config, "mlp_bias", false));
  return spec;
}

}  // namespace

ArchSpec read_arcee(const util::JsonView& config) {
  return read_squared_relu(config, {});
}

ArchSpec read_nemotron(const util::JsonView& config) {
  return read_squared_relu(config, {.norm = NormKind::kLayerNorm,
                                    .epsilon_key = "norm_eps",
                                    .norm_bias = true,
                                    .norms_less_one = true,
                                    .rope = {.class_share = 0.5, .null_share = {}},
                                    .partial_rotary = true});
}

}  // namespace depthlens::model
