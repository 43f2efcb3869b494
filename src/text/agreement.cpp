// Probe texts, and comparisons that stop at the first difference.
#include "agreement.hpp"

#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::text {
namespace {

using util::cat;
using util::in_quotes;

constexpr std::string_view kProbes[] = {
    "The old mill stands by the river, and its wheel turns.",
    "Hello  world   of    spaces ",
    "a\n\nb\n (the toll)\r\n\r\n\tc\t\td",
    "if x:\n    return y[0] += 1;  // <tag>\n\n\n}",
    "DON'T we'll it's I'VE 'tis rock'n'roll",
    "in 2024, 1234567 and 3.14; x1y22",
    "Gr\u00f6\u00dfe caf\u00e9 cafe\u0301 na\u0308ive \u1e9b\u0323",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u3053\u3093\u306b\u3061\u306f \uc548\ub155 \u1112\u1161\u11ab",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u0645\u0631\u062d\u0628\u0627 "
    "\u0928\u092e\u0938\u094d\u0924\u0947",
    "yes \U0001f600\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469",
    "\ufb01ne \u2460 \u00bd \uff21 no\u00a0break\u3000wide \u200b \ufeff",
    "camelCase snake_case UPPER_CASE x\u2581y \u0001\u007f\u00ff",
    "aaaaaaaa!!!???...---",
};

/// A space before a text is a matter of its own.
constexpr std::string_view kSpacedProbes[] = {" a", "  the mill", "\n x"};

std::string in_row(const std::vector<TokenId>& ids) {
  constexpr std::size_t kMax = 8;
  std::string row;
  for (std::size_t i = 0; i < ids.size() && i < kMax; ++i) row += cat(i > 0 ? " " : "", ids[i]);
  return row + (ids.size() > kMax ? " …" : "");
}

bool cut_alike(const TextSteps& a, const TextSteps& b, std::string_view text, bool at_text_start) {
  std::string a_storage, b_storage;
  Words a_words, b_words;
  a.pre_tokenizer.split(a.normalizer.apply(text, a_storage), at_text_start, a_words);
  b.pre_tokenizer.split(b.normalizer.apply(text, b_storage), at_text_start, b_words);
  return a_words.views == b_words.views;
}

}  // namespace

std::string first_difference(const TextSteps& a, const TextSteps& b) {
  for (const bool at_text_start : {true, false}) {
    for (const auto probe : kProbes) {
      if (!cut_alike(a, b, probe, at_text_start)) return in_quotes(probe);
    }
    for (const auto probe : kSpacedProbes) {
      if (!cut_alike(a, b, probe, at_text_start)) return in_quotes(probe);
    }
  }
  return "";
}

std::string first_difference(const Tokenizer& ours, const Tokenizer& other) {
  if (ours.size() != other.size()) return cat(other.size(), " tokens, not ", ours.size());
  for (TokenId id = 0; id < ours.size(); ++id) {
    if (ours.token_bytes(id) != other.token_bytes(id)) {
      return cat("token ", id, " is ", in_quotes(other.token_bytes(id)), ", not ",
                 in_quotes(ours.token_bytes(id)));
    }
  }
  for (const auto probe : kProbes) {
    const auto our_ids = ours.encode(probe), other_ids = other.encode(probe);
    if (our_ids != other_ids) {
      return cat("the text ", in_quotes(probe), " has the ids ", in_row(other_ids), ", not ",
                 in_row(our_ids));
    }
  }
  return "";
}

std::string first_difference(const Vocabulary& ours, const std::vector<MergePair>& our_merges,
                             const AddedTokens& added, const Vocabulary& other,
                             const std::vector<MergePair>& other_merges) {
  std::size_t in_ours = 0;
  for (const auto& [token, id] : other.ids) {
    auto known = ours.find(token);
    if (known) {
      ++in_ours;
    } else if (const AddedToken* const token_added = added.find(std::string(token))) {
      known = token_added->id;
    }
    if (known != id)
      return cat(in_quotes(token), " has the id ", id, known ? cat(", not ", *known) : " and is not there");
  }
  if (in_ours < ours.ids.size()) {
    for (const auto& [token, id] : ours.ids) {
      if (!other.find(token) && added.find(std::string(token)) == nullptr)
        return cat(in_quotes(token), ", ", id, ", is not there");
    }
  }
  const auto [mine, theirs] =
      std::mismatch(our_merges.begin(), our_merges.end(), other_merges.begin(), other_merges.end());
  if (mine == our_merges.end() && theirs == other_merges.end()) return "";
  if (our_merges.size() != other_merges.size())
    return cat(other_merges.size(), " merges, not ", our_merges.size());
  return cat("merge ", mine - our_merges.begin() + 1, " is ",
             in_quotes(cat(theirs->first, " ", theirs->second)), ", not ",
             in_quotes(cat(mine->first, " ", mine->second)));
}

}  // namespace depthlens::text
