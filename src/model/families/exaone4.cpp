// EXAONE 4: norms of what attention and MLP put out, and of each head of queries and keys. K-EXAONE: norms
// before the branches, experts by logistic scores, a bias and groups beside a shared one. Odd: where there
// are windows, only the blocks that slide have rotary positions; without windows all have.
#include "family.hpp"

namespace depthlens::model {
namespace {

void set_kinds_of_attention(ArchSpec& spec, const util::JsonView& config) {
  constexpr std::int64_t kClassWindow = 4096;
  const bool used = read_window(config, kClassWindow).has_value();
  // A pattern in letters is only repeated by layer_types, which then must be there.
  const bool by_number = used && !config.has("layer_types");
  const std::int64_t pattern = by_number ? read_size(config, "sliding_window_pattern", 4) : 1;
  const auto slides =
      sliding_blocks(config, spec.num_layers, [&](std::int64_t i) { return (i + 1) % pattern != 0; });
  set_windows(spec, config, slides, kClassWindow, used);
  if (used) rotate_only(spec, slides);
}

}  // namespace

ArchSpec read_exaone4(const util::JsonView& config) {
  ArchSpec spec =
      read_llama_like(config, {.max_positions = 2048,
                               .kv_heads = 32,
                               .epsilon = 1e-5,
                               .norms = {{Slot::kAttentionOutNormWeight, "post_attention_layernorm"},
                                         {Slot::kMlpOutNormWeight, "post_feedforward_layernorm"}},
                               .query_key_norm = true});
  spec.norm_place = NormPlace::kAfter;
  set_kinds_of_attention(spec, config);
  return spec;
}

ArchSpec read_exaone_moe(const util::JsonView& config) {
  ArchSpec spec = read_llama_like(
      config,
      {.max_positions = 2048, .kv_heads = 32, .epsilon = 1e-5, .query_key_norm = true, .dense_mlp = false});
  set_kinds_of_attention(spec, config);
  if (const auto sparse =
          read_kinds_of_blocks(config, "mlp_layer_types", spec.num_layers, "dense", "sparse")) {
    for (std::size_t i = 0; i < spec.blocks.size(); ++i) spec.blocks[i].experts = (*sparse)[i];
  } else {
    set_first_dense(spec, read_size(config, "first_k_dense_replace", 1, /*lowest=*/0));
  }
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  util::Json whole = config.raw();  // with GLM's names of two sizes
  whole["n_routed_experts"] = read_size(config, "num_experts", 64);
  whole["n_shared_experts"] = read_size(config, "num_shared_experts", 1);
  add_logistic_experts(spec, {whole, config.where()},
                       {.count = 64, .chosen = 8, .mlp_size = 1024, .scale = 2.5});
  spec.other_block_tensors.push_back({.slot = Slot::kRouterBias,
                                      .name = "layers.{i}.mlp.e_score_correction_bias",
                                      .shape = {spec.experts.count},
                                      .blocks = {.experts = true}});
  spec.ignorable.emplace_back("mtp.*");
  return spec;
}

}  // namespace depthlens::model
