// MLPs, and mixtures of experts.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <limits>
#include <vector>

#include "block.hpp"
#include "layers.hpp"

namespace depthlens::model {
namespace {

at::Tensor mlp(const Block& block, const MlpWeights& weights, const compute::PackedRows& rows) {
  const ArchSpec& arch = block.arch;
  const compute::Backend& backend = block.backend();
  const at::Tensor up = backend.linear(rows, weights.up.unfolded(), weights.up_bias);
  at::Tensor inner;
  if (arch.gated_mlp) {
    const at::Tensor gate = backend.linear(rows, weights.gate.unfolded(), weights.gate_bias);
    inner = gated(arch, scaled(gate, arch.mlp_gate_scale), up);
  } else {
    inner = arch.activation == Activation::kXielu ? activate_xielu(up, weights.xielu)
                                                  : activate(arch.activation, up);
  }
  return scaled(backend.linear(block.packed(inner), weights.down.unfolded(), weights.down_bias),
                arch.mlp_out_scale);
}

/// Which experts are chosen one after the other, and with what weights, by scores [T, E].
std::array<at::Tensor, 2> chosen_near_best(const ExpertSpec& experts, const at::Tensor& scores) {
  constexpr double kOut = -std::numeric_limits<double>::infinity();
  const at::Tensor sizes = scores.abs();
  at::Tensor left = scores;
  std::vector<at::Tensor> all_chosen, all_weights;
  for (std::int64_t n = 0; n < experts.chosen; ++n) {
    const auto [best, chosen] = left.max(-1, /*keepdim=*/true);
    const at::Tensor far = (best - scores) / at::maximum(sizes, best) > experts.nearness;
    all_weights.push_back(left.masked_fill(far, kOut).softmax(-1).gather(1, chosen));
    all_chosen.push_back(chosen);
    left = left.scatter(1, chosen, kOut);
  }
  return {at::cat(all_chosen, 1), at::cat(all_weights, 1)};
}

/// Scores [T, E] without those of experts in other groups than the best.
at::Tensor of_best_groups(const ExpertSpec& experts, const at::Tensor& scores) {
  const at::Tensor by_group = scores.unflatten(1, {experts.groups, -1});  // [T, groups, E / groups]
  const std::int64_t counted = experts.groups_by_best ? 1 : 2;
  const at::Tensor best_of_group = std::get<0>(by_group.topk(counted, -1)).sum(-1);
  const at::Tensor groups = std::get<1>(best_of_group.topk(experts.chosen_groups, -1));
  const at::Tensor out = at::ones_like(best_of_group, at::kBool).scatter(1, groups, false);
  return by_group.masked_fill(out.unsqueeze(-1), -std::numeric_limits<double>::infinity()).flatten(1);
}

/// Which experts each token chooses, int64 [T, k], and with what weights.
std::array<at::Tensor, 2> choice(const Block& block, const compute::PackedRows& rows) {
  using Weighting = ExpertSpec::Weighting;
  const ExpertSpec& experts = block.arch.experts;
  const bool ranks_by_bias = experts.ranks_by_bias();
  at::Tensor scores = block.linear(rows, Slot::kRouterWeight,
                                   ranks_by_bias ? std::nullopt : std::optional(Slot::kRouterBias));
  if (experts.weighting == Weighting::kNearBest) return chosen_near_best(experts, scores);
  at::Tensor ranked = scores;  // [T, E]
  if (ranks_by_bias) {
    scores = ranked = experts.is_logistic() ? logistic(scores) : scores.softmax(-1);
    if (const at::Tensor& bias = block[Slot::kRouterBias]; bias.defined()) ranked = scores + bias;
  }
  if (experts.groups > 1) ranked = of_best_groups(experts, ranked);
  const auto [best, chosen] = ranked.topk(experts.chosen, -1);
  at::Tensor weights = experts.weighting == Weighting::kSoftmaxOfChosen ? best.softmax(-1)
                       : ranks_by_bias                                  ? scores.gather(1, chosen)
                                       : scores.softmax(-1).gather(1, chosen);
  if (experts.shares()) {
    const at::Tensor sum = weights.sum(-1, /*keepdim=*/true) + experts.shares_epsilon;
    weights = weights / sum.clamp_min(experts.least_sum);
  }
  if (experts.scale != 1) weights = weights * experts.scale;
  if (const at::Tensor& scale = block[Slot::kExpertScale]; scale.defined())
    weights = weights * scale.index_select(0, chosen.flatten()).view_as(weights);
  return {chosen, weights};
}

/// What the MLP that all tokens see makes of `rows`; undefined where there is none.
at::Tensor shared_expert(const Block& block, const compute::PackedRows& rows) {
  if (!block[Slot::kSharedUpWeight].defined()) return {};
  const at::Tensor made = mlp(block,
                              {.gate = {block[Slot::kSharedGateWeight], {}},
                               .up = {block[Slot::kSharedUpWeight], {}},
                               .down = {block[Slot::kSharedDownWeight], {}}},
                              rows);
  if (!block[Slot::kSharedShareWeight].defined()) return made;
  return made * logistic(block.linear(rows, Slot::kSharedShareWeight));
}

/// Adds to `output` [T, n] what the chosen experts make of `reads` [T, n].
void add_chosen(const Block& block, const at::Tensor& reads, const at::Tensor& chosen,
                const at::Tensor& weights, at::Tensor& output) {
  const ExpertSpec& experts = block.arch.experts;
  const at::Device device = block.backend().device();
  const std::int64_t k = experts.chosen;
  // Places in `chosen`, by expert and then by token.
  const at::Tensor on_host = chosen.cpu().contiguous();
  std::vector<std::vector<std::int64_t>> of_experts(static_cast<std::size_t>(experts.count));
  for (std::int64_t place = 0; place < reads.size(0) * k; ++place)
    of_experts[static_cast<std::size_t>(on_host.const_data_ptr<std::int64_t>()[place])].push_back(place);
  std::vector<std::int64_t> by_expert;
  for (const auto& places : of_experts) by_expert.insert(by_expert.end(), places.begin(), places.end());
  const at::Tensor places = index_tensor(by_expert, device), tokens = places.floor_divide(k);
  std::int64_t first = 0;
  for (std::size_t e = 0; e < of_experts.size(); ++e) {
    const auto count = static_cast<std::int64_t>(of_experts[e].size());
    if (count == 0) continue;
    const at::Tensor place = places.narrow(0, first, count), token = tokens.narrow(0, first, count);
    first += count;
    const MlpWeights expert = block.weights.experts.empty() ? block.load_expert(static_cast<std::int64_t>(e))
                                                            : block.weights.experts[e].on(device);
    const at::Tensor weight = weights.flatten().index_select(0, place).unsqueeze(1);
    const at::Tensor read = reads.index_select(0, token);
    if (experts.weighs_input) {
      output.index_add_(0, token, mlp(block, expert, block.packed(read * weight)));
    } else {
      output.index_add_(0, token, mlp(block, expert, block.packed(read)) * weight);
    }
  }
}

/// The router reads `routed`, the experts `input`.
at::Tensor mixture(const Block& block, const at::Tensor& input, const at::Tensor& routed) {
  const double scale = block.arch.experts.output_scale;
  const compute::PackedRows rows = block.packed(input);
  const auto [chosen, weights] = choice(block, routed.is_same(input) ? rows : block.packed(routed));
  const at::Tensor of_shared = shared_expert(block, rows);
  if (block[Slot::kExpertsInWeight].defined()) {
    const at::Tensor narrow = block.linear(rows, Slot::kExpertsInWeight);
    at::Tensor output = at::zeros_like(narrow);
    add_chosen(block, narrow, chosen, weights, output);
    const at::Tensor widened = block.linear(output, Slot::kExpertsOutWeight);
    return scaled(of_shared.defined() ? widened + of_shared : widened, scale);
  }
  at::Tensor output = of_shared.defined() ? of_shared : at::zeros_like(input);
  add_chosen(block, input, chosen, weights, output);
  return scaled(output, scale);
}

}  // namespace

at::Tensor feed_forward(const Block& block, const at::Tensor& input, const at::Tensor& middle) {
  const ArchSpec& arch = block.arch;
  const bool experts = block.spec().experts;
  if (experts && !arch.experts.beside_mlp) return mixture(block, input, input);
  const at::Tensor dense = mlp(block,
                               {.gate = {block[Slot::kMlpGateWeight], {}},
                                .up = {block[Slot::kMlpUpWeight], {}},
                                .down = {block[Slot::kMlpDownWeight], {}},
                                .gate_bias = block[Slot::kMlpGateBias],
                                .up_bias = block[Slot::kMlpUpBias],
                                .down_bias = block[Slot::kMlpDownBias],
                                .xielu = {block[Slot::kXieluAbove], block[Slot::kXieluBelow],
                                          block[Slot::kXieluSlope], block[Slot::kXieluLimit]}},
                               block.packed(input));
  if (!experts) return dense;
  const at::Tensor routed =
      block.norm(middle) * block[Slot::kRouterScale] / std::sqrt(static_cast<double>(arch.hidden_size));
  const at::Tensor mixed = mixture(block, block.norm(middle, block[Slot::kExpertsNormWeight]), routed);
  return block.norm(dense, block[Slot::kDenseOutNormWeight]) +
         block.norm(mixed, block[Slot::kExpertsOutNormWeight]);
}

}  // namespace depthlens::model
