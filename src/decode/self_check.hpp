// The second way to a distribution, with which every run compares a sample of its results.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "depthlens/decode/engine.hpp"
#include "depthlens/decode/readout.hpp"
#include "depthlens/model/model.hpp"

namespace depthlens::decode {

constexpr std::int64_t kSelfCheckEvery = 4096;  // positions

/// Throws where a row's log-sum-exp is not finite, or so large that float32 does not tell its greatest logits
/// apart as exactly as depthlens promises. `greatest`: the token with the greatest logit.
void check_log_sum_exp(const model::Model& model, double log_sum_exp, TokenId greatest,
                       const std::string& where);

/// Log-probabilities [P, V] of states [P, d] after the final norm, by a plain product in float64, on the
/// states' device.
at::Tensor plain_log_probabilities(const model::OutputHead& head, const at::Tensor& normed);

/// Adds the greatest error of `positions` positions, in nats, to the statistics. Throws a self-check error
/// where it exceeds the accuracy that depthlens promises, or for fast products what they can be off by.
void add_self_check(RunStatistics& statistics, double error, std::int64_t positions,
                    Precision precision = Precision::kExact);

}  // namespace depthlens::decode
