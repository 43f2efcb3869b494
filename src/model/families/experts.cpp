#include "experts.hpp"

#include <algorithm>
#include <utility>

#include "blocks.hpp"
#include "config_keys.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "rules.hpp"

namespace depthlens::model {

using util::JsonView;

void check_experts(const JsonView& config, const ArchSpec& spec) {
  const ExpertSpec& experts = spec.experts;
  const auto fail = [&](const std::string& what, const std::string& expected, std::int64_t found) {
    throw util::format_error(
        {.what = what, .where = config.where(), .expected = expected, .found = std::to_string(found)});
  };
  if (experts.chosen > experts.count) {
    fail("more experts are chosen than there are",
         util::cat("num_experts_per_tok of at most ", experts.count), experts.chosen);
  }
  if (experts.groups == 1) return;
  const std::int64_t least = experts.groups_by_best ? 1 : 2;
  if (experts.count % experts.groups != 0 || experts.count / experts.groups < least)
    fail("groups that do not divide the experts",
         util::cat("groups of ", least, " or more of ", experts.count), experts.groups);
  if (experts.chosen_groups > experts.groups ||
      experts.chosen > experts.chosen_groups * (experts.count / experts.groups)) {
    fail("too few or too many groups of experts",
         util::cat("topk_group of at most ", experts.groups, ", with room for ", experts.chosen, " experts"),
         experts.chosen_groups);
  }
}

void set_first_dense(ArchSpec& spec, std::int64_t first) {
  for (std::int64_t i = 0; i < spec.num_layers; ++i)
    spec.blocks[static_cast<std::size_t>(i)].experts = i >= first;
}

void set_mlp_kinds(ArchSpec& spec, const JsonView& config) {
  set_first_dense(spec, 1);
  if (const auto sparse =
          read_kinds_of_blocks(config, "mlp_layer_types", spec.num_layers, "dense", "sparse")) {
    for (std::size_t i = 0; i < spec.blocks.size(); ++i) spec.blocks[i].experts = (*sparse)[i];
  }
  const auto first = std::find_if(spec.blocks.begin(), spec.blocks.end(),
                                  [](const BlockSpec& block) { return block.experts; });
  tell_unused(config, "first_k_dense_replace", first - spec.blocks.begin(),
              "mlp_layer_types, or the class, says which blocks have experts");
}

ExpertSpec::Weighting read_softmax_weighting(const JsonView& config, ExpertSpec::Weighting class_default) {
  using Weighting = ExpertSpec::Weighting;
  const bool shares = read_flag(config, "norm_topk_prob", class_default == Weighting::kShares);
  return shares ? Weighting::kShares : Weighting::kSoftmaxOfAll;
}

void add_router(ArchSpec& spec, const std::string& router, const std::string& bias) {
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
    spec.block_tensors.push_back(
        {.slot = slot, .name = "layers.{i}." + name, .shape = std::move(shape), .blocks = {.experts = true}});
  };
  add(Slot::kRouterWeight, router + ".weight", {spec.experts.count, spec.hidden_size});
  if (!bias.empty()) add(Slot::kRouterBias, bias, {spec.experts.count});
}

void add_experts(ArchSpec& spec, const ExpertNames& names) {
  const std::int64_t d = spec.hidden_size, m = spec.experts.mlp_size;
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = "layers.{i}." + name + ".weight",
                                  .shape = std::move(shape),
                                  .blocks = {.experts = true}});
  };
  add_router(spec, names.router, names.router_bias);
  add(Slot::kExpertGateWeight, names.stem + ".{n}." + names.gate, {m, d});
  add(Slot::kExpertUpWeight, names.stem + ".{n}." + names.up, {m, d});
  add(Slot::kExpertDownWeight, names.stem + ".{n}." + names.down, {d, m});
  const std::string& stacked = names.stacked_stem.empty() ? names.stem : names.stacked_stem;
  for (TensorRule& rule : stacked_experts(spec, /*transposed=*/false, stacked))
    spec.other_block_tensors.push_back(std::move(rule));
}

void add_experts_of_mixtral(ArchSpec& spec, bool router_bias, const std::string& router_in_memory) {
  const std::string router = "block_sparse_moe.gate", bias = "block_sparse_moe.e_score_correction_bias";
  set_first_dense(spec, 0);
  add_experts(spec, {.router = router,
                     .router_bias = router_bias ? bias : "",
                     .stem = "block_sparse_moe.experts",
                     .gate = "w1",
                     .up = "w3",
                     .down = "w2",
                     .stacked_stem = "mlp.experts"});
  add_other_names(spec, {{router, router_in_memory}, {bias, "mlp.e_score_correction_bias"}});
}

std::vector<TensorRule> stacked_experts(const ArchSpec& spec, bool transposed, const std::string& stem) {
  const std::int64_t d = spec.hidden_size, m = spec.experts.mlp_size, E = spec.experts.count;
  const auto rule = [&](Slot slot, const char* name, std::int64_t out, std::int64_t in,
                        const TensorRule::Rows& rows) {
    return TensorRule{
        .slot = slot,
        .name = "layers.{i}." + stem + "." + name,
        .shape = transposed ? std::vector<std::int64_t>{E, in, out} : std::vector<std::int64_t>{E, out, in},
        .transposed = transposed,
        .blocks = {.experts = true},
        .rows = rows,
        .of_all_experts = true};
  };
  return {rule(Slot::kExpertGateWeight, "gate_up_proj", 2 * m, d, {.first = 0, .count = m}),
          rule(Slot::kExpertUpWeight, "gate_up_proj", 2 * m, d, {.first = m, .count = m}),
          rule(Slot::kExpertDownWeight, "down_proj", d, m, {})};
}

void add_shared_expert(ArchSpec& spec, const std::string& stem, std::int64_t mlp_size, bool weighed) {
  const std::int64_t d = spec.hidden_size;
  spec.experts.shared_mlp_size = mlp_size;
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = "layers.{i}." + stem + name + ".weight",
                                  .shape = std::move(shape),
                                  .blocks = {.experts = true}});
  };
  add(Slot::kSharedGateWeight, ".gate_proj", {mlp_size, d});
  add(Slot::kSharedUpWeight, ".up_proj", {mlp_size, d});
  add(Slot::kSharedDownWeight, ".down_proj", {d, mlp_size});
  if (weighed) add(Slot::kSharedShareWeight, "_gate", {1, d});
}

ExpertSpec read_logistic_experts(const JsonView& config, const ExpertSpec& class_defaults) {
  using Weighting = ExpertSpec::Weighting;
  const std::string count = name_of_size(config, "n_routed_experts", "num_local_experts");
  const bool shares = read_flag(config, "norm_topk_prob", class_defaults.weighting != Weighting::kLogistic);
  return {.count = read_size(config, count, class_defaults.count),
          .chosen = read_size(config, "num_experts_per_tok", class_defaults.chosen),
          .mlp_size = read_size(config, "moe_intermediate_size", class_defaults.mlp_size),
          .weighting = shares ? Weighting::kLogisticShares : Weighting::kLogistic,
          .scale = read_number(config, "routed_scaling_factor", class_defaults.scale),
          .groups = read_size(config, "n_group", class_defaults.groups),
          .chosen_groups = read_size(config, "topk_group", class_defaults.chosen_groups)};
}

void add_logistic_experts(ArchSpec& spec, const JsonView& config, const ExpertSpec& class_defaults) {
  spec.experts = read_logistic_experts(config, class_defaults);
  check_experts(config, spec);
  add_experts(spec, {.router_bias = "mlp.gate.e_score_correction_bias"});
  add_shared_expert(spec, "mlp.shared_experts",
                    spec.experts.mlp_size * read_size(config, "n_shared_experts", 1));
  ignore_blocks_behind(spec, config);
}

void ignore_blocks_behind(ArchSpec& spec, const JsonView& config) {
  constexpr std::int64_t kMax = 16;
  const std::string predicting = name_of_size(config, "num_nextn_predict_layers", "num_mtp_layers");
  const std::int64_t more = std::clamp<std::int64_t>(config.get_integer(predicting, 0, kMaxSize, 1), 1, kMax);
  for (std::int64_t i = 0; i < more; ++i)
    spec.ignorable.push_back(util::cat("layers.", spec.num_layers + i, ".*"));
}

}  // namespace depthlens::model
