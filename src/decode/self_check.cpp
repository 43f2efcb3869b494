// What is promised, and what is not finite.
#include "decode/self_check.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "depthlens/compute/log_probabilities.hpp"
#include "depthlens/model/finite.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::decode {
namespace {

constexpr double kPromised = 1e-3;  // nats

/// Throws where `what` is off by more than that.
void require_within(double error, double bound, const std::string& what, const std::string& where) {
  if (error <= bound) return;  // not so where it is NaN
  throw util::self_check_error({.what = what + " a plain matrix product",
                                .where = where,
                                .expected = util::cat("at most ", bound, " nats"),
                                .found = util::cat(error),
                                .hint =
                                    "this is a defect of depthlens or of the machine, unless logits are in "
                                    "the thousands, of which float32 is not that exact: please report it"});
}

}  // namespace

void check_log_sum_exp(const model::Model& model, double log_sum_exp, TokenId greatest,
                       const std::string& where) {
  if (std::abs(log_sum_exp) * std::numeric_limits<float>::epsilon() <= kPromised) return;
  if (!std::isfinite(log_sum_exp))
    model::refuse_not_finite(model, {.what = "the logits are not finite", .where = where});
  throw util::self_check_error(
      {.what = "the logits are too large for float32",
       .where = where,
       .expected = util::cat("logits that it tells apart by ", kPromised, " nats"),
       .found = util::cat("about ", log_sum_exp, " for token ", greatest),
       .hint = "that token's row of the unembedding, or the final norm, may be damaged"});
}

void require_fit_for_norm(const model::Model& model, const std::vector<DecodedState>& states,
                          const at::Tensor& largest) {
  const double most = model::largest_for_norm(model.spec().hidden_size);
  const at::Tensor all = largest.to(at::kDouble);
  if ((all <= most).all().item<bool>()) return;
  std::int64_t i = 0;
  for (const DecodedState& state : states) {
    if (state.lens == nullptr) continue;
    const double value = all[i++].item<double>();
    if (value <= most) continue;
    model::refuse_not_finite(
        model,
        {.what = std::isfinite(value) ? "states translated by a lens are too large for float32"
                                      : "states translated by a lens are not finite",
         .where = util::cat("lens ", util::in_quotes(state.lens->request().name), ", layer ", state.layer),
         .expected = util::cat("values up to ", most),
         .found = util::cat(value),
         .hint = "the lens is damaged, or was made for another model"});
  }
}

at::Tensor plain_statistics(const compute::Unembedding& unembedding, const at::Tensor& rows,
                            std::int64_t top_k) {
  const at::Tensor plain = compute::plain_log_probabilities(unembedding, rows);  // [2, V]
  const at::Tensor of_final = plain[0], of_state = plain[1];
  const at::Tensor final_p = of_final.exp(), p = of_state.exp();
  const at::Tensor sums = at::stack(
      {-(p * of_state).sum(), (final_p * (of_final - of_state)).sum(), (p * (of_state - of_final)).sum()});
  return at::cat({std::get<0>(plain.topk(top_k, 1)).flatten(), sums});
}

double error_of_best(const compute::Statistics& decoded, std::int64_t row, std::span<const double> plain) {
  const double log_sum_exp = decoded.log_sum_exp[static_cast<std::size_t>(row)];
  const double* logits = decoded.top_logits.data() + row * static_cast<std::int64_t>(plain.size());
  double error = 0;
  for (const double expected : plain) {
    const double off = std::abs(*logits++ - log_sum_exp - expected);
    if (std::isnan(off)) return off;
    error = std::max(error, off);
  }
  return error;
}

ChunkCheck::ChunkCheck(const model::Model& model, const std::vector<DecodedState>& states,
                       const compute::Statistics& decoded,
                       std::function<std::string(std::int64_t p)> place_of)
    : model_(model),
      states_(states),
      decoded_(decoded),
      place_of_(std::move(place_of)),
      num_positions_(static_cast<std::int64_t>(decoded.log_sum_exp.size() / states.size())),
      top_k_(static_cast<std::int64_t>(decoded.top_ids.size() / decoded.log_sum_exp.size())) {}

void ChunkCheck::require_finite() const {
  constexpr double kOrdinary = 1000;  // of real models: no need for a message
  for (std::size_t i = 0; i < decoded_.log_sum_exp.size(); ++i) {
    const bool finite = std::isfinite(decoded_.entropy[i]) && std::isfinite(decoded_.kl_final[i]) &&
                        std::isfinite(decoded_.kl_reverse[i]);
    if (finite && std::abs(decoded_.log_sum_exp[i]) < kOrdinary) continue;
    const auto P = static_cast<std::size_t>(num_positions_);
    check_log_sum_exp(model_, finite ? decoded_.log_sum_exp[i] : std::nan(""),
                      decoded_.top_ids[i * static_cast<std::size_t>(top_k_)],
                      util::cat(states_[i / P].name(), ", ", place_of_(static_cast<std::int64_t>(i % P))));
  }
}

double ChunkCheck::compare(const CheckedPosition& one, const double* plain) const {
  const auto K = static_cast<std::size_t>(top_k_);
  const std::span<const double> of_final(plain, K), of_state(plain + K, K);
  const double entropy = plain[2 * K], kl_final = plain[2 * K + 1], kl_reverse = plain[2 * K + 2];
  const std::int64_t r = one.state * num_positions_ + one.p;
  const auto row = static_cast<std::size_t>(r);

  const bool fast = model_.backend().decode_precision() == compute::Precision::kFast;
  const double magnitude = std::abs(decoded_.log_sum_exp[row]) + std::max(kl_final, kl_reverse);
  const double bound = (fast ? 0.5 : 0.05) + (fast ? 0.1 : 1e-3) * magnitude;
  const std::string where =
      util::cat(states_[static_cast<std::size_t>(one.state)].name(), ", ", place_of_(one.p));
  for (const auto& [name, error] : {std::pair("log-probabilities", error_of_best(decoded_, r, of_state)),
                                    {"entropy", std::abs(decoded_.entropy[row] - entropy)},
                                    {"KL(final ‖ layer)", std::abs(decoded_.kl_final[row] - kl_final)},
                                    {"KL(layer ‖ final)", std::abs(decoded_.kl_reverse[row] - kl_reverse)}}) {
    require_within(error, bound, util::cat("the ", name, " of a layer differs from that of"), where);
  }
  return error_of_best(decoded_, one.p, of_final);
}

void add_self_check(RunStatistics& statistics, double error, std::int64_t positions,
                    compute::Precision precision, const std::string& where) {
  constexpr double kOfFast = 0.5;  // nats; one product in bfloat16 is off by about 0.01 to 0.1
  const double bound = precision != compute::Precision::kFast ? kPromised : kOfFast;
  statistics.final_layer_max_abs_error = std::max(statistics.final_layer_max_abs_error, error);
  statistics.self_checked_positions += positions;
  require_within(error, bound, "the decoded final layer differs from", where);
}

}  // namespace depthlens::decode
