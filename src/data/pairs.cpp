// Pairs into tokens.
#include "depthlens/data/pairs.hpp"

#include <algorithm>
#include <utility>

#include "depthlens/text/continuation.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "prompt.hpp"

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

std::string PairBuilder::reason_to_drop(const decode::PatchingPair& pair) const {
  const auto without = [&](const std::vector<text::TokenId>& prompt, text::TokenId answer) {
    return prompt.size() == (bos_ ? 1 : 0) || answer == decode::kNoToken;
  };
  if (without(pair.source, pair.source_answer) || without(pair.target, pair.target_answer))
    return "no_tokens";
  if (static_cast<std::int64_t>(std::max(pair.source.size(), pair.target.size())) > max_length_)
    return "longer_than_window";
  if (pair.source.size() != pair.target.size()) return "lengths_differ";
  if (pair.source == pair.target) return "same_prompt";
  if (pair.source_answer == pair.target_answer) return "same_answer";
  return "";
}

void PairBuilder::add(const PromptPair& texts) {
  decode::PatchingPair pair;
  const auto tokenize = [&](const Fact& fact, std::vector<text::TokenId>& prompt, text::TokenId& answer) {
    const text::Continuation tokens =
        text::continuation(tokenizer_, without_space_at_end(fact.prompt), " ", util::trimmed(fact.answer));
    prompt = with_bos(bos_, tokens.prompt);
    if (!tokens.answer.empty()) answer = tokens.answer.front();
  };
  tokenize(texts.source, pair.source, pair.source_answer);
  tokenize(texts.target, pair.target, pair.target_answer);
  const std::int64_t document = next_document_++;
  if (const std::string reason = reason_to_drop(pair); !reason.empty()) {
    ++task_.dropped[reason];
    return;
  }
  std::vector<TokenRole> roles = token_roles(pair);
  task_.items.push_back(
      {.id = texts.id, .document = document, .pair = std::move(pair), .roles = std::move(roles)});
}

}  // namespace depthlens::data
