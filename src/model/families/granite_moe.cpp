// Granite with experts (3.0 and 3.1): alone, or beside an MLP that sees every token. Odd: the gates and the
// ups of all experts are one tensor.
#include "family.hpp"

namespace depthlens::model {

void add_granite_experts(ArchSpec& spec) {
  const std::int64_t d = spec.hidden_size, m = spec.experts.mlp_size, E = spec.experts.count;
  // As published, and as transformers 5 names them.
  const auto add = [&](const std::string& router, const std::string& in, const std::string& out,
                       std::vector<TensorRule>& rules) {
    const auto rule = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
      return TensorRule{.slot = slot,
                        .name = "layers.{i}.block_sparse_moe." + name,
                        .shape = std::move(shape),
                        .blocks = {.experts = true},
                        .of_all_experts = slot != Slot::kRouterWeight};
    };
    rules.push_back(rule(Slot::kRouterWeight, router, {E, d}));
    for (const Slot slot : {Slot::kExpertGateWeight, Slot::kExpertUpWeight}) {
      rules.push_back(rule(slot, in, {E, 2 * m, d}));
      rules.back().rows = {.first = slot == Slot::kExpertGateWeight ? 0 : m, .count = m};
    }
    rules.push_back(rule(Slot::kExpertDownWeight, out, {E, d, m}));
  };
  add("router.layer.weight", "input_linear.weight", "output_linear.weight", spec.block_tensors);
  add("router.weight", "experts.gate_up_proj", "experts.down_proj", spec.other_block_tensors);
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
  set_first_dense(spec, 0);
  add_granite_experts(spec);
  return spec;
}

ArchSpec read_granite_moe_shared(const util::JsonView& config) {
  ArchSpec spec = read_granite_moe(config);
  add_granite_shared_expert(spec, read_size(config, "shared_intermediate_size", 0, /*lowest=*/0));
  return spec;
}

}  // namespace depthlens::model
