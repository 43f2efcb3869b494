// From states to losses and back: translator, final norm, log-sum-exp of the logits.
#include "depthlens/train/lens_gradient.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/add.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/where.h>

#include <algorithm>

#include "depthlens/compute/expected_logits.hpp"
#include "depthlens/compute/log_probabilities.hpp"
#include "depthlens/compute/log_sum_exp.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::train {
namespace {

at::Tensor token_scale(const Damping& damping, std::int64_t vocab_size, at::Device device) {
  if (damping.mode != Damping::Mode::kVocabulary || damping.tokens.empty()) return {};
  at::Tensor scale = at::ones({vocab_size}, at::kFloat);
  for (const TokenId token : damping.tokens) {
    DEPTHLENS_ASSERT(token >= 0 && token < vocab_size);
    scale.mutable_data_ptr<float>()[token] = static_cast<float>(damping.factor);
  }
  return scale.to(device);
}

}  // namespace

/// Normalised states x̂, the factor r by which they were scaled, and the norm's output y = x̂ ∘ g + b.
struct LensGradient::Normed {
  at::Tensor standard;  // x̂ [..., d]
  at::Tensor scale;     // r [..., 1]
  at::Tensor output;    // y [..., d]
};

struct LensGradient::Evaluated {
  Normed layers;          // [L, P, d]
  at::Tensor loss;        // [L, P] float64
  at::Tensor derivative;  // [L, P, d] of the loss by the norm's output
  at::Tensor final_top;   // [P] int64
};

LensGradient::LensGradient(const model::OutputHead& head, const compute::Backend& backend,
                           compute::Precision precision, Loss loss, Damping damping)
    : head_(head),
      backend_(backend),
      precision_(precision),
      pass_(backend.vocabulary_pass(head.unembedding, precision)),
      loss_(loss),
      damping_(std::move(damping)),
      token_scale_(token_scale(damping_, pass_->vocab_size(), head.unembedding.weight.device())) {}

at::Tensor LensGradient::translated(const at::Tensor& states, const lens::TunedParameters& parameters) const {
  at::Tensor out = at::empty_like(states);
  for (std::int64_t l = 0; l < states.size(0); ++l) {
    const at::Tensor bias = parameters.biases.defined() ? parameters.biases[l] : at::Tensor();
    const at::Tensor product =
        backend_.linear(backend_.pack(states[l], precision_), parameters.weights[l], bias);
    at::Tensor layer = out[l];
    at::add_out(layer, product, states[l]);
  }
  return out;
}

LensGradient::Normed LensGradient::normed(at::Tensor states) const {
  if (head_.norm == model::NormKind::kNone) return {states, {}, states};
  const bool centres = head_.norm == model::NormKind::kLayerNorm;
  if (centres) states = states - states.mean(-1, /*keepdim=*/true);
  Normed out;
  out.scale = states.square().mean(-1, /*keepdim=*/true).add_(head_.norm_epsilon).rsqrt_();
  out.standard = centres ? states.mul_(out.scale) : states * out.scale;
  out.output = head_.norm_weight.defined() ? out.standard * head_.norm_weight : out.standard.clone();
  if (head_.norm_bias.defined()) out.output.add_(head_.norm_bias);
  return out;
}

// With g the norm's weight and x̂ the standardised state, dx = r (dy ∘ g − mean(dy ∘ g) − x̂ mean(dy ∘ g ∘ x̂));
// the first mean is layer norm's alone.
at::Tensor LensGradient::through_norm(const Normed& layers, at::Tensor derivative) const {
  if (head_.norm == model::NormKind::kNone) return derivative;
  if (head_.norm_weight.defined()) derivative.mul_(head_.norm_weight);
  const at::Tensor along = (derivative * layers.standard).mean(-1, /*keepdim=*/true);
  if (head_.norm == model::NormKind::kLayerNorm) derivative.sub_(derivative.mean(-1, /*keepdim=*/true));
  return derivative.addcmul_(layers.standard, along, -1).mul_(layers.scale);
}

LensGradient::Evaluated LensGradient::evaluate(const TrainingPositions& positions,
                                               const lens::TunedParameters& parameters,
                                               bool with_derivative) const {
  const at::ScalarType dtype = parameters.weights.scalar_type();
  const at::Tensor states = positions.states.to(dtype);  // [L, P, d]
  const std::int64_t L = states.size(0), P = states.size(1), d = states.size(2);
  Evaluated out;
  out.layers = normed(translated(states, parameters));
  const at::Tensor outputs =
      at::cat({normed(positions.final_states.to(dtype)).output, out.layers.output.view({L * P, d})});
  const at::Tensor final_output = outputs.narrow(0, 0, P);  // y_f [P, d]
  out.layers.output = outputs.narrow(0, P, L * P).view({L, P, d});
  const compute::LogSumExpValues values =
      compute::log_sum_exp(*pass_, outputs, with_derivative ? (L + 1) * P : P, token_scale_);
  out.final_top = values.top.narrow(0, 0, P);
  const at::Tensor value = values.value.narrow(0, P, L * P).view({L, P});
  at::Tensor expected;
  if (with_derivative) expected = values.gradient.narrow(0, P, L * P).view({L, P, d});
  const auto& [scale, cap] = head_.unembedding.transform;
  const at::Tensor& bias = head_.unembedding.bias;
  const auto unembedding_rows = [&](const at::Tensor& ids) {
    return head_.unembedding.weight.index_select(0, ids).to(dtype).mul(scale);  // [n, d]
  };
  const bool damped_logits = damping_.mode == Damping::Mode::kVocabulary && !damping_.tokens.empty();

  if (loss_ == Loss::kKl && cap > 0) {
    // Capped logits are not linear in the norm's output: the final distribution is kept and met once more.
    const at::Tensor final_value = values.value.narrow(0, 0, P);
    const at::Tensor final_logits = compute::logits(*pass_, pass_->pack(final_output, 1));  // [P, V]
    const at::Tensor probabilities = (final_logits - final_value.unsqueeze(1).to(dtype)).exp_();
    const at::Tensor final_expected = (probabilities * final_logits).sum(-1, /*keepdim=*/false, at::kDouble);
    const compute::ExpectedLogits of_layers =
        compute::expected_logits(*pass_, out.layers.output.view({L * P, d}), probabilities, token_scale_);
    out.loss = value - final_value - (of_layers.value.view({L, P}) - final_expected);
    if (with_derivative) out.derivative = expected.sub_(of_layers.gradient.reshape({L, P, d}));
    return out;
  }
  if (loss_ == Loss::kKl) {
    const at::Tensor final_value = values.value.narrow(0, 0, P);        // [P]
    const at::Tensor final_expected = values.gradient.narrow(0, 0, P);  // [P, d]
    at::Tensor undamped = final_expected;
    if (damped_logits) {  // the value of the divergence needs what the scale took away
      const at::Tensor ids = model::index_tensor(
          std::vector<std::int64_t>(damping_.tokens.begin(), damping_.tokens.end()), final_output.device());
      const at::Tensor rows = unembedding_rows(ids);       // [n, d]
      at::Tensor logits = at::mm(final_output, rows.t());  // [P, n]
      if (bias.defined()) logits = logits + bias.index_select(0, ids).to(dtype).mul(scale);
      const at::Tensor probabilities = (logits - final_value.unsqueeze(1).to(dtype)).exp_();
      undamped = final_expected + at::mm(probabilities, rows).mul_(1 - damping_.factor);
    }
    const at::Tensor linear =
        (out.layers.output - final_output).mul_(undamped).sum(-1, /*keepdim=*/false, at::kDouble);
    out.loss = value - final_value - linear;
    if (with_derivative) out.derivative = expected.sub_(final_expected);
    return out;
  }
  DEPTHLENS_ASSERT(static_cast<std::int64_t>(positions.targets.size()) == P);
  const at::Tensor targets = model::index_tensor(positions.targets, final_output.device());
  at::Tensor rows = unembedding_rows(targets);  // [P, d]
  at::Tensor logits = (out.layers.output * rows).sum(-1, /*keepdim=*/false, at::kDouble);
  if (bias.defined()) logits.add_(bias.index_select(0, targets).mul(scale));
  if (cap > 0) logits = (logits / cap).tanh_().mul_(cap);
  out.loss = value - logits;
  if (!with_derivative) return out;
  if (damped_logits) {
    rows = rows * token_scale_.index_select(0, targets).to(dtype).unsqueeze(1);
  }
  if (cap > 0) {
    const at::Tensor slopes = (logits / cap).square_().neg_().add_(1).to(dtype);  // [L, P]
    rows = rows * slopes.unsqueeze(-1);
  }
  out.derivative = expected.sub_(rows);
  return out;
}

std::vector<TrainingPositions> LensGradient::pieces(const TrainingPositions& positions) const {
  const std::int64_t P = positions.final_states.size(0);
  std::int64_t most = P;
  if (loss_ == Loss::kKl && head_.unembedding.transform.soft_cap > 0) {
    constexpr std::int64_t kMostKept = std::int64_t{1} << 24;  // probabilities
    most = std::max<std::int64_t>(1, kMostKept / pass_->vocab_size());
  }
  std::vector<TrainingPositions> all;
  for (std::int64_t first = 0; first < P; first += most) {
    const std::int64_t count = std::min(most, P - first);
    all.push_back({.states = positions.states.narrow(1, first, count),
                   .final_states = positions.final_states.narrow(0, first, count),
                   .targets = {}});
    if (!positions.targets.empty()) {
      const auto begin = positions.targets.begin() + first;
      all.back().targets.assign(begin, begin + count);
    }
  }
  return all;
}

at::Tensor LensGradient::loss(const TrainingPositions& positions,
                              const lens::TunedParameters& parameters) const {
  at::Tensor total;
  for (const TrainingPositions& piece : pieces(positions)) {
    const at::Tensor loss = evaluate(piece, parameters, /*with_derivative=*/false).loss.sum(1);
    total = total.defined() ? total + loss : loss;
  }
  return total;
}

at::Tensor LensGradient::accumulate(const TrainingPositions& positions,
                                    const lens::TunedParameters& parameters, double scale,
                                    lens::TunedParameters& gradients) const {
  at::Tensor total;
  for (const TrainingPositions& piece : pieces(positions)) {
    const at::Tensor loss = accumulate_piece(piece, parameters, scale, gradients);
    total = total.defined() ? total + loss : loss;
  }
  return total;
}

at::Tensor LensGradient::accumulate_piece(const TrainingPositions& positions,
                                          const lens::TunedParameters& parameters, double scale,
                                          lens::TunedParameters& gradients) const {
  Evaluated evaluated = evaluate(positions, parameters, /*with_derivative=*/true);
  at::Tensor derivative = evaluated.derivative.mul_(scale);
  if (damping_.mode == Damping::Mode::kPosition && !damping_.tokens.empty()) {
    at::Tensor damped = evaluated.final_top.eq(damping_.tokens.front());
    for (const TokenId token : damping_.tokens) damped = damped.logical_or(evaluated.final_top.eq(token));
    const at::Tensor weight =
        at::ones(damped.sizes(), derivative.options()).masked_fill_(damped, damping_.factor);
    derivative.mul_(weight.unsqueeze(1));
  }
  derivative = through_norm(evaluated.layers, std::move(derivative));  // [L, P, d]
  if (gradients.weights.defined()) {
    // Of each layer the sum over positions of the derivative's outer product with the state.
    for (std::int64_t l = 0; l < derivative.size(0); ++l) {
      const compute::PackedRows rows = backend_.pack(derivative[l].t().contiguous(), precision_);  // [d, P]
      gradients.weights[l].add_(backend_.linear_back(rows, positions.states[l].to(derivative.scalar_type())));
    }
  }
  if (gradients.biases.defined()) gradients.biases.add_(derivative.sum(1));
  return evaluated.loss.sum(1);
}

}  // namespace depthlens::train
