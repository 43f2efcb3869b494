// Pairs of prompts in tokens, for exchanging states between them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/data/dropped.hpp"
#include "depthlens/data/task_files.hpp"
#include "depthlens/decode/patching.hpp"
#include "depthlens/text/tokenizer.hpp"

namespace depthlens::data {

/// Where a token stands in relation to the tokens in which two prompts differ.
enum class TokenRole {
  kBefore,           ///< before the first of them
  kFirstDifferent,   ///< the first of several
  kMiddleDifferent,  ///< between the first and the last of them, different or not
  kLastDifferent,    ///< the last of several, or the only one
  kAfter,            ///< between the last of them and the last token
  kLast              ///< the last token, also where the prompts differ in it
};

/// Names in files, by role.
inline constexpr std::array<const char*, 6> kTokenRoleNames = {
    "before", "first_different", "middle_different", "last_different", "after", "last"};

/// The role of each of the T positions of two prompts that differ.
std::vector<TokenRole> token_roles(const decode::PatchingPair& pair);

/// One pair in tokens.
struct PairItem {
  ItemId id;
  std::int64_t document = 0;  ///< place among the pairs of all inputs
  decode::PatchingPair pair;
  std::vector<TokenRole> roles;  ///< [T]
};

struct PairTask {
  std::vector<PairItem> items;
  Dropped dropped;  ///< pairs
};

class Repetitions;

/// Turns pairs of files into tokens. Dropped are those that say the same as one before them
/// (kRepeatedPair), and those that cannot be patched: kNoTokens, kLongerThanWindow, kLengthsDiffer,
/// kSamePrompt, kSameAnswer, the first that holds.
class PairBuilder {
 public:
  /// The tokenizer must outlive the builder.
  PairBuilder(const text::Tokenizer& tokenizer, std::optional<text::TokenId> bos, std::int64_t max_length);
  ~PairBuilder();

  /// As TaskBuilder's.
  void begin_input(const std::string& name);
  /// The answer is the first token of the answer that continues the prompt. False where the pair says the
  /// same as one before it, and is not counted as read.
  bool add(const PromptPair& pair);

  PairTask finish() &&;

 private:
  /// Why the pair cannot be patched; nothing where it can.
  std::optional<Drop> reason_to_drop(const decode::PatchingPair& pair) const;

  const text::Tokenizer& tokenizer_;
  std::optional<text::TokenId> bos_;
  std::int64_t max_length_;
  std::int64_t next_document_ = 0;
  std::string input_;
  std::unique_ptr<Repetitions> repetitions_;
  PairTask task_;
};

}  // namespace depthlens::data
