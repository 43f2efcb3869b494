// The statistics of the distributions over the vocabulary at all states of some positions, from one pass.
// Definitions: docs/methods.md, "One pass over the vocabulary".
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "depthlens/compute/vocabulary_pass.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::compute {

class TokenGroups;

/// S states at each of P positions. State 0 is the final layer, with which the others are compared.
struct StatisticsInput {
  at::Tensor rows;                 ///< [S · P, d] float32, after the final norm; row s · P + p
  std::int64_t num_states = 0;     ///< S
  std::int64_t num_positions = 0;  ///< P
  std::int64_t top_k = 0;          ///< K ≥ 1
  std::int64_t num_watched = 0;    ///< W ≥ 1
  /// [P, W] on the host; kNoToken where there is none. Entry 0 of each position is filled in:
  /// the token with the greatest final logit, the lowest id among equals.
  std::vector<TokenId> watched;
};

/// Per state and position, row-major [S, P, …], on the host. Ranks are 1 + the number of strictly greater
/// logits, 0 where there is no token; ties within the top K go to the lower id.
struct Statistics {
  std::vector<TokenId> watched;             // [P, W], entry 0 filled in
  std::vector<TokenId> top_ids;             // [S, P, K]
  std::vector<double> top_logits;           // [S, P, K]
  std::vector<double> log_sum_exp;          // [S, P]
  std::vector<double> entropy;              // [S, P] nats
  std::vector<double> kl_final;             // [S, P] KL(final ‖ state), nats
  std::vector<double> kl_reverse;           // [S, P] KL(state ‖ final), nats
  std::vector<std::int64_t> watched_ranks;  // [S, P, W]
  std::vector<double> watched_logits;       // [S, P, W]
  std::vector<double> group_mass;           // [S, P, G]
};

/// Sums over positions of the probability of every token, on the host. A probability below e^kLowestLog,
/// where float32 ends, is added up by its logarithm, so that none vanishes.
struct ProbabilitySums {
  static constexpr float kLowestLog = -87.0F;
  at::Tensor sums;       ///< [S, V] float64
  at::Tensor log_small;  ///< [S, V] float64: log Σ of what is not in `sums`, −∞ where there is none

  ProbabilitySums() = default;
  ProbabilitySums(std::int64_t num_states, std::int64_t vocab_size);
};

/// Where the processor keeps the logits of a chunk. Chunks that follow each other and are given the same do
/// not ask the system for it again, which would clear it first.
struct LogitMemory {
  at::Tensor of_final, of_others;
};

/// Statistics that a device may still be at: waits for it, and gives them. To be called once, on any thread,
/// while their decoder lives.
using PendingStatistics = std::function<Statistics()>;

/// What says that a device's memory does not suffice for a decoder of so many rows.
util::Error out_of_memory(at::Device device, std::int64_t num_states, std::int64_t num_positions);

class StatisticsDecoder {
 public:
  /// `token_groups`: the group of each token, [V], or empty. `pass` must outlive the decoder. `memory`: bytes
  /// that logits may take that are kept for the sums of probabilities, which else are multiplied again.
  StatisticsDecoder(const VocabularyPass& pass, const std::vector<std::uint8_t>& token_groups,
                    std::int64_t num_groups, std::uint64_t memory = std::uint64_t{192} << 20);
  ~StatisticsDecoder();

  /// With `sums`, the probabilities are added to them. They come from the same products: those of a state and
  /// position add up to 1. Throws what `is_out_of_device_memory` tells where a device's memory does not
  /// suffice and nothing has been added yet, so that fewer positions may be tried; `out_of_memory` after
  /// that. `memory`: for its logits; nullptr: of its own.
  Statistics decode(const StatisticsInput& input, ProbabilitySums* sums = nullptr,
                    LogitMemory* memory = nullptr) const {
    return begin(input, sums, memory)();
  }
  /// The same where the device goes on while the host does something else; without `sums`, and where the
  /// device has a form of its own for the statistics. Else all is done when this returns.
  PendingStatistics begin(const StatisticsInput& input, ProbabilitySums* sums = nullptr,
                          LogitMemory* memory = nullptr) const;

  /// What a call keeps of each position.
  struct Kept {
    std::int64_t num_states, top_k, num_watched;
  };
  /// Bytes of working memory that a call takes, beyond input and output.
  std::uint64_t working_memory(const Kept& kept, std::int64_t num_positions) const;
  /// Positions whose logits at S states can be kept.
  std::int64_t positions_to_keep(std::int64_t num_states) const;

 private:
  const VocabularyPass& pass_;
  std::unique_ptr<const TokenGroups> groups_;
  std::uint64_t memory_;
};

}  // namespace depthlens::compute
