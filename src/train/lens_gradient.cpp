// From states to losses and back: translator, final norm, log-sum-exp of the logits.
#include "depthlens/train/lens_gradient.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/add.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <limits>

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

/// Of the pass over the vocabulary: what the losses are made from.
struct LensGradient::Sums {
  at::Tensor final_output;    // y_f [P, d]
  at::Tensor final_value;     // [P] float64, log-sum-exp of the final layer
  at::Tensor final_expected;  // [P, d] its gradient
  at::Tensor value;           // [L, P] float64, of the layers
  at::Tensor expected;        // [L, P, d]; undefined where no derivative is wanted
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
  // Of a state whose squares overflow: it would count as 0. The loss is to tell.
  out.scale.masked_fill_(out.scale == 0, std::numeric_limits<double>::quiet_NaN());
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
  out.layers.output = outputs.narrow(0, P, L * P).view({L, P, d});
  const compute::LogSumExpValues values =
      compute::log_sum_exp(*pass_, outputs, with_derivative ? (L + 1) * P : P, token_scale_);
  out.final_top = values.top.narrow(0, 0, P);
  const Sums sums{
      .final_output = outputs.narrow(0, 0, P),
      .final_value = values.value.narrow(0, 0, P),
      .final_expected = values.gradient.narrow(0, 0, P),
      .value = values.value.narrow(0, P, L * P).view({L, P}),
      .expected = with_derivative ? values.gradient.narrow(0, P, L * P).view({L, P, d}) : at::Tensor()};
  if (loss_ == Loss::kCrossEntropy) {
    DEPTHLENS_ASSERT(static_cast<std::int64_t>(positions.targets.size()) == P);
    set_cross_entropy(sums, positions.targets, out);
  } else if (head_.unembedding.transform.soft_cap > 0) {
    set_capped_divergence(sums, out);
  } else {
    set_divergence(sums, out);
  }
  return out;
}

bool LensGradient::damps_logits() const {
  return damping_.mode == Damping::Mode::kVocabulary && !damping_.tokens.empty();
}

// Logits are linear in the norm's output: two expected rows of the unembedding tell all.
void LensGradient::set_divergence(const Sums& sums, Evaluated& out) const {
  // The value needs what a scale of tokens takes away from the derivative.
  const at::Tensor expected =
      damps_logits() ? compute::log_sum_exp(*pass_, sums.final_output, sums.final_output.size(0)).gradient
                     : sums.final_expected;
  const at::Tensor linear =
      (out.layers.output - sums.final_output).mul_(expected).sum(-1, /*keepdim=*/false, at::kDouble);
  out.loss = sums.value - sums.final_value - linear;
  if (sums.expected.defined()) out.derivative = sums.expected.sub_(sums.final_expected);
}

// Capped logits are not linear in the norm's output: the final distribution is kept and met once more.
void LensGradient::set_capped_divergence(const Sums& sums, Evaluated& out) const {
  const at::ScalarType dtype = sums.final_output.scalar_type();
  const at::Tensor final_logits = compute::logits(*pass_, pass_->pack(sums.final_output, 1));  // [P, V]
  const at::Tensor probabilities = (final_logits - sums.final_value.unsqueeze(1).to(dtype)).exp_();
  const at::Tensor final_expected = (probabilities * final_logits).sum(-1, /*keepdim=*/false, at::kDouble);
  const compute::ExpectedLogits of_layers = compute::expected_logits(
      *pass_, out.layers.output.view({-1, out.layers.output.size(2)}), probabilities, token_scale_);
  out.loss = sums.value - sums.final_value - (of_layers.value.view(sums.value.sizes()) - final_expected);
  if (sums.expected.defined())
    out.derivative = sums.expected.sub_(of_layers.gradient.reshape(sums.expected.sizes()));
}

// Of the targets' logits, from the products that the sums are of.
void LensGradient::set_cross_entropy(const Sums& sums, const std::vector<std::int64_t>& targets,
                                     Evaluated& out) const {
  const at::ScalarType dtype = sums.final_output.scalar_type();
  const auto& [scale, cap] = head_.unembedding.transform;
  const at::Tensor& outputs = out.layers.output;  // [L, P, d]
  const at::Tensor logits = pass_
                                ->gather(pass_->pack(outputs.view({-1, outputs.size(2)}), outputs.size(0)),
                                         std::vector<TokenId>(targets.begin(), targets.end()))
                                .squeeze(-1);  // [L, P]
  out.loss = sums.value - logits;
  if (!sums.expected.defined()) return;
  const at::Tensor ids = model::index_tensor(targets, outputs.device());
  at::Tensor rows = head_.unembedding.weight.index_select(0, ids).to(dtype).mul_(scale);  // [P, d]
  if (damps_logits()) rows = rows * token_scale_.index_select(0, ids).to(dtype).unsqueeze(1);
  if (cap > 0) {
    const at::Tensor slopes = (logits / cap).square_().neg_().add_(1).to(dtype);  // [L, P]
    rows = rows * slopes.unsqueeze(-1);
  }
  out.derivative = sums.expected.sub_(rows);
}

std::vector<TrainingPositions> LensGradient::pieces(const TrainingPositions& positions) const {
  const std::int64_t P = positions.final_states.size(0);
  std::int64_t most = P;
  if (loss_ == Loss::kKl && head_.unembedding.transform.soft_cap > 0) {
    constexpr std::int64_t kMaxKept = std::int64_t{1} << 24;  // probabilities
    most = std::max<std::int64_t>(1, kMaxKept / pass_->vocab_size());
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
