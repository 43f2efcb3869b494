// Rules that turn gradients into new parameters. Each holds its state as named tensors, so that training can
// stop and go on with the same bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>

#include "depthlens/lens/lens_file.hpp"
#include "depthlens/train/settings.hpp"

namespace depthlens::train {

/// One tensor's rule. `apply` uses up the gradient.
class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  /// `step` counts from 1.
  virtual void apply(at::Tensor& parameter, at::Tensor& gradient, double learning_rate,
                     std::int64_t step) = 0;
  /// The state's tensors, shared, under names of their own; all have the parameter's shape.
  virtual std::map<std::string, at::Tensor> state() const = 0;
};

/// The rules of a lens: one for the weights [L, d, d], one for the biases [L, d].
class Optimizer {
 public:
  /// State is made for `parameters`, filled with zeros.
  Optimizer(const OptimizerSettings& settings, const lens::TunedParameters& parameters);

  /// Changes `parameters` and uses up `gradients`; undefined gradients leave their parameter alone.
  void step(lens::TunedParameters& parameters, lens::TunedParameters& gradients, double learning_rate,
            std::int64_t step);

  /// "weights.momentum", "biases.momentum", …: shared, so that copying into them restores a state.
  std::map<std::string, at::Tensor> state() const;

 private:
  std::unique_ptr<UpdateRule> weights_;
  std::unique_ptr<UpdateRule> biases_;
  double bias_rate_ = 1;  // of the biases' learning rate to the weights'
};

/// x of matrices [L, d, d] with their singular values brought near 1: five steps of Newton–Schulz' iteration
/// with the coefficients of Jordan et al. 2024, which end between about 0.7 and 1.2.
at::Tensor orthogonalised(const at::Tensor& x);

}  // namespace depthlens::train
