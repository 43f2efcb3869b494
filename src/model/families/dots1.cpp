// dots.llm1: Qwen 3's attention, experts of GLM 4.5. Odd: weights of experts are not shared out where the
// config does not say so, and blocks from `max_window_layers` on have windows.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_dots1(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 2048,
                                           .kv_heads = 32,
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .query_key_norm = true,
                                           .dense_mlp = false});
  require_value(config, "moe_layer_freq", 1);
  set_first_dense(spec, read_size(config, "first_k_dense_replace", 0, /*lowest=*/0));
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  // The class has no sizes of experts.
  read_size(config, name_of_size(config, "n_routed_experts", "num_local_experts"));
  for (const char* key : {"num_experts_per_tok", "n_shared_experts"}) read_size(config, key);
  add_logistic_experts(
      spec, config,
      {.mlp_size = 1408, .weighting = ExpertSpec::Weighting::kLogistic, .groups = 1, .chosen_groups = 1});
  constexpr std::int64_t kClassWindow = 4096;
  const bool windows = read_window(config, kClassWindow).has_value();
  const std::int64_t first = windows ? read_size(config, "max_window_layers", 62, /*lowest=*/0) : 0;
  set_windows(spec, config,
              sliding_blocks(config, spec.num_layers, [&](std::int64_t i) { return windows && i >= first; }),
              kClassWindow);
  return spec;
}

}  // namespace depthlens::model
