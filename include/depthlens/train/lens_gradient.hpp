// The loss of a tuned lens on some positions, and its gradient, derived by hand (docs/methods.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/vocabulary_pass.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/train/settings.hpp"

namespace depthlens::train {

/// P positions of a model's run.
struct TrainingPositions {
  at::Tensor states;                  ///< [L, P, d]: layers 0 … L − 1
  at::Tensor final_states;            ///< [P, d]: layer L
  std::vector<std::int64_t> targets;  ///< P tokens that follow; used by the cross-entropy only
};

class LensGradient {
 public:
  /// `head` and `backend` must outlive the object. Products with translators and with the unembedding are of
  /// that precision, or of more (compute/backend.hpp).
  LensGradient(const model::OutputHead& head, const compute::Backend& backend, compute::Precision precision,
               Loss loss, Damping damping);

  /// Adds the gradient of `scale` · Σ over positions of the loss, damped, to `gradients` (of which an
  /// undefined tensor is left out) and returns the undamped loss per layer, summed over positions: [L]
  /// float64. All is computed in the parameters' dtype.
  at::Tensor accumulate(const TrainingPositions& positions, const lens::TunedParameters& parameters,
                        double scale, lens::TunedParameters& gradients) const;

  /// The loss alone.
  at::Tensor loss(const TrainingPositions& positions, const lens::TunedParameters& parameters) const;

  const compute::VocabularyPass& pass() const { return *pass_; }

 private:
  struct Normed;
  struct Sums;
  struct Evaluated;
  /// h + A h + b for each layer: [L, P, d].
  at::Tensor translated(const at::Tensor& states, const lens::TunedParameters& parameters) const;
  Normed normed(at::Tensor states) const;
  /// What a derivative by the norm's output is by its input.
  at::Tensor through_norm(const Normed& layers, at::Tensor derivative) const;
  /// What is evaluated at once: all, or where final distributions are kept as many positions as they may
  /// take.
  std::vector<TrainingPositions> pieces(const TrainingPositions& positions) const;
  at::Tensor accumulate_piece(const TrainingPositions& positions, const lens::TunedParameters& parameters,
                              double scale, lens::TunedParameters& gradients) const;
  Evaluated evaluate(const TrainingPositions& positions, const lens::TunedParameters& parameters,
                     bool with_derivative) const;
  /// Each sets the loss, and the derivative where it is wanted.
  void set_divergence(const Sums& sums, Evaluated& out) const;
  void set_capped_divergence(const Sums& sums, Evaluated& out) const;
  void set_cross_entropy(const Sums& sums, const std::vector<std::int64_t>& targets, Evaluated& out) const;
  bool damps_logits() const;

  const model::OutputHead& head_;
  const compute::Backend& backend_;
  compute::Precision precision_;
  std::unique_ptr<compute::VocabularyPass> pass_;
  Loss loss_;
  Damping damping_;
  at::Tensor token_scale_;  // [V] float32 for the damping of tokens' logits; undefined without that
};

}  // namespace depthlens::train
