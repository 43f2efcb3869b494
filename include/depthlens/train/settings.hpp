// The settings of a lens' training, with the defaults of the tuned lens' published recipe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/text/token.hpp"

namespace depthlens::train {

using text::TokenId;

/// `kKl`: KL(final ‖ layer), mean over all positions. `kCrossEntropy`: of the token that follows, mean over
/// the positions that one follows.
enum class Loss { kKl, kCrossEntropy };

enum class OptimizerKind { kSgd, kAdam, kMuon };

/// The update of some tokens made smaller, for the paper's control (docs/methods.md).
struct Damping {
  /// `kPosition`: the loss of a position whose final top-1 is such a token is multiplied by `factor`.
  /// `kVocabulary`: the derivative by such a token's logit is, at every position.
  enum class Mode { kPosition, kVocabulary };
  std::vector<TokenId> tokens;  ///< empty: none
  double factor = 1;
  Mode mode = Mode::kPosition;
};

struct OptimizerSettings {
  OptimizerKind kind = OptimizerKind::kSgd;
  double lr_scale = 1;  ///< multiplies the optimizer's own learning rate
  double momentum = 0.9;
  double weight_decay = 1e-3;
  std::int64_t warmup_steps = 0;  ///< of a rise from 0, before the linear fall to 0
};

/// The defaults of a kind of optimizer: the published recipe's. What they reach: docs/training.md.
OptimizerSettings default_settings(OptimizerKind kind, std::int64_t steps);

/// The learning rate before `lr_scale`, warm-up and fall.
double base_rate(const OptimizerSettings& settings);

struct TrainSettings {
  std::int64_t steps = 250;
  Loss loss = Loss::kKl;
  OptimizerSettings optimizer;
  bool bias_only = false;  ///< weights stay as they are
  /// Of the gradient of all layers together. Where a process trains n of them, its bound is √(n / L) of this.
  double clip_norm = 1;
  std::int64_t first_layer = 0;
  std::int64_t num_layers = 0;  ///< trained; 0: all from the first on
  Damping damping;
  /// Of the products with the vocabulary.
  compute::Precision precision = compute::Precision::kFast;
};

/// The learning rate of step 0 ≤ step < steps.
double learning_rate(const TrainSettings& settings, std::int64_t step);

}  // namespace depthlens::train
