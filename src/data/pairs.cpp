// Pairs into tokens.
#include "depthlens/data/pairs.hpp"

#include <algorithm>
#include <utility>

#include "depthlens/text/continuation.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "prompt.hpp"
#include "repetitions.hpp"

namespace depthlens::data {

std::vector<TokenRole> token_roles(const decode::PatchingPair& pair) {
  const std::int64_t T = pair.length(), first = pair.first_different();
  DEPTHLENS_ASSERT(first < T);
  const auto last_mismatch =
      std::mismatch(pair.source.rbegin(), pair.source.rend(), pair.target.rbegin()).first;
  const std::int64_t last = pair.source.rend() - last_mismatch - 1;
  std::vector<TokenRole> roles;
  for (std::int64_t p = 0; p < T; ++p) {
    if (p == T - 1) {
      roles.push_back(TokenRole::kLast);
    } else if (p < first) {
      roles.push_back(TokenRole::kBefore);
    } else if (p > last) {
      roles.push_back(TokenRole::kAfter);
    } else if (p == last) {
      roles.push_back(TokenRole::kLastDifferent);
    } else {
      roles.push_back(p == first ? TokenRole::kFirstDifferent : TokenRole::kMiddleDifferent);
    }
  }
  return roles;
}

PairBuilder::PairBuilder(const text::Tokenizer& tokenizer, std::optional<text::TokenId> bos,
                         std::int64_t max_length)
    : tokenizer_(tokenizer),
      bos_(bos),
      max_length_(max_length),
      repetitions_(std::make_unique<Repetitions>("pairs")) {}

PairBuilder::~PairBuilder() = default;

void PairBuilder::begin_input(const std::string& name) {
  repetitions_->finish_input(input_);
  input_ = name;
}

PairTask PairBuilder::finish() && {
  repetitions_->finish_input(input_);
  return std::move(task_);
}

std::optional<Drop> PairBuilder::reason_to_drop(const decode::PatchingPair& pair) const {
  const auto without = [&](const std::vector<text::TokenId>& prompt, text::TokenId answer) {
    return prompt.size() == (bos_ ? 1 : 0) || answer == decode::kNoToken;
  };
  if (without(pair.source, pair.source_answer) || without(pair.target, pair.target_answer))
    return Drop::kNoTokens;
  if (static_cast<std::int64_t>(std::max(pair.source.size(), pair.target.size())) > max_length_)
    return Drop::kLongerThanWindow;
  if (pair.source.size() != pair.target.size()) return Drop::kLengthsDiffer;
  if (pair.source == pair.target) return Drop::kSamePrompt;
  if (pair.source_answer == pair.target_answer) return Drop::kSameAnswer;
  return std::nullopt;
}

bool PairBuilder::add(const PromptPair& texts) {
  const auto both = [](std::string_view source, std::string_view target) {
    return std::string(source) + '\0' + std::string(target);
  };
  const bool repeated = repetitions_->repeats(
      texts.id.text,
      both(without_space_at_end(texts.source.prompt), without_space_at_end(texts.target.prompt)),
      both(util::trimmed(texts.source.answer), util::trimmed(texts.target.answer)));
  const std::int64_t document = next_document_++;
  if (repeated) {
    ++task_.dropped[Drop::kRepeatedPair];
    return false;
  }
  decode::PatchingPair pair;
  const auto tokenize = [&](const Fact& fact, std::vector<text::TokenId>& prompt, text::TokenId& answer) {
    const text::Continuation tokens =
        text::continuation(tokenizer_, without_space_at_end(fact.prompt), " ", util::trimmed(fact.answer));
    prompt = with_bos(bos_, tokens.prompt);
    if (!tokens.answer.empty()) answer = tokens.answer.front();
  };
  tokenize(texts.source, pair.source, pair.source_answer);
  tokenize(texts.target, pair.target, pair.target_answer);
  if (const std::optional<Drop> reason = reason_to_drop(pair)) {
    ++task_.dropped[*reason];
    return true;
  }
  std::vector<TokenRole> roles = token_roles(pair);
  task_.items.push_back(
      {.id = texts.id, .document = document, .pair = std::move(pair), .roles = std::move(roles)});
  return true;
}

}  // namespace depthlens::data
