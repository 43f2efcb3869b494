// The hand-derived gradient of the lens against libtorch's automatic differentiation, in float64.
#include "depthlens/train/lens_gradient.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "depthlens/train/tuned_trainer.hpp"
#include "support/catch.hpp"
#include "support/devices.hpp"

namespace depthlens {
namespace {

using train::Damping;
using train::Loss;

constexpr std::int64_t kL = 3, kP = 5, kD = 7, kV = 11;

model::OutputHead random_head(model::NormKind norm, bool bias, bool norm_weight = true,
                              const compute::LogitTransform& transform = {}) {
  const auto options = at::TensorOptions(at::kDouble);
  model::OutputHead head;
  head.norm = norm;
  head.norm_epsilon = 1e-5;
  if (norm_weight) head.norm_weight = at::rand({kD}, options) + 0.5;
  if (norm_weight && norm == model::NormKind::kLayerNorm) head.norm_bias = at::randn({kD}, options);
  head.unembedding.weight = at::randn({kV, kD}, options);
  head.unembedding.transform = transform;
  if (bias) head.unembedding.bias = at::randn({kV}, options);
  return head;
}

at::Tensor logits_of(const model::OutputHead& head, const at::Tensor& states) {
  at::Tensor x = states;
  if (head.norm == model::NormKind::kLayerNorm) x = x - x.mean(-1, true);
  if (head.norm != model::NormKind::kNone) x = x / (x.square().mean(-1, true) + head.norm_epsilon).sqrt();
  if (head.norm_weight.defined()) x = x * head.norm_weight;
  if (head.norm_bias.defined()) x = x + head.norm_bias;
  at::Tensor z = at::matmul(x, head.unembedding.weight.t());
  if (head.unembedding.bias.defined()) z = z + head.unembedding.bias;
  const auto& [scale, cap] = head.unembedding.transform;
  return cap > 0 ? (z * scale / cap).tanh() * cap : z * scale;
}

struct Expected {
  at::Tensor loss;  // [L], summed over positions
  at::Tensor weights, biases;
};

/// The same by definition: full distributions, and gradients by libtorch.
Expected by_autograd(const model::OutputHead& head, const train::TrainingPositions& positions,
                     const lens::TunedParameters& parameters, Loss loss, const Damping& damping,
                     double scale) {
  const at::Tensor weights = parameters.weights.clone().requires_grad_(true);
  const at::Tensor biases = parameters.biases.clone().requires_grad_(true);
  const at::Tensor translated =
      positions.states + at::baddbmm(biases.unsqueeze(1), positions.states, weights.transpose(1, 2));
  at::Tensor z = logits_of(head, translated);  // [L, P, V]
  at::Tensor pass = at::ones({kV}, z.options());
  at::Tensor weight = at::ones({kP}, z.options());
  const at::Tensor final_logits = logits_of(head, positions.final_states);
  for (const auto token : damping.tokens) {
    if (damping.mode == Damping::Mode::kVocabulary) pass[token] = damping.factor;
    if (damping.mode == Damping::Mode::kPosition)
      weight = weight.masked_fill(final_logits.argmax(-1).eq(token), damping.factor);
  }
  z = z * pass + z.detach() * (1 - pass);  // the same values, with only a part of the gradient
  const at::Tensor logprobs = at::log_softmax(z, -1);
  at::Tensor losses;  // [L, P]
  if (loss == Loss::kKl) {
    const at::Tensor final_logprobs = at::log_softmax(final_logits, -1);
    losses = (final_logprobs.exp() * (final_logprobs - logprobs)).sum(-1);
  } else {
    const at::Tensor targets = at::tensor(positions.targets, at::kLong).view({1, kP, 1}).expand({kL, kP, 1});
    losses = -logprobs.gather(2, targets).squeeze(2);
  }
  const auto gradients = torch::autograd::grad({(losses * weight).sum() * scale}, {weights, biases});
  return {.loss = losses.sum(1).detach(), .weights = gradients[0], .biases = gradients[1]};
}

/// In float64, by libtorch's operations.
std::shared_ptr<const compute::Backend> plain_backend(at::Device device) {
  return compute::Backend::create({.device = device.str(), .kernel = device.is_cpu() ? "aten" : ""});
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.cpu() - b.cpu()).abs().max().item<double>();
}

TEST_CASE("the gradient by hand equals automatic differentiation in float64") {
  const auto options = at::TensorOptions(at::kDouble);
  const std::vector<Damping> dampings = {
      {},
      {.tokens = {2, 5, 7}, .factor = 0.001, .mode = Damping::Mode::kPosition},
      {.tokens = {2, 5, 7}, .factor = 0.25, .mode = Damping::Mode::kVocabulary}};
  using model::NormKind;
  struct Head {
    NormKind norm;
    bool weight;
    compute::LogitTransform transform;
  };
  for (const auto& [norm, weight, transform] :
       std::vector<Head>{{NormKind::kLayerNorm, true, {}},
                         {NormKind::kRmsNorm, true, {}},
                         {NormKind::kLayerNorm, false, {}},
                         {NormKind::kRmsNorm, true, {.scale = 0.3}},
                         {NormKind::kNone, false, {.scale = 1.7}},
                         {NormKind::kRmsNorm, true, {.soft_cap = 2}},
                         {NormKind::kLayerNorm, true, {.scale = 0.5, .soft_cap = 1}}}) {
    for (const bool bias : {false, true}) {
      const model::OutputHead head = random_head(norm, bias, weight, transform);
      for (const Loss loss : {Loss::kKl, Loss::kCrossEntropy}) {
        for (const Damping& damping : dampings) {
          INFO("norm " << static_cast<int>(norm) << ", weight " << weight << ", scale " << transform.scale
                       << ", cap " << transform.soft_cap << ", bias " << bias << ", KL "
                       << (loss == Loss::kKl) << ", damped " << damping.tokens.size() << ", by position "
                       << (damping.mode == Damping::Mode::kPosition));
          const train::TrainingPositions positions{.states = at::randn({kL, kP, kD}, options),
                                                   .final_states = at::randn({kP, kD}, options),
                                                   .targets = {3, 5, 0, 10, 7}};
          const lens::TunedParameters parameters{.weights = at::randn({kL, kD, kD}, options) * 0.3,
                                                 .biases = at::randn({kL, kD}, options) * 0.3};
          const double scale = 0.2;
          const Expected expected = by_autograd(head, positions, parameters, loss, damping, scale);
          for (const std::string& device : test::devices()) {
            INFO("on " << device);
            const model::OutputHead there = test::moved(head, device);
            const train::TrainingPositions read{.states = test::moved(positions.states, device),
                                                .final_states = test::moved(positions.final_states, device),
                                                .targets = positions.targets};
            const lens::TunedParameters used{.weights = test::moved(parameters.weights, device),
                                             .biases = test::moved(parameters.biases, device)};
            const auto backend = plain_backend(there.unembedding.weight.device());
            const train::LensGradient gradient(there, *backend, compute::Precision::kFloat32, loss, damping);
            lens::TunedParameters found = train::TunedTrainer::zeros_like(used);
            const at::Tensor losses = gradient.accumulate(read, used, scale, found);
            // The factors of damping are kept in float32.
            const double tolerance = damping.mode == Damping::Mode::kVocabulary ? 1e-7 : 1e-12;
            CHECK(largest_difference(losses, expected.loss) < tolerance);
            CHECK(largest_difference(found.weights, expected.weights) < tolerance);
            CHECK(largest_difference(found.biases, expected.biases) < tolerance);
            CHECK(largest_difference(gradient.loss(read, used), losses) < 1e-12);
          }
        }
      }
    }
  }
}

TEST_CASE("gradients of several chunks add up, and what is undefined is left out") {
  const auto options = at::TensorOptions(at::kDouble);
  const model::OutputHead head = random_head(model::NormKind::kRmsNorm, false);
  const auto backend = plain_backend(at::kCPU);
  const train::LensGradient gradient(head, *backend, compute::Precision::kFloat32, Loss::kKl, {});
  const train::TrainingPositions all{.states = at::randn({kL, kP, kD}, options),
                                     .final_states = at::randn({kP, kD}, options),
                                     .targets = {}};
  const lens::TunedParameters parameters{.weights = at::randn({kL, kD, kD}, options),
                                         .biases = at::randn({kL, kD}, options)};
  lens::TunedParameters whole{.weights = at::zeros_like(parameters.weights),
                              .biases = at::zeros_like(parameters.biases)};
  lens::TunedParameters parts = {.weights = {}, .biases = at::zeros_like(parameters.biases)};
  const at::Tensor loss = gradient.accumulate(all, parameters, 1, whole);
  at::Tensor sum = at::zeros_like(loss);
  for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, 2}, {2, 3}}) {
    sum.add_(gradient.accumulate({.states = all.states.narrow(1, first, count),
                                  .final_states = all.final_states.narrow(0, first, count),
                                  .targets = {}},
                                 parameters, 1, parts));
  }
  CHECK(largest_difference(sum, loss) < 1e-12);
  CHECK(largest_difference(parts.biases, whole.biases) < 1e-12);
  CHECK_FALSE(parts.weights.defined());
}

}  // namespace
}  // namespace depthlens
