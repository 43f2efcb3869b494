// What an input is, as experiments tell inputs apart.
#pragma once

namespace depthlens::data {

enum class InputKind {
  kCorpus,     ///< running text
  kWords,      ///< tagged words in sentences
  kFacts,      ///< prompts with an answer each
  kQuestions,  ///< prompts with options
  kPairs       ///< pairs of prompts
};

/// Whether its items are prompts with answers that are asked for one by one: a `Task`.
constexpr bool is_task(InputKind kind) {
  return kind == InputKind::kWords || kind == InputKind::kFacts || kind == InputKind::kQuestions;
}

}  // namespace depthlens::data
