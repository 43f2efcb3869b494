// The Jacobian lens (2026): J_l h with the mean Jacobian of the last residual state with respect to the state
// after block l (from 0), which is layer l + 1 here. Layers without one are decoded as by the logit lens.
#include <map>

#include "depthlens/model/linear.hpp"
#include "depthlens/util/text.hpp"
#include "lens_files.hpp"
#include "stored_lens.hpp"

namespace depthlens::lens {
namespace {

class JacobianLens : public Lens {
 public:
  /// `jacobians`: layer → [d, d].
  JacobianLens(const LensRequest& request, std::map<std::int64_t, at::Tensor> jacobians, at::Device device)
      : jacobians_(std::move(jacobians)) {
    request_ = request;
    std::vector<at::Tensor> parameters;
    for (const auto& [layer, jacobian] : jacobians_) parameters.push_back(jacobian);
    digest_ = parameter_digest(parameters);
    for (auto& [layer, jacobian] : jacobians_) jacobian = jacobian.to(device);
  }

  bool translates(std::int64_t layer) const override { return jacobians_.count(layer) > 0; }
  at::Tensor translate(std::int64_t layer, const at::Tensor& states) const override {
    return model::linear(states, jacobians_.at(layer), {});
  }

 private:
  std::map<std::int64_t, at::Tensor> jacobians_;
};

}  // namespace

std::unique_ptr<Lens> make_jacobian_lens(const LensRequest& request, const model::Model& model,
                                         Alignment /*alignment*/) {
  const StoredJacobianLens stored = read_jacobian_lens(request.path);
  const std::int64_t d = model.spec().hidden_size;
  const std::int64_t num_layers = model.spec().num_layers;
  const std::int64_t last = stored.jacobians.rbegin()->first;
  if (stored.hidden_size() != d || last >= num_layers) {
    throw util::format_error({.what = "the lens does not fit the model",
                              .where = stored.where,
                              .expected = util::cat("blocks 0 to ", num_layers - 1, " of width ", d),
                              .found = util::cat("block ", last, " of width ", stored.hidden_size())});
  }
  check_model_digest(stored.provenance, stored.where, request, model);
  std::map<std::int64_t, at::Tensor> jacobians;
  for (const auto& [block, tensor] : stored.jacobians) {
    const at::Tensor jacobian = checked_parameter(tensor, {d, d}, util::cat("J[", block, "]"), stored.where);
    if (block + 1 < num_layers) jacobians.emplace(block + 1, jacobian);  // layer L is the model's own output
  }
  if (jacobians.empty()) {
    throw util::format_error(
        {.what = "the lens holds no Jacobian of use",
         .where = stored.where,
         .expected = util::cat("one of the blocks 0 to ", num_layers - 2),
         .found = util::cat("block ", last, " only, whose state is the model's own output")});
  }
  return std::make_unique<JacobianLens>(request, std::move(jacobians), model.device());
}

}  // namespace depthlens::lens
