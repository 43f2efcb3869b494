// MiniMax M2: norms over whole projections, part of a head rotated, experts by logistic scores and a bias in
// all blocks. Odd: the rotated part is published as `rotary_dim`, a number of values.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_minimax_m2(const util::JsonView& config) {
  require_value(config, "use_qk_norm", true);
  require_value(config, "qk_norm_type", "per_layer");
  require_value(config, "use_routing_bias", true);
  require_value(config, "shared_intermediate_size", 0);
  require_value(config, "attention_bias", false);
  tell_unused(config, "scoring_func", "sigmoid", "scores of the router are sigmoid");
  if (config.has("attn_type_list")) {
    const util::JsonView list = config.at("attn_type_list");
    if (!list.is_array()) list.fail("an array of kinds of attention");
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (list.at(i).raw() != 1) list.at(i).fail("1, full attention");
    }
  }
  util::Json whole = config.raw();
  // null is a share: that of the whole head.
  if (config.has("rotary_dim") && !config.raw().contains("partial_rotary_factor")) {
    whole["partial_rotary_factor"] = static_cast<double>(read_size(config, "rotary_dim")) /
                                     static_cast<double>(read_size(config, "head_dim", 128));
  }
  ArchSpec spec = read_llama_like({whole, config.where()}, {.max_positions = 196608,
                                                            .kv_heads = 8,
                                                            .head_size = 128,
                                                            .rope = {.class_theta = 5e6},
                                                            .partial_rotary = true,
                                                            .dense_mlp = false});
  add_norms_of_projections(spec);
  const std::string count = name_of_size(config, "num_local_experts", "num_experts");
  spec.experts = {.count = read_size(config, count, 256),
                  .chosen = read_size(config, "num_experts_per_tok", 8),
                  .mlp_size = spec.mlp_size,
                  .weighting = ExpertSpec::Weighting::kLogisticShares};
  check_experts(config, spec);
  add_experts_of_mixtral(spec, /*router_bias=*/true);
  return spec;
}

}  // namespace depthlens::model
