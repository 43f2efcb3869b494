// Windows through the model, chunks of positions through the lens' gradient, a step of the optimizer.
#include "depthlens/train/tuned_trainer.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "depthlens/compute/attention.hpp"
#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/model/finite.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::train {
namespace {

constexpr std::int64_t kMinPositions = 32;  // of a chunk

/// Positions of each chunk, of `total` in all: chunks as equal as they can be, of at most `most_rows` states
/// unless `kMinPositions` have more.
std::int64_t positions_of_chunk(std::int64_t total, std::int64_t num_states, std::int64_t most_rows) {
  const std::int64_t most = std::max(kMinPositions, most_rows / num_states / kMinPositions * kMinPositions);
  const std::int64_t num_chunks = std::max<std::int64_t>(1, util::ceil_div(total, most));
  return util::round_up(util::ceil_div(total, num_chunks), kMinPositions);
}

std::vector<double> to_vector(const at::Tensor& values) {
  const at::Tensor host = values.to(at::kCPU, at::kDouble).contiguous();
  return {host.const_data_ptr<double>(), host.const_data_ptr<double>() + host.numel()};
}

/// With the number of layers spelled out.
TrainSettings resolved(TrainSettings settings, std::int64_t num_layers) {
  if (settings.num_layers == 0) settings.num_layers = num_layers - settings.first_layer;
  DEPTHLENS_ASSERT(settings.first_layer >= 0 && settings.num_layers >= 1 &&
                   settings.first_layer + settings.num_layers <= num_layers);
  return settings;
}

at::Tensor trained_part(const at::Tensor& all, const TrainSettings& settings, at::Device device) {
  if (!all.defined()) return {};
  return all.narrow(0, settings.first_layer, settings.num_layers).to(device).clone();
}

bool all_finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
}

}  // namespace

double mean_over_layers(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

TunedTrainer::TunedTrainer(const model::Model& model, TrainSettings settings,
                           const lens::TunedParameters& initial)
    : model_(model),
      settings_(resolved(std::move(settings), model.spec().num_layers)),
      parameters_{trained_part(initial.weights, settings_, model.device()),
                  trained_part(initial.biases, settings_, model.device())},
      optimizer_(settings_.optimizer,
                 {settings_.bias_only ? at::Tensor() : parameters_.weights, parameters_.biases}) {
  const auto gradient = [&](compute::Precision precision, Loss loss, const Damping& damping) {
    return std::make_unique<LensGradient>(model.head(), model.backend(), precision, loss, damping);
  };
  gradient_ = gradient(settings_.precision, settings_.loss, settings_.damping);
  exact_kl_ = gradient(compute::Precision::kFloat32, Loss::kKl, {});
  if (!settings_.bias_only) gradients_.weights = at::zeros_like(parameters_.weights);
  if (parameters_.biases.defined()) gradients_.biases = at::zeros_like(parameters_.biases);
  // The optimizer's state is to come.
  const double times = model.streams_layers() ? model.backend().work_sizes().memory_where_streamed : 0.5;
  tokens_per_batch_ =
      model.tokens_at_once(settings_.num_layers + 1, times * static_cast<double>(model.memory()));
  rows_per_chunk_ = model.backend().work_sizes().rows_per_chunk;
}

lens::TunedParameters TunedTrainer::zeros(const model::Model& model, bool biases) {
  const std::int64_t L = model.spec().num_layers, d = model.spec().hidden_size;
  return {.weights = at::zeros({L, d, d}, at::kFloat),
          .biases = biases ? at::zeros({L, d}, at::kFloat) : at::Tensor()};
}

lens::TunedParameters TunedTrainer::zeros_like(const lens::TunedParameters& parameters) {
  return {.weights = at::zeros_like(parameters.weights),
          .biases = parameters.biases.defined() ? at::zeros_like(parameters.biases) : at::Tensor()};
}

/// Calls `use(positions)` for chunks of all positions of the windows, or of those that a token follows.
template <typename Use>
void TunedTrainer::for_each_chunk(const std::vector<Window>& windows, bool followed_only,
                                  const Use& use) const {
  const std::int64_t L = model_.spec().num_layers;
  const std::int64_t first_layer = settings_.first_layer, end_layer = first_layer + settings_.num_layers;
  for (std::size_t next = 0; next < windows.size();) {
    model::PackedWindows batch;
    std::vector<std::int64_t> rows, targets;
    while (next < windows.size()) {
      const Window& window = windows[next];
      const auto start = static_cast<std::int64_t>(batch.tokens.size());
      const auto length = static_cast<std::int64_t>(window.size());
      if (start > 0 && start + length > tokens_per_batch_) break;
      if (batch.lengths.size() == compute::kMaxWindows) break;
      batch.tokens.insert(batch.tokens.end(), window.begin(), window.end());
      batch.lengths.push_back(length);
      for (std::int64_t t = 0; t < length; ++t) {
        const bool followed = t + 1 < length;
        if (followed_only && !followed) continue;
        rows.push_back(start + t);
        targets.push_back(followed ? window[static_cast<std::size_t>(t) + 1] : text::kNoToken);
      }
      ++next;
    }
    std::vector<at::Tensor> residuals;  // of the layers that are trained, then of the last: [T, d]
    const auto keep = [&](std::int64_t layer, const at::Tensor& states) {
      if ((layer >= first_layer && layer < end_layer) || layer == L) residuals.push_back(states);
    };
    model::forward_finite(model_, batch, keep, [&](std::int64_t row) {
      return util::cat("token ", batch.tokens[static_cast<std::size_t>(row)], " of a window");
    });
    const auto total = static_cast<std::int64_t>(rows.size());
    const std::int64_t chunk = positions_of_chunk(total, settings_.num_layers + 1, rows_per_chunk_);
    for (std::int64_t first = 0; first < total; first += chunk) {
      const std::int64_t count = std::min(chunk, total - first);
      const std::vector<std::int64_t> chosen(rows.begin() + first, rows.begin() + first + count);
      const at::Tensor index = model::index_tensor(chosen, model_.device());
      const at::Tensor& last = residuals.back();
      const at::Tensor states = at::empty({settings_.num_layers, count, last.size(1)}, last.options());
      for (std::int64_t i = 0; i < settings_.num_layers; ++i) {
        at::Tensor layer = states[i];
        at::index_select_out(layer, residuals[static_cast<std::size_t>(i)], 0, index);
      }
      use(TrainingPositions{.states = states,
                            .final_states = last.index_select(0, index),
                            .targets = {targets.begin() + first, targets.begin() + first + count}});
    }
  }
}

bool TunedTrainer::take_smaller_parts(const std::vector<Window>& windows) {
  std::int64_t tokens = 0, longest = 0;
  for (const Window& window : windows) {
    const auto length = static_cast<std::int64_t>(window.size());
    tokens += length;
    longest = std::max(longest, length);
  }
  const std::int64_t num_states = settings_.num_layers + 1;
  // A window is never cut.
  const std::int64_t of_batch = std::max(longest, std::min(tokens_per_batch_, tokens)),
                     of_chunk = std::min(rows_per_chunk_, of_batch * num_states);
  if (of_batch == longest && of_chunk <= kMinPositions * num_states) return false;
  tokens_per_batch_ = of_batch / 2;
  rows_per_chunk_ = of_chunk / 2;
  return true;
}

StepResult TunedTrainer::step(const std::vector<Window>& windows) {
  const c10::InferenceMode inference;
  const bool followed_only = settings_.loss == Loss::kCrossEntropy;
  StepResult result;
  result.step = steps_done_ + 1;
  result.learning_rate = learning_rate(settings_, steps_done_);
  for (const Window& window : windows) {
    result.positions += static_cast<std::int64_t>(window.size()) - (followed_only ? 1 : 0);
  }
  DEPTHLENS_ASSERT(result.positions > 0);
  at::Tensor loss = at::zeros({settings_.num_layers}, at::TensorOptions(at::kDouble).device(model_.device()));
  const auto sum_up = [&] {
    for (const at::Tensor& sum : {gradients_.weights, gradients_.biases, loss}) {
      if (sum.defined()) sum.zero_();
    }
    for_each_chunk(windows, followed_only, [&](const TrainingPositions& positions) {
      loss.add_(gradient_->accumulate(positions, parameters_, 1 / static_cast<double>(result.positions),
                                      gradients_));
    });
  };
  compute::retry_with_less(model_.device(), sum_up, [&] { return take_smaller_parts(windows); });
  // The norm of each layer, and of all together; with the loss they come to the host at once.
  at::Tensor squares = at::zeros_like(loss);
  for (const at::Tensor& gradient : {gradients_.weights, gradients_.biases}) {
    if (gradient.defined())
      squares.add_(at::linalg_vector_norm(gradient.flatten(1), 2, 1).to(at::kDouble).square_());
  }
  const std::vector<double> told =
      to_vector(at::cat({loss.div_(static_cast<double>(result.positions)), squares.sqrt_()}));
  result.loss.assign(told.begin(), told.begin() + settings_.num_layers);
  result.gradient_norm.assign(told.begin() + settings_.num_layers, told.end());
  for (const double norm : result.gradient_norm)
    result.total_gradient_norm = std::hypot(result.total_gradient_norm, norm);
  if (!std::isfinite(result.total_gradient_norm) || !all_finite(result.loss))
    refuse("the loss or its gradient is not a finite number", result.step);
  const double clip_norm = settings_.clip_norm * std::sqrt(static_cast<double>(settings_.num_layers) /
                                                           static_cast<double>(model_.spec().num_layers));
  if (result.total_gradient_norm > clip_norm) {
    const double factor = clip_norm / (result.total_gradient_norm + 1e-6);
    for (at::Tensor* gradient : {&gradients_.weights, &gradients_.biases}) {
      if (gradient->defined()) gradient->mul_(factor);
    }
  }
  optimizer_.step(parameters_, gradients_, result.learning_rate, result.step);
  ++steps_done_;
  return result;
}

std::vector<double> TunedTrainer::mean_kl(const std::vector<Window>& windows) {
  const c10::InferenceMode inference;
  std::int64_t count = 0;
  at::Tensor sum = at::zeros({settings_.num_layers}, at::TensorOptions(at::kDouble).device(model_.device()));
  const auto sum_up = [&] {
    count = 0;
    sum.zero_();
    for_each_chunk(windows, /*followed_only=*/false, [&](const TrainingPositions& positions) {
      count += positions.final_states.size(0);
      sum.add_(exact_kl_->loss(positions, parameters_));
    });
  };
  compute::retry_with_less(model_.device(), sum_up, [&] { return take_smaller_parts(windows); });
  std::vector<double> mean = to_vector(sum.div_(static_cast<double>(count)));
  if (!all_finite(mean)) refuse("the held out KL is not a finite number", steps_done_);
  return mean;
}

void TunedTrainer::require_finite() const {
  const c10::InferenceMode inference;
  for (const auto& [name, tensor] : state()) {
    if (!model::largest(tensor).isfinite().item<bool>())
      refuse("the translators, or what the optimizer keeps of them, are not finite numbers", steps_done_);
  }
}

void TunedTrainer::refuse(const std::string& what, std::int64_t step) const {
  model::refuse_not_finite(
      model_, {.what = what,
               .where = util::cat("step ", step),
               .hint = step == 0 ? "no step was made yet: the lens of --init gives them"
                                 : "try a smaller --lr-scale, or --dtype float32; a checkpoint that is there "
                                   "stays"});
}

std::map<std::string, at::Tensor> TunedTrainer::state() const {
  std::map<std::string, at::Tensor> all = {{"parameters.weights", parameters_.weights}};
  if (parameters_.biases.defined()) all.emplace("parameters.biases", parameters_.biases);
  for (const auto& [name, tensor] : optimizer_.state()) all.emplace("optimizer." + name, tensor);
  return all;
}

void TunedTrainer::restore(const std::map<std::string, at::Tensor>& state, std::int64_t steps_done) {
  for (auto& [name, tensor] : this->state()) const_cast<at::Tensor&>(tensor).copy_(state.at(name));
  steps_done_ = steps_done;
}

}  // namespace depthlens::train
