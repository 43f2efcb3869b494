// What is promised, and what is not finite.
#include "decode/self_check.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

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
                                .hint = "this is a defect of depthlens or of the machine: please report it"});
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

void check_statistics(const StatisticsErrors& errors, double magnitude, compute::Precision precision,
                      const std::string& where) {
  const bool fast = precision == compute::Precision::kFast;
  const double bound = (fast ? 0.5 : 0.05) + (fast ? 0.1 : 1e-3) * magnitude;
  for (const auto& [name, error] : {std::pair("log-probabilities", errors.best),
                                    {"entropy", errors.entropy},
                                    {"KL(final ‖ layer)", errors.kl_final},
                                    {"KL(layer ‖ final)", errors.kl_reverse}}) {
    require_within(error, bound, util::cat("the ", name, " of a layer differs from that of"), where);
  }
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
