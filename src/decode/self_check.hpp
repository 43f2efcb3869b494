// Whether results can be believed: every run compares a sample with a second way to a distribution.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "decode/decoded_states.hpp"
#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/statistics.hpp"
#include "depthlens/decode/engine.hpp"
#include "depthlens/decode/readout.hpp"
#include "depthlens/model/model.hpp"

namespace depthlens::decode {

/// Throws where a row's log-sum-exp is not finite, or so large that float32 does not tell its greatest logits
/// apart as exactly as depthlens promises. `greatest`: the token with the greatest logit.
void check_log_sum_exp(const model::Model& model, double log_sum_exp, TokenId greatest,
                       const std::string& where);

/// Throws where a lens made states so large that the final norm takes them for 0. `largest`: magnitudes of
/// the translated ones among `states`, in their order, on the host.
void require_fit_for_norm(const model::Model& model, const std::vector<DecodedState>& states,
                          const at::Tensor& largest);

/// What plain products in float64 say of a position's normed final state and another one, [2, d]: the K best
/// log-probabilities of each, and of the other one entropy and both divergences; [2 K + 3] in float64, on the
/// device. One position at a time: it must not depend on what else the chunk holds.
at::Tensor plain_statistics(const compute::Unembedding& unembedding, const at::Tensor& rows,
                            std::int64_t top_k);

/// A position of a chunk that is decoded a second time: the final layer and another state.
struct CheckedPosition {
  std::int64_t p, state;
};

/// Looks at what the states of a chunk were decoded to. Keeps references.
class ChunkCheck {
 public:
  /// `place_of`: in words, for messages.
  ChunkCheck(const model::Model& model, const std::vector<DecodedState>& states,
             const compute::Statistics& decoded, std::function<std::string(std::int64_t p)> place_of);

  /// Throws where something is not finite, or as `check_log_sum_exp` does. The states were finite: what is
  /// not comes from a lens, the final norm or the unembedding.
  void require_finite() const;

  /// The error of the final layer's log-probabilities, in nats, beside the `plain_statistics` of a position.
  /// Throws a self-check error where the other state's are not those of its distribution: a fault of a kernel
  /// or of the machine. The bound is far wider than the accuracy that is promised, and grows with the
  /// magnitude of the logits, as rounding does.
  double compare(const CheckedPosition& one, const double* plain) const;

 private:
  const model::Model& model_;
  const std::vector<DecodedState>& states_;
  const compute::Statistics& decoded_;
  std::function<std::string(std::int64_t p)> place_of_;
  std::int64_t num_positions_, top_k_;
};

/// The greatest difference, in nats, between the log-probabilities of a row's best tokens and `plain`, those
/// that a plain product gives them; NaN where one is.
double error_of_best(const compute::Statistics& decoded, std::int64_t row, std::span<const double> plain);

/// Adds the greatest error of `positions` positions, in nats, to the statistics. Throws a self-check error,
/// with `where`, where it exceeds the accuracy that depthlens promises, or for fast products what they can be
/// off by.
void add_self_check(RunStatistics& statistics, double error, std::int64_t positions,
                    compute::Precision precision, const std::string& where);

/// Entropies and divergences are not negative; rounding of equal distributions may leave −1e-9.
inline double not_negative(double nats) {
  return std::max(0.0, nats);
}

}  // namespace depthlens::decode
