// The Jacobian lens (2026): J_l h with the mean Jacobian of the last residual state with respect to the state
// after block l (from 0), which is layer l + 1 here. Layers without one are decoded as by the logit lens.
#include <algorithm>
#include <map>

#include "depthlens/compute/backend.hpp"
#include "depthlens/lens/provenance.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "lens_files.hpp"
#include "stored_lens.hpp"

namespace depthlens::lens {
namespace {

class JacobianLens : public Lens {
 public:
  /// `jacobians`: layer → [d, d].
  JacobianLens(const LensRequest& request, std::string digest, std::map<std::int64_t, at::Tensor> jacobians,
               const compute::Backend& backend)
      : backend_(backend), jacobians_(std::move(jacobians)) {
    request_ = request;
    digest_ = std::move(digest);
    for (auto& [layer, jacobian] : jacobians_) jacobian = jacobian.to(backend.device());
  }

  bool translates(std::int64_t layer) const override { return jacobians_.count(layer) > 0; }
  at::Tensor translate(std::int64_t layer, const at::Tensor& states) const override {
    return backend_.linear(states, jacobians_.at(layer), {});
  }

 private:
  const compute::Backend& backend_;  // of the model, which outlives its lenses
  std::map<std::int64_t, at::Tensor> jacobians_;
};

/// The entry of that name, of the archive's dictionary or of its `metadata`; nullptr where there is none.
const util::OrderedJson* find_field(const StoredJacobianLens& lens, const std::string& key) {
  if (lens.fields.contains(key)) return &lens.fields.at(key);
  if (!lens.fields.contains("metadata") || !lens.fields.at("metadata").is_object()) return nullptr;
  const util::OrderedJson& metadata = lens.fields.at("metadata");
  return metadata.contains(key) ? &metadata.at(key) : nullptr;
}

/// What the file says of the model's shape, and of the state whose Jacobian it is.
void check_fields(const StoredJacobianLens& lens, const model::Model& model) {
  const std::int64_t L = model.spec().num_layers;
  const auto expect = [&](const char* key, const std::vector<std::int64_t>& values, const std::string& text) {
    const util::OrderedJson* field = find_field(lens, key);
    if (field == nullptr || field->is_null()) return;
    if (field->is_number_integer() &&
        std::find(values.begin(), values.end(), field->get<std::int64_t>()) != values.end())
      return;
    throw util::format_error({.what = "the lens does not fit the model",
                              .where = lens.where + ": " + key,
                              .expected = text,
                              .found = field->dump()});
  };
  for (const char* key : {"num_layers", "n_layers", "num_hidden_layers"})
    expect(key, {L}, util::cat(L, " blocks"));
  for (const char* key : {"hidden_size", "d_model"})
    expect(key, {model.spec().hidden_size}, util::cat("width ", model.spec().hidden_size));
  // Counted from the embedding, by blocks, or from the end.
  expect("target_layer", {L, L - 1, -1}, util::cat("the last residual state, ", L, " or ", L - 1));
}

/// Only of lenses of our own. Settings may have been written anew with the same meaning: no error.
void check_fingerprint(const StoredJacobianLens& lens, const model::Model& model) {
  const util::OrderedJson* field = find_field(lens, "model_fingerprint");
  if (field == nullptr || !field->is_string() || field->get<std::string>() == model_fingerprint(model))
    return;
  util::log_warning(lens.where +
                    ": model_fingerprint: the model's config.json or final norm is not what the lens was "
                    "fitted with");
}

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
  check_fields(stored, model);
  check_provenance(stored.provenance, stored.where, request.allow_mismatch, model);
  check_fingerprint(stored, model);
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
  return std::make_unique<JacobianLens>(request, lens_digest(stored), std::move(jacobians), model.backend());
}

}  // namespace depthlens::lens
