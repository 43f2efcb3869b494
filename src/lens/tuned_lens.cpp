// The tuned lens (Belrose et al. 2023): h + W_i h + b_i at layer i, from a tuned-lens folder or our
// safetensors.
#include <ATen/ops/any.h>

#include "depthlens/compute/backend.hpp"
#include "depthlens/lens/provenance.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "lens_files.hpp"
#include "stored_lens.hpp"

namespace depthlens::lens {
namespace {

struct Translator {
  at::Tensor weight;  // [d, d], (out, in)
  at::Tensor bias;    // [d]
};

class TunedLens : public Lens {
 public:
  TunedLens(const LensRequest& request, std::string digest, std::vector<Translator> translators,
            Alignment alignment, util::OrderedJson about, const compute::Backend& backend)
      : backend_(backend), translators_(std::move(translators)), alignment_(alignment) {
    request_ = request;
    digest_ = std::move(digest);
    about_ = std::move(about);
    for (Translator& translator : translators_) {
      translator.weight = translator.weight.to(backend.device());
      if (translator.bias.defined()) translator.bias = translator.bias.to(backend.device());
    }
  }

  bool translates(std::int64_t layer) const override {
    const auto num_layers = static_cast<std::int64_t>(translators_.size());
    return layer < num_layers && (alignment_ == Alignment::kTrained || layer > 0);
  }

  at::Tensor translate(std::int64_t layer, const at::Tensor& states) const override {
    return apply_translator(alignment_ == Alignment::kTrained ? layer : layer - 1, states);
  }

  std::int64_t num_translators() const override { return static_cast<std::int64_t>(translators_.size()); }

  at::Tensor apply_translator(std::int64_t index, const at::Tensor& states) const override {
    const Translator& translator = translators_.at(static_cast<std::size_t>(index));
    // As many bits as the decoder takes of what comes of it.
    const compute::PackedRows rows = backend_.pack(states, compute::Precision::kExact);
    return backend_.linear(rows, translator.weight, translator.bias).add_(states);
  }

 private:
  const compute::Backend& backend_;  // of the model, which outlives its lenses
  std::vector<Translator> translators_;
  Alignment alignment_;
};

/// Of a trained one the first row tells.
bool is_zero(const at::Tensor& x) {
  return !x.select(0, 0).any().item<bool>() && !x.any().item<bool>();
}

/// "0, 1": the layers whose translators are zeros.
std::string untrained(const std::vector<Translator>& translators) {
  std::vector<std::string> layers;
  for (std::size_t i = 0; i < translators.size(); ++i) {
    const Translator& translator = translators[i];
    if (is_zero(translator.weight) && (!translator.bias.defined() || is_zero(translator.bias)))
      layers.push_back(std::to_string(i));
  }
  return layers.size() == translators.size() ? "" : util::join(layers, ", ");  // all: one that is as it began
}

}  // namespace

std::unique_ptr<Lens> make_tuned_lens(const LensRequest& request, const model::Model& model,
                                      Alignment alignment) {
  const StoredTunedLens stored = read_tuned_lens(request.place());
  const std::int64_t d = model.spec().hidden_size;
  require_fit(stored, model.spec().num_layers, d);
  check_provenance(stored.provenance, stored.described_in, request.allow_mismatch, model);
  // One by one: parameters that are float32 in the file stay there.
  std::vector<Translator> translators;
  for (std::size_t i = 0; i < stored.weights.size(); ++i) {
    Translator& translator = translators.emplace_back();
    translator.weight = checked_parameter(stored.weights[i], {d, d}, util::cat(i, ".weight"), stored.where);
    if (stored.biases.empty()) continue;
    translator.bias = checked_parameter(stored.biases[i], {d}, util::cat(i, ".bias"), stored.where);
  }
  if (const std::string layers = untrained(translators); !layers.empty()) {
    util::log_warning(util::cat(request.place().string(), ": translators of zeros at layers ", layers,
                                ", which are read as by the logit lens; a part of a training (--layers) is "
                                "joined with the others by train-lens --join"));
  }
  return std::make_unique<TunedLens>(request, lens_digest(stored), std::move(translators), alignment,
                                     about_lens(stored), model.backend());
}

}  // namespace depthlens::lens
