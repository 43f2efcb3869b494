// Which fields the readouts of a record hold: what --record-fields lists.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <string>
#include <vector>

#include "depthlens/util/json.hpp"

namespace depthlens::report {

/// In the order in which they stand in a record.
enum class RecordField {
  kTopIds,
  kTopTokens,
  kTopLogprobs,
  kFinalRank,
  kFinalLogprob,
  kTargetRank,
  kTargetLogprob,
  kEntropy,
  kKlFinal,
  kKlReverse,
  kSettledLayer,
  kOptions,
  kWatched
};

inline constexpr std::array<const char*, 13> kRecordFieldNames = {
    "top_ids",       "top_tokens",     "top_logprobs", "final_rank", "final_logprob",
    "target_rank",   "target_logprob", "entropy",      "kl_final",   "kl_reverse",
    "settled_layer", "options",        "watched"};

class RecordFields {
 public:
  /// All that a record can have.
  RecordFields() = default;
  /// Those of a list of names with commas, in any order. Throws usage errors.
  static RecordFields parse(const std::string& list);
  /// Those of a list in a file. Throws format errors.
  static RecordFields from_json(const util::JsonView& list);

  /// Whether there was a list.
  bool is_chosen() const { return chosen_.any(); }
  bool has(RecordField field) const { return !is_chosen() || chosen_[static_cast<std::size_t>(field)]; }
  /// Whether a record has layers' first guesses: ids, texts or log-probabilities.
  bool has_predictions() const {
    return has(RecordField::kTopIds) || has(RecordField::kTopTokens) || has(RecordField::kTopLogprobs);
  }
  /// In the order of a record.
  std::vector<std::string> names() const;

 private:
  std::bitset<kRecordFieldNames.size()> chosen_;
};

}  // namespace depthlens::report
