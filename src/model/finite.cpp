// Numbers that are not finite: where they come from.
#include "depthlens/model/finite.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "depthlens/model/model.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::model {

at::Tensor largest(const at::Tensor& values) {
  return at::linalg_vector_norm(values, std::numeric_limits<double>::infinity());
}

void refuse_not_finite(const Model& model, util::ErrorText text) {
  if (const std::optional<std::string> tensor = non_finite_tensor(model)) {
    throw util::format_error({.what = "the model's weights are not finite numbers",
                              .where = *tensor,
                              .found = "NaN or infinity",
                              .hint = "the file is damaged, or the model's training diverged: get it again"});
  }
  if (text.hint.empty()) {
    text.hint = model.dtype() == at::kHalf
                    ? "float16 arithmetic overflows in some models: try --dtype float32"
                    : "the weights are finite; some are so large that sums of them overflow";
  }
  throw util::self_check_error(text);
}

double largest_for_norm(std::int64_t hidden_size) {
  return std::sqrt(std::numeric_limits<float>::max() / static_cast<double>(hidden_size));
}

namespace {

/// Throws where a state [T, d] of `layer` is not fit for a norm.
void require_finite(const Model& model, std::int64_t layer, const at::Tensor& states,
                    const std::function<std::string(std::int64_t row)>& name_of) {
  const double most = largest_for_norm(states.size(1));
  if (largest(states).item<double>() <= most) return;
  const at::Tensor fits = (states.abs() <= most).all(1);  // not so where it is NaN
  const std::int64_t row = fits.logical_not().to(at::kByte).argmax().item<std::int64_t>();
  const auto value = largest(states[row]).item<double>();
  refuse_not_finite(model, {.what = std::isfinite(value) ? "the residual stream is too large for float32"
                                                         : "the residual stream is not finite",
                            .where = util::cat("layer ", layer, ", ", name_of(row)),
                            .expected = util::cat("values up to ", most),
                            .found = util::cat(value)});
}

}  // namespace

void forward_finite(const Model& model, const PackedWindows& windows, const ResidualTap& tap,
                    const std::function<std::string(std::int64_t row)>& name_of) {
  if (model.device().is_cpu()) {
    model.forward(windows, [&](std::int64_t layer, const at::Tensor& states) {
      require_finite(model, layer, states, name_of);
      tap(layer, states);
    });
    return;
  }
  std::vector<at::Tensor> of_layers;
  model.forward(windows, [&](std::int64_t layer, const at::Tensor& states) {
    of_layers.push_back(largest(states));
    tap(layer, states);
  });
  const c10::InferenceMode inference;
  if ((at::stack(of_layers) <= largest_for_norm(model.spec().hidden_size)).all().item<bool>()) return;
  // The first state that is not fit may be gone: it comes once more.
  model.forward(windows, [&](std::int64_t layer, const at::Tensor& states) {
    require_finite(model, layer, states, name_of);
  });
  refuse_not_finite(model,
                    {.what = "a state of the residual stream was not fit for a norm",
                     .where = "the forward pass",
                     .hint = "done again, the pass had none: something is wrong with the device or its "
                             "memory (nvidia-smi -q -d ECC)"});
}

}  // namespace depthlens::model
