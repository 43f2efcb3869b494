// Granite with experts (3.0 and 3.1): alone, or beside an MLP that sees every token. Odd: the gates and the
// ups of all experts are one tensor.
#include "family.hpp"

namespace depthlens::model {

void add_granite_experts(ArchSpec& spec) {
  const std::int64_t d = spec.hidden_size, m = spec.experts.mlp_size, E = spec.experts.count;
  const std::string stem = "layers.{i}.block_sparse_moe.";
  const auto of_all = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
    return TensorRule{.slot = slot,
                      .name = stem + name,
                      .shape = std::move(shape),
                      .blocks = {.experts = true},
                      .of_all_experts = true};
  };
  add_rows_of(spec, of_all(Slot::kExpertGateWeight, "input_linear.weight", {E, 2 * m, d}),
              {{Slot::kExpertGateWeight, m}, {Slot::kExpertUpWeight, m}});
  spec.block_tensors.push_back(of_all(Slot::kExpertDownWeight, "output_linear.weight", {E, d, m}));
  spec.block_tensors.push_back({.slot = Slot::kRouterWeight,
                                .name = stem + "router.layer.weight",
                                .shape = {E, d},
                                .blocks = {.experts = true}});
}

void add_granite_shared_expert(ArchSpec& spec, std::int64_t mlp_size) {
  const std::int64_t d = spec.hidden_size, m = mlp_size;
  if (m == 0) return;
  spec.experts.shared_mlp_size = m;
  const std::string stem = "layers.{i}.shared_mlp.";
  add_rows_of(spec,
              {.slot = Slot::kSharedGateWeight,
               .name = stem + "input_linear.weight",
               .shape = {2 * m, d},
               .blocks = {.experts = true}},
              {{Slot::kSharedGateWeight, m}, {Slot::kSharedUpWeight, m}});
  spec.block_tensors.push_back({.slot = Slot::kSharedDownWeight,
                                .name = stem + "output_linear.weight",
                                .shape = {d, m},
                                .blocks = {.experts = true}});
}

ArchSpec read_granite_moe(const util::JsonView& config) {
  require_value(config, "mlp_bias", false);
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(
      config, {.max_positions = 2048, .qkv_bias = bias, .attention_out_bias = bias, .dense_mlp = false});
  set_granite_factors(spec, config);
  spec.experts = {.count = read_size(config, "num_local_experts", 8),
                  .chosen = read_size(config, "num_experts_per_tok", 2),
                  .mlp_size = spec.mlp_size,
                  .weighting = ExpertSpec::Weighting::kSoftmaxOfChosen};
  check_experts(config, spec);
  for (BlockSpec& block : spec.blocks) block.experts = true;
  add_granite_experts(spec);
  return spec;
}

ArchSpec read_granite_moe_shared(const util::JsonView& config) {
  ArchSpec spec = read_granite_moe(config);
  add_granite_shared_expert(spec, read_size(config, "shared_intermediate_size", 0, /*lowest=*/0));
  return spec;
}

}  // namespace depthlens::model
