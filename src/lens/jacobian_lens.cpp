// The Jacobian lens (2026): J_l h with the mean Jacobian of the last residual state with respect to the state
// after block l (from 0), which is layer l + 1 here. Layers without one are decoded as by the logit lens.
#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>

#include <algorithm>
#include <map>

#include "depthlens/compute/backend.hpp"
#include "depthlens/lens/provenance.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "lens_facts.hpp"
#include "lens_files.hpp"
#include "stored_lens.hpp"

namespace depthlens::lens {
namespace {

class JacobianLens : public Lens {
 public:
  /// `jacobians`: layer → [d, d].
  JacobianLens(const LensRequest& request, std::string digest, std::map<std::int64_t, at::Tensor> jacobians,
               util::OrderedJson about, const compute::Backend& backend)
      : backend_(backend), jacobians_(std::move(jacobians)) {
    request_ = request;
    digest_ = std::move(digest);
    about_ = std::move(about);
    about_["layers"] = util::OrderedJson::array();
    for (const auto& [layer, jacobian] : jacobians_) about_["layers"].push_back(layer);
    for (auto& [layer, jacobian] : jacobians_) jacobian = jacobian.to(backend.device());
  }

  bool translates(std::int64_t layer) const override { return jacobians_.count(layer) > 0; }
  at::Tensor translate(std::int64_t layer, const at::Tensor& states) const override {
    return backend_.linear(backend_.pack(states, compute::Precision::kExact), jacobians_.at(layer), {});
  }

 private:
  const compute::Backend& backend_;  // of the model, which outlives its lenses
  std::map<std::int64_t, at::Tensor> jacobians_;
};

/// What the file says of the model's shape, and of the state whose Jacobian it is.
void check_fields(const StoredJacobianLens& lens, const model::Model& model) {
  const std::int64_t L = model.spec().num_layers;
  const auto expect = [&](const char* key, const std::vector<std::int64_t>& values, const std::string& text) {
    for (const LensFact& told : told_of(lens, key)) {
      if (told.value.is_number_integer() &&
          std::find(values.begin(), values.end(), told.value.get<std::int64_t>()) != values.end())
        continue;
      throw util::format_error({.what = "the lens does not fit the model",
                                .where = told.where,
                                .expected = text,
                                .found = util::json_text(told.value)});
    }
  };
  for (const char* key : {"num_layers", "n_layers", "num_hidden_layers"})
    expect(key, {L}, util::cat(L, " blocks"));
  for (const char* key : {"hidden_size", "d_model"})
    expect(key, {model.spec().hidden_size}, util::cat("width ", model.spec().hidden_size));
}

/// The state that the Jacobians lead to: counted from the embedding, by blocks, or from the end.
void check_target(const StoredJacobianLens& lens, std::int64_t num_layers) {
  for (const LensFact& target : lens.facts) {
    if (target.name != "target_layer") continue;
    const util::OrderedJson& value = target.value;
    const bool is_last =
        value == num_layers || value == num_layers - 1 || value == -1 || value == "final" || value == "last";
    if (is_last) continue;
    throw util::format_error(
        {.what = "the lens does not fit the model",
         .where = target.where,
         .expected = util::cat("the last residual state, ", num_layers, " or ", num_layers - 1),
         .found = util::json_text(value),
         .hint = "what leads to a state in the middle of the model is not what the unembedding reads"});
  }
}

/// The largest difference from the identity.
double distance_from_identity(const at::Tensor& jacobian) {
  return (jacobian - at::eye(jacobian.size(0), jacobian.options())).abs().max().item<double>();
}

/// The last block's output is the target itself: its Jacobian is the identity, which some files hold and
/// others leave out. Anything else there is anchored elsewhere.
void check_last(const at::Tensor& jacobian, std::int64_t block, const std::string& where) {
  constexpr double kMax = 1e-2;  // some are estimates
  const double distance = distance_from_identity(jacobian);
  if (distance <= kMax) return;
  throw util::format_error(
      {.what = "the lens is not one of the states after each block",
       .where = util::cat(where, ": J[", block, "]"),
       .expected = "the identity: the state after the last block is the target itself",
       .found = util::cat("a matrix that differs from it by up to ", distance),
       .hint = "it may be anchored inside the blocks, or at their inputs without saying so"});
}

/// Files in the published format do not tell their target. One that was fitted to a block before the last
/// holds the blocks below that.
void warn_of_target(const StoredJacobianLens& lens, std::int64_t num_layers) {
  if (find_fact(lens.facts, "target_layer") != nullptr) return;
  const auto& [last, jacobian] = *lens.jacobians.rbegin();
  const bool from_first = last + 1 == static_cast<std::int64_t>(lens.jacobians.size());
  if (last < num_layers - 1 && distance_from_identity(jacobian.to(at::kFloat)) == 0) {
    util::log_warning(util::cat(lens.where, ": J[", last,
                                "] is the identity, as if the lens were fitted to block ", last,
                                " and not to the last, ", num_layers - 1));
  } else if (from_first && last < num_layers - 2) {
    util::log_warning(
        util::cat(lens.where, ": the blocks end at ", last, " of ", num_layers - 1,
                  " and no target layer is told: a lens that was fitted to block ", last + 1,
                  " looks like this. Layers without a Jacobian are decoded as by the logit lens"));
  }
}

/// Only of lenses of our own. Settings may have been written anew with the same meaning: no error.
void check_fingerprint(const StoredJacobianLens& lens, const model::Model& model) {
  const std::vector<LensFact> told = told_of(lens, "model_fingerprint");
  if (told.empty() || told.front().value == model_fingerprint(model)) return;
  util::log_warning(lens.where +
                    ": model_fingerprint: the model's config.json or final norm is not what the lens was "
                    "fitted with");
}

}  // namespace

std::unique_ptr<Lens> make_jacobian_lens(const LensRequest& request, const model::Model& model,
                                         Alignment /*alignment*/) {
  const StoredJacobianLens stored = read_jacobian_lens(request.place());
  const std::int64_t d = model.spec().hidden_size;
  const std::int64_t num_layers = model.spec().num_layers;
  const std::int64_t last = stored.jacobians.rbegin()->first;
  if (stored.hidden_size() != d || last >= num_layers) {
    throw util::format_error({.what = "the lens does not fit the model",
                              .where = stored.where,
                              .expected = util::cat("blocks 0 to ", num_layers - 1, " of width ", d),
                              .found = util::cat("block ", last, " of width ", stored.hidden_size())});
  }
  check_fields(stored, model);
  check_meaning(stored);
  check_target(stored, num_layers);
  check_provenance(stored.provenance, stored.described_in, request.allow_mismatch, model);
  check_rope(stored.facts, model, request.allow_mismatch);
  check_fingerprint(stored, model);
  if (const LensFact* issue = find_fact(stored.facts, "known_issue");
      issue != nullptr && issue->value.is_string())
    util::log_warning(util::cat(issue->where, ": ", issue->value.get<std::string>()));
  const std::vector<std::int64_t> layers = layers_of(stored);
  std::map<std::int64_t, at::Tensor> jacobians;
  std::size_t index = 0;
  for (const auto& [block, tensor] : stored.jacobians) {
    at::Tensor jacobian = checked_parameter(tensor, {d, d}, util::cat("J[", block, "]"), stored.where);
    const std::int64_t layer = layers[index++];
    if (layer == num_layers) {
      check_last(jacobian, block, stored.where);  // and is left out: layer L is the model's own output
    } else {
      jacobians.emplace(layer, std::move(jacobian));
    }
  }
  if (jacobians.empty()) {
    throw util::format_error(
        {.what = "the lens holds no Jacobian of use",
         .where = stored.where,
         .expected = util::cat("one of the blocks 0 to ", num_layers - 2),
         .found = util::cat("block ", last, " only, whose state is the model's own output")});
  }
  if (anchor_of(stored.facts) == Anchor::kOutput) {
    warn_of_target(stored, num_layers);
  } else if (const auto& [layer, jacobian] = *jacobians.rbegin(); distance_from_identity(jacobian) == 0) {
    util::log_warning(
        util::cat(stored.where, ": the matrix of the input of block ", layer,
                  " is the identity, as if the lens led there and not to the last block's output"));
  }
  return std::make_unique<JacobianLens>(request, lens_digest(stored), std::move(jacobians),
                                        about_lens(stored), model.backend());
}

}  // namespace depthlens::lens
