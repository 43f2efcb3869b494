// The second way to a distribution, with which every run compares a sample of its results.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "depthlens/decode/engine.hpp"
#include "depthlens/model/model.hpp"

namespace depthlens::decode {

constexpr std::int64_t kSelfCheckEvery = 4096;  // positions

/// What states say by a plain product in float64.
struct PlainLogits {
  at::Tensor log_probabilities;  ///< [P, V], on the states' device
  double largest = 0;            ///< the greatest magnitude of a logit
  std::int64_t token_of_largest = 0;
};

/// Of states [P, d] after the final norm.
PlainLogits plain_logits(const model::OutputHead& head, const at::Tensor& normed);

/// Adds the greatest error of `positions` positions, in nats, to the statistics. Throws a self-check error
/// where it exceeds the accuracy that depthlens promises, or for fast products what they can be off by.
void add_self_check(RunStatistics& statistics, double error, std::int64_t positions, const PlainLogits& plain,
                    Precision precision = Precision::kExact);

}  // namespace depthlens::decode
