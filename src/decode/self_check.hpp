// Whether results can be believed: every run compares a sample with a second way to a distribution.
#pragma once

#include <cstdint>
#include <string>

#include "depthlens/compute/backend.hpp"
#include "depthlens/decode/engine.hpp"
#include "depthlens/decode/readout.hpp"
#include "depthlens/model/model.hpp"

namespace depthlens::decode {

/// Throws where a row's log-sum-exp is not finite, or so large that float32 does not tell its greatest logits
/// apart as exactly as depthlens promises. `greatest`: the token with the greatest logit.
void check_log_sum_exp(const model::Model& model, double log_sum_exp, TokenId greatest,
                       const std::string& where);

/// By how much the statistics of a state differ from those of its distribution in float64, in nats.
struct StatisticsErrors {
  double best;  ///< of the log-probabilities of the best tokens, the greatest
  double entropy, kl_final, kl_reverse;
};

/// Throws a self-check error, with `where`, where the statistics are not those of the state: a fault of a
/// kernel or of the machine. The bound is far wider than the accuracy that is promised, and grows with the
/// `magnitude` of the logits, in nats, as rounding does.
void check_statistics(const StatisticsErrors& errors, double magnitude, compute::Precision precision,
                      const std::string& where);

/// Adds the greatest error of `positions` positions, in nats, to the statistics. Throws a self-check error,
/// with `where`, where it exceeds the accuracy that depthlens promises, or for fast products what they can be
/// off by.
void add_self_check(RunStatistics& statistics, double error, std::int64_t positions,
                    compute::Precision precision, const std::string& where);

}  // namespace depthlens::decode
