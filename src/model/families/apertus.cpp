// Apertus: Llama with norms of each head and a plain MLP whose activation, xIELU, has numbers of each block's
// own. Odd: without rotary settings it has those of Llama 3, with another base.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_apertus(const util::JsonView& config) {
  constexpr double kTheta = 12e6;
  const util::Json whole = with_rope_parameters(config, {{"rope_type", "llama3"},
                                                         {"rope_theta", kTheta},
                                                         {"factor", 8.0},
                                                         {"original_max_position_embeddings", 8192},
                                                         {"low_freq_factor", 1.0},
                                                         {"high_freq_factor", 4.0}});
  const bool bias = read_flag(config, "attention_bias", false);
  require_value(config, "mlp_bias", false);
  ArchSpec spec =
      read_llama_like({whole, config.where()}, {.max_positions = 65536,
                                                .epsilon = 1e-5,
                                                .norms = {{Slot::kAttentionNormWeight, "attention_layernorm"},
                                                          {Slot::kMlpNormWeight, "feedforward_layernorm"}},
                                                .activation = "xielu",
                                                .rope = {.class_theta = kTheta},
                                                .qkv_bias = bias,
                                                .attention_out_bias = bias,
                                                .query_key_norm = true,
                                                .dense_mlp = false});
  require_value(config, "qk_norm", true);
  require_value(config, "post_norm", false);
  add_plain_mlp(spec, {"up_proj", "down_proj"}, /*bias=*/false);
  if (spec.activation != Activation::kXielu) return spec;
  const std::string stem = "layers.{i}.mlp.act_fn.";
  spec.block_tensors.push_back({Slot::kXieluAbove, stem + "alpha_p", {1}});
  spec.block_tensors.push_back({Slot::kXieluBelow, stem + "alpha_n", {1}});
  spec.block_tensors.push_back({Slot::kXieluSlope, stem + "beta", {}});
  spec.block_tensors.push_back({Slot::kXieluLimit, stem + "eps", {}});
  return spec;
}

}  // namespace depthlens::model
