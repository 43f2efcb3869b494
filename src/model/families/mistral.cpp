// Mistral, Ministral and Mixtral: Llama with a sliding attention window, and with experts. Odd: a config of
// Mistral's without `sliding_window` has one of 4,096, and only null means none.
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_mistral(const util::JsonView& config) {
  ArchSpec spec = read_llama_like(config, {.max_positions = 131072, .kv_heads = 8});
  set_one_window(spec, read_window(config, 4096));
  return spec;
}

ArchSpec read_mixtral(const util::JsonView& config) {
  ArchSpec spec = read_llama_like(config, {.max_positions = 131072,
                                           .kv_heads = 8,
                                           .epsilon = 1e-5,
                                           .rope = {.class_theta = 1e6},
                                           .dense_mlp = false});
  set_one_window(spec, read_window(config, {}));
  const std::string count = name_of_size(config, "num_local_experts", "num_experts");
  spec.experts = {.count = read_size(config, count, 8),
                  .chosen = read_size(config, "num_experts_per_tok", 2),
                  .mlp_size = spec.mlp_size,
                  .weighting = ExpertSpec::Weighting::kShares};
  check_experts(config, spec);
  add_experts_of_mixtral(spec);
  return spec;
}

ArchSpec read_ministral(const util::JsonView& config) {
  ArchSpec spec = read_llama_like(config, {.max_positions = 131072, .kv_heads = 8});
  const bool slides = read_window(config, 4096).has_value();
  set_windows(spec, config, sliding_blocks(config, spec.num_layers, [&](std::int64_t) { return slides; }),
              4096);
  return spec;
}

void set_query_growth(ArchSpec& spec, const util::JsonView& config) {
  const util::JsonView rope = rope_block(config);
  spec.attention.query_growth = rope.at("llama_4_scaling_beta").as_number();
  // Scalings without such a length refuse it in their block.
  const double length = spec.ropes.empty() ? 0 : spec.ropes.front().original_max_positions;
  spec.attention.query_growth_length = length > 0 ? length : static_cast<double>(spec.max_positions);
  if (!(spec.attention.query_growth_length >= 1)) rope.fail("original_max_position_embeddings of at least 1");
}

// Ministral 3: queries grow with the logarithm of their position.
ArchSpec read_ministral3(const util::JsonView& config) {
  const util::Json whole = with_rope_parameters(config, {{"type", "yarn"},
                                                         {"rope_theta", 1e6},
                                                         {"factor", 16.0},
                                                         {"original_max_position_embeddings", 16384},
                                                         {"beta_fast", 32.0},
                                                         {"beta_slow", 1.0},
                                                         {"mscale_all_dim", 1.0},
                                                         {"mscale", 1.0},
                                                         {"llama_4_scaling_beta", 0.1}});
  const util::JsonView filled(whole, config.where());
  ArchSpec spec =
      read_llama_like(filled, {.max_positions = 262144,
                               .kv_heads = 8,
                               .head_size = 128,
                               .epsilon = 1e-5,
                               .rope = {.others = {"llama_4_scaling_beta", "max_position_embeddings"}}});
  set_one_window(spec, read_window(config, {}));
  set_query_growth(spec, filled);
  return spec;
}

}  // namespace depthlens::model
