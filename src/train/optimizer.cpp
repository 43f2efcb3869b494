// Stochastic gradient descent with Nesterov's momentum, Adam, and Muon.
#include "depthlens/train/optimizer.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcdiv.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "depthlens/util/error.hpp"

namespace depthlens::train {
namespace {

/// As PyTorch's SGD: L2 decay joins the gradient; momentum starts with the first gradient.
class Sgd : public UpdateRule {
 public:
  Sgd(const OptimizerSettings& settings, const at::Tensor& parameter)
      : settings_(settings), momentum_(at::zeros_like(parameter)) {}

  void apply(at::Tensor& parameter, at::Tensor& gradient, double learning_rate,
             std::int64_t /*step*/) override {
    gradient.add_(parameter, settings_.weight_decay);
    momentum_.mul_(settings_.momentum).add_(gradient);
    gradient.add_(momentum_, settings_.momentum);
    parameter.add_(gradient, -learning_rate);
  }
  std::map<std::string, at::Tensor> state() const override { return {{"momentum", momentum_}}; }

 private:
  OptimizerSettings settings_;
  at::Tensor momentum_;
};

/// Adam as PyTorch has it. With `decoupled` decay it is AdamW; without, decay joins the gradient and the
/// second moment is the largest one seen (amsgrad), as in the published recipe.
class Adam : public UpdateRule {
 public:
  Adam(double weight_decay, bool decoupled, const at::Tensor& parameter)
      : weight_decay_(weight_decay),
        decoupled_(decoupled),
        first_(at::zeros_like(parameter)),
        second_(at::zeros_like(parameter)) {
    if (!decoupled) largest_ = at::zeros_like(parameter);
  }

  void apply(at::Tensor& parameter, at::Tensor& gradient, double learning_rate, std::int64_t step) override {
    constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;
    const double correction1 = 1 - std::pow(kBeta1, step), correction2 = 1 - std::pow(kBeta2, step);
    // Layer by layer, so that temporaries have the size of one.
    for (std::int64_t i = 0; i < parameter.size(0); ++i) {
      at::Tensor p = parameter[i], g = gradient[i], m = first_[i], v = second_[i];
      if (decoupled_) {
        p.mul_(1 - learning_rate * weight_decay_);
      } else {
        g.add_(p, weight_decay_);
      }
      m.mul_(kBeta1).add_(g, 1 - kBeta1);
      v.mul_(kBeta2).addcmul_(g, g, 1 - kBeta2);
      if (largest_.defined()) {
        at::Tensor largest = largest_[i];
        at::maximum_out(largest, largest, v);
        v = largest;
      }
      const at::Tensor root = (v / correction2).sqrt_().add_(kEpsilon);
      p.addcdiv_(m, root, -learning_rate / correction1);
    }
  }
  std::map<std::string, at::Tensor> state() const override {
    std::map<std::string, at::Tensor> all = {{"first_moment", first_}, {"second_moment", second_}};
    if (largest_.defined()) all.emplace("largest_second_moment", largest_);
    return all;
  }

 private:
  double weight_decay_;
  bool decoupled_;
  at::Tensor first_, second_, largest_;
};

/// Muon (Jordan et al. 2024): Nesterov's momentum, orthogonalised, with decoupled decay.
class Muon : public UpdateRule {
 public:
  Muon(const OptimizerSettings& settings, const at::Tensor& parameter)
      : settings_(settings), momentum_(at::zeros_like(parameter)) {}

  void apply(at::Tensor& parameter, at::Tensor& gradient, double learning_rate,
             std::int64_t /*step*/) override {
    const double beta = settings_.momentum;
    momentum_.mul_(beta).add_(gradient, 1 - beta);
    gradient.mul_(1 - beta).add_(momentum_, beta);
    for (std::int64_t i = 0; i < parameter.size(0); ++i) {
      parameter[i]
          .mul_(1 - learning_rate * settings_.weight_decay)
          .add_(orthogonalised(gradient[i]), -learning_rate);
    }
  }
  std::map<std::string, at::Tensor> state() const override { return {{"momentum", momentum_}}; }

 private:
  OptimizerSettings settings_;
  at::Tensor momentum_;
};

constexpr double kAdamRate = 1e-3;
constexpr double kMuonRate = 1e-1;  // of several the best on two models: docs/training.md
constexpr double kMuonBiasRate = 1e-2;

}  // namespace

double base_rate(const OptimizerSettings& settings) {
  switch (settings.kind) {
    case OptimizerKind::kSgd:
      return 1 - settings.momentum;
    case OptimizerKind::kAdam:
      return kAdamRate;
    case OptimizerKind::kMuon:
      return kMuonRate;
  }
  DEPTHLENS_ASSERT(false);
  return 0;
}

at::Tensor orthogonalised(const at::Tensor& x) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
  at::Tensor y = x / (at::linalg_vector_norm(x) + 1e-30);
  for (int i = 0; i < 5; ++i) {
    const at::Tensor square = at::mm(y, y.t());
    const at::Tensor polynomial = at::mm(square, square).mul_(kC).add_(square, kB);
    y = at::mm(polynomial, y).add_(y, kA);
  }
  return y;
}

OptimizerSettings default_settings(OptimizerKind kind, std::int64_t steps) {
  OptimizerSettings settings{.kind = kind};
  // Adam's first steps are as long as any, whatever the gradient: they start small.
  if (kind == OptimizerKind::kAdam) settings.warmup_steps = std::min<std::int64_t>(steps / 5, 1000);
  if (kind == OptimizerKind::kMuon) settings.momentum = 0.95;
  return settings;
}

double learning_rate(const TrainSettings& settings, std::int64_t step) {
  const OptimizerSettings& optimizer = settings.optimizer;
  const double full = base_rate(optimizer) * optimizer.lr_scale;
  const auto done = static_cast<double>(step), warmup = static_cast<double>(optimizer.warmup_steps);
  if (step < optimizer.warmup_steps) return full * (done + 1) / (warmup + 1);
  const double falling = std::max(1.0, static_cast<double>(settings.steps) - warmup);
  return full * std::max(0.0, static_cast<double>(settings.steps) - done) / falling;
}

Optimizer::Optimizer(const OptimizerSettings& settings, const lens::TunedParameters& parameters) {
  const auto make = [&](const at::Tensor& parameter) -> std::unique_ptr<UpdateRule> {
    if (!parameter.defined()) return nullptr;
    switch (settings.kind) {
      case OptimizerKind::kSgd:
        return std::make_unique<Sgd>(settings, parameter);
      case OptimizerKind::kAdam:
        return std::make_unique<Adam>(settings.weight_decay, /*decoupled=*/false, parameter);
      case OptimizerKind::kMuon:
        if (parameter.dim() == 3) return std::make_unique<Muon>(settings, parameter);
        return std::make_unique<Adam>(settings.weight_decay, /*decoupled=*/true, parameter);
    }
    DEPTHLENS_ASSERT(false);
    return nullptr;
  };
  weights_ = make(parameters.weights);
  biases_ = make(parameters.biases);
  if (settings.kind == OptimizerKind::kMuon) bias_rate_ = kMuonBiasRate / kMuonRate;
}

void Optimizer::step(lens::TunedParameters& parameters, lens::TunedParameters& gradients,
                     double learning_rate, std::int64_t step) {
  if (gradients.weights.defined())
    weights_->apply(parameters.weights, gradients.weights, learning_rate, step);
  if (gradients.biases.defined())
    biases_->apply(parameters.biases, gradients.biases, learning_rate * bias_rate_, step);
}

std::map<std::string, at::Tensor> Optimizer::state() const {
  std::map<std::string, at::Tensor> all;
  const auto add = [&](const std::string& prefix, const UpdateRule* rule) {
    if (rule == nullptr) return;
    for (const auto& [name, tensor] : rule->state()) all.emplace(prefix + name, tensor);
  };
  add("weights.", weights_.get());
  add("biases.", biases_.get());
  return all;
}

}  // namespace depthlens::train
