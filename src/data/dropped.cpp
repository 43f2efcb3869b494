// Names and words of the reasons. Each stands in one place, and the compiler misses those that do not.
#include "depthlens/data/dropped.hpp"

#include "depthlens/util/error.hpp"

namespace depthlens::data {
namespace {

struct Text {
  const char* name;
  const char* words;
};

Text text_of(Drop reason) {
  switch (reason) {
    case Drop::kBeyondLimit:
      return {"beyond_limit", "beyond --limit"};
    case Drop::kBeyondPerClass:
      return {"beyond_per_class", "not drawn (--per-class)"};
    case Drop::kInMultiwordToken:
      return {"in_multiword_token", "inside a multi-word token"};
    case Drop::kLengthsDiffer:
      return {"lengths_differ", "with prompts of different lengths in tokens"};
    case Drop::kLongerThanWindow:
      return {"longer_than_window", "longer than a window (--max-length)"};
    case Drop::kNoTokens:
      return {"no_tokens", "without tokens"};
    case Drop::kPairNotPredicted:
      return {"not_predicted", "with an answer that is not the model's own"};
    case Drop::kPositionNotPredicted:
      return {"positions_not_predicted", "not the model's own"};
    case Drop::kPositionWhiteSpace:
      return {"positions_white_space", "where the model says white space"};
    case Drop::kRepeatedFact:
      return {"repeated_fact", "repeated"};
    case Drop::kRepeatedItem:
      return {"repeated_item", "repeated"};
    case Drop::kRepeatedPair:
      return {"repeated_pair", "repeated"};
    case Drop::kSameAnswer:
      return {"same_answer", "with the same answer on both sides"};
    case Drop::kSamePrompt:
      return {"same_prompt", "with the same prompt on both sides"};
    case Drop::kShortPrompt:
      return {"short_prompt", "with too little text before the word (--min-prompt-chars)"};
  }
  DEPTHLENS_ASSERT(false);
}

}  // namespace

const char* name_of(Drop reason) {
  return text_of(reason).name;
}

const char* in_words(Drop reason) {
  return text_of(reason).words;
}

}  // namespace depthlens::data
