// Training of a tuned lens: every layer's translator learns from one forward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "depthlens/lens/lens_file.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/train/lens_gradient.hpp"
#include "depthlens/train/optimizer.hpp"
#include "depthlens/train/settings.hpp"

namespace depthlens::train {

using Window = std::vector<TokenId>;

struct StepResult {
  std::int64_t step = 0;  ///< from 1
  double learning_rate = 0;
  std::int64_t positions = 0;
  std::vector<double> loss;           ///< [n] mean over positions, before the step, undamped; nats
  std::vector<double> gradient_norm;  ///< [n] before clipping
  double total_gradient_norm = 0;
};

/// Mean of a value per layer, as losses are summed up in the progress line and for the best lens.
double mean_over_layers(const std::vector<double>& values);

class TunedTrainer {
 public:
  /// `model` must outlive the trainer. `initial` has all L layers; its n layers that the settings name are
  /// copied and trained, the others take no part. Without biases none are trained.
  TunedTrainer(const model::Model& model, TrainSettings settings, const lens::TunedParameters& initial);

  /// One step with the mean gradient over the windows, each of which the model sees by itself. Throws a
  /// self-check error, before any parameter is changed, where loss or gradient is not finite. Where a
  /// device's memory does not suffice, smaller batches and chunks are taken, then and from there on.
  StepResult step(const std::vector<Window>& windows);

  /// Mean KL(final ‖ layer) over all positions of the windows, in float32: [n] nats. Throws a self-check
  /// error where it is not finite.
  std::vector<double> mean_kl(const std::vector<Window>& windows);

  /// Throws a self-check error where parameters or the optimizer's state are not finite, as the last step may
  /// have left them.
  void require_finite() const;

  /// Of the n layers that are trained.
  const lens::TunedParameters& parameters() const { return parameters_; }
  const TrainSettings& settings() const { return settings_; }
  std::int64_t steps_done() const { return steps_done_; }
  /// Of the vocabulary products: "float32" or "bfloat16".
  std::string products() const { return gradient_->pass().products(); }

  /// Parameters and the optimizer's state under their names, shared with the trainer.
  std::map<std::string, at::Tensor> state() const;
  /// Takes over a state of `state()` after `steps_done` steps. Shapes must have been checked.
  void restore(const std::map<std::string, at::Tensor>& state, std::int64_t steps_done);

  /// A lens that changes nothing: weights and biases of zeros for this model.
  static lens::TunedParameters zeros(const model::Model& model, bool biases);
  static lens::TunedParameters zeros_like(const lens::TunedParameters& parameters);

 private:
  template <typename Use>
  void for_each_chunk(const std::vector<Window>& windows, bool followed_only, const Use& use) const;
  /// Of a pass over the windows for which memory did not suffice; false where they are as small as can be.
  bool take_smaller_parts(const std::vector<Window>& windows);
  [[noreturn]] void refuse(const std::string& what, std::int64_t step) const;

  const model::Model& model_;
  TrainSettings settings_;
  lens::TunedParameters parameters_;
  lens::TunedParameters gradients_;
  std::unique_ptr<LensGradient> gradient_;
  std::unique_ptr<LensGradient> exact_kl_;
  Optimizer optimizer_;
  std::int64_t tokens_per_batch_ = 0, rows_per_chunk_ = 0;  // the same in every step, unless memory was short
  std::int64_t steps_done_ = 0;
};

}  // namespace depthlens::train
