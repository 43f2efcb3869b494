// Activation patching: a residual state of one prompt is put into the run of another, and what the model then
// says at the end is compared with what it said before.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "depthlens/decode/engine.hpp"
#include "depthlens/decode/readout.hpp"

namespace depthlens::model {
class Model;
}
namespace depthlens::compute {
class StatisticsDecoder;
class VocabularyPass;
}  // namespace depthlens::compute

namespace depthlens::decode {

/// Two prompts of T ≥ 1 tokens each, BOS included, and the token that should follow each.
struct PatchingPair {
  std::vector<TokenId> source, target;
  TokenId source_answer = kNoToken;
  TokenId target_answer = kNoToken;

  std::int64_t length() const { return static_cast<std::int64_t>(target.size()); }
  /// The first position at which the prompts differ; T where they are the same.
  std::int64_t first_different() const {
    return std::mismatch(source.begin(), source.end(), target.begin()).first - source.begin();
  }
};

/// What a run says after the prompt's last token.
struct LastPrediction {
  TokenId top1 = kNoToken;
  double log_probability_difference = 0;  ///< log p(source's answer) − log p(target's answer), nats
  double kl = 0;                          ///< KL(clean target ‖ this), nats
};

struct PatchingResult {
  LastPrediction source, target;        ///< of the clean runs
  std::int64_t num_rows = 0;            ///< L + 1
  std::int64_t length = 0;              ///< T
  std::vector<LastPrediction> patched;  ///< [L + 1, T]: the target's run with that state of the source

  const LastPrediction& at(std::int64_t layer, std::int64_t position) const {
    return patched[static_cast<std::size_t>(layer * length + position)];
  }
  /// How far the difference has moved from the clean target's (0) to the clean source's (1). Nothing where
  /// the source's is not the greater one: there is nothing to restore then.
  std::optional<double> restored(const LastPrediction& prediction) const {
    const double whole = source.log_probability_difference - target.log_probability_difference;
    if (!(whole > 0)) return std::nullopt;
    return (prediction.log_probability_difference - target.log_probability_difference) / whole;
  }
};

struct PatchingOptions {
  /// Only pairs of which the model itself says both answers, each after its prompt.
  bool predicted_only = false;
  /// Memory that patched runs and their logits may take together, in bytes; the states of the two clean runs
  /// come on top. 0: two thirds of the backend's.
  std::uint64_t memory = 0;
  /// Asked before each batch of runs; true gives the pair up.
  std::function<bool()> should_stop = [] { return false; };
};

/// Patches one pair after the other.
class Patcher {
 public:
  /// The model must outlive the patcher. Throws a usage error for a model whose blocks read more than states
  /// (model::Model::require_states_are_all).
  Patcher(const model::Model& model, PatchingOptions options);
  ~Patcher();

  /// Nothing where `predicted_only` leaves the pair out, or `should_stop` ended it; the statistics tell
  /// which. The prompts must be equally long and fit the model; tokens and answers must lie in its
  /// vocabulary. With `checks`, the clean target's logits are compared with a plain float64 product. Throws a
  /// self-check error where these differ, and where logits are not finite. Where a device's memory does not
  /// suffice, fewer windows run together, then and from there on.
  std::optional<PatchingResult> patch(const PatchingPair& pair, bool checks = true);

  /// Of the pairs since the last call: a window and a position for each run, clean or patched.
  RunStatistics take_statistics() { return std::exchange(statistics_, {}); }

 private:
  std::optional<PatchingResult> patch_whole(const PatchingPair& pair, bool checks);

  const model::Model& model_;
  PatchingOptions options_;
  std::unique_ptr<compute::VocabularyPass> pass_;
  std::unique_ptr<compute::StatisticsDecoder> decoder_;
  std::int64_t most_tokens_ = 4096;  // of windows that run together
  RunStatistics statistics_;
};

}  // namespace depthlens::decode
