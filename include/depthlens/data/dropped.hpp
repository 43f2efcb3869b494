// Why something of an input does not count, and how often that was so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace depthlens::data {

/// In the order of their names.
enum class Drop {
  kBeyondLimit,
  kBeyondPerClass,
  kInMultiwordToken,
  kLengthsDiffer,
  kLongerThanWindow,
  kNoTokens,
  kPairNotPredicted,
  kPositionNotPredicted,
  kPositionWhiteSpace,
  kRepeatedFact,
  kRepeatedItem,
  kRepeatedPair,
  kSameAnswer,
  kSamePrompt,
  kShortPrompt
};
inline constexpr std::size_t kNumDrops = static_cast<std::size_t>(Drop::kShortPrompt) + 1;

using Dropped = std::map<Drop, std::int64_t>;

/// The reason's name in `counts.dropped`.
const char* name_of(Drop reason);
/// The reason in plain words that go on behind a number: "3 longer than the window".
const char* in_words(Drop reason);

/// Whether single positions of an item are dropped for this reason, not the whole item.
inline bool drops_position(Drop reason) {
  return reason == Drop::kPositionNotPredicted || reason == Drop::kPositionWhiteSpace;
}

}  // namespace depthlens::data
