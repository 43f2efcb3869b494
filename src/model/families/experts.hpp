// Mixtures of experts as families have them in common.
#pragma once

#include <string>
#include <vector>

#include "depthlens/model/arch_spec.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::model {

/// Throws where more experts are chosen than there are, or groups do not divide them.
void check_experts(const util::JsonView& config, const ArchSpec& spec);

/// Gives all blocks experts but the first ones.
void set_first_dense(ArchSpec& spec, std::int64_t first);

/// Gives experts to the blocks that `mlp_layer_types` says, or to all but the first, and tells of a
/// `first_k_dense_replace` that says something else.
void set_mlp_kinds(ArchSpec& spec, const util::JsonView& config);

/// Softmax over all experts, shared out among those chosen where `norm_topk_prob` says so.
ExpertSpec::Weighting read_softmax_weighting(
    const util::JsonView& config, ExpertSpec::Weighting class_default = ExpertSpec::Weighting::kSoftmaxOfAll);

/// The router "layers.{i}.ROUTER.weight" and its bias "layers.{i}.BIAS"; "": none.
void add_router(ArchSpec& spec, const std::string& router, const std::string& bias = "");

/// Experts with matrices of their own, "layers.{i}.STEM.{n}.NAME.weight" for gate, up and down, and the
/// router of `add_router`; or, as transformers 5 has them in memory, in one tensor of `stacked_experts`.
struct ExpertNames {
  std::string router = "mlp.gate", router_bias = {};  ///< "": no bias
  std::string stem = "mlp.experts";
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
  std::string stacked_stem = {};  ///< "": the same stem
};
void add_experts(ArchSpec& spec, const ExpertNames& names = {});

/// The same in all blocks, by the names of Mixtral, "layers.{i}.block_sparse_moe.experts.{n}.w1.weight", …;
/// the router in memory is "layers.{i}.ROUTER.weight".
void add_experts_of_mixtral(ArchSpec& spec, bool router_bias = false,
                            const std::string& router_in_memory = "mlp.gate");

/// The MLP "layers.{i}.STEM.{gate,up,down}_proj" that all tokens see beside the experts; where it is weighed,
/// by "layers.{i}.STEM_gate.weight".
void add_shared_expert(ArchSpec& spec, const std::string& stem, std::int64_t mlp_size, bool weighed = false);

/// As `add_experts`, where a checkpoint has those of all experts in one tensor,
/// "layers.{i}.STEM.gate_up_proj" with the rows of gate before those of up, and "….down_proj". Matrices are
/// stored as [out, in], or `transposed`.
std::vector<TensorRule> stacked_experts(const ArchSpec& spec, bool transposed = false,
                                        const std::string& stem = "mlp.experts");

/// What configs say of experts by logistic scores and groups; `class_defaults` has what absent keys mean.
ExpertSpec read_logistic_experts(const util::JsonView& config, const ExpertSpec& class_defaults);

/// Experts by logistic scores, a bias and groups, and a shared one (GLM 4.5, DeepSeek V3); what predicts
/// further tokens behind the last block may be in the checkpoint.
void add_logistic_experts(ArchSpec& spec, const util::JsonView& config, const ExpertSpec& class_defaults);

/// The checkpoint may have blocks behind the last one, which predict further tokens.
void ignore_blocks_behind(ArchSpec& spec, const util::JsonView& config);

}  // namespace depthlens::model
