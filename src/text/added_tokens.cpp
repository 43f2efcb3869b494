// Added tokens: their ids, and a trie that finds them.
#include "added_tokens.hpp"

#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "unicode.hpp"

namespace depthlens::text {

using util::cat;
using util::in_quotes;

void AddedTokens::add(AddedToken token, const std::string& where) {
  if (token.content.empty()) return;
  const TokenId stated = token.id;
  const auto known = id_of(token.content);
  token.id = known.value_or(next_id_);
  const bool collides = !known && static_cast<std::size_t>(token.id) < taken_.size() && taken_[token.id];
  if (collides || token.id >= kMaxTokens) {
    throw util::format_error(
        {.what = cat("no id for the added token ", in_quotes(token.content)),
         .where = where,
         .expected = collides ? "a vocabulary without holes" : cat("at most ", kMaxTokens, " tokens"),
         .found = cat("a token with the id ", token.id, ", the next one")});
  }
  if (stated != kNoToken && stated != token.id && moved_++ == 0) {
    first_moved_ = cat(where, " gives the token ", in_quotes(token.content), " the id ", stated, "; ",
                       token.id, " is used, ", known ? "which it has already" : "the next one",
                       ", as Hugging Face's tokenizers do");
  }
  const auto same_content = by_content_.find(token.content);
  if (same_content != by_content_.end()) {
    AddedToken& before = tokens_[same_content->second];
    token.special |= before.special;
    before = std::move(token);
    return;
  }
  next_id_ = std::max(next_id_, token.id + 1);
  by_content_.emplace(token.content, tokens_.size());
  tokens_.push_back(std::move(token));
}

void AddedTokens::warn_of_ids() const {
  if (moved_ > 0) util::log_warning(cat(first_moved_, moved_ > 1 ? cat(" (one of ", moved_, ")") : ""));
}

void AddedTokens::mark_special(const std::string& content) {
  const auto found = by_content_.find(content);
  if (found != by_content_.end()) tokens_[found->second].special = true;
}

void AddedTokens::leave_special_as_text() {
  for (AddedToken& token : tokens_) token.stays_text |= token.special;
}

const AddedToken* AddedTokens::find(const std::string& content) const {
  const auto found = by_content_.find(content);
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

std::optional<TokenId> AddedTokens::id_of(const std::string& content) const {
  if (const AddedToken* token = find(content)) return token->id;
  return vocabulary_(content);
}

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::string& content = tokens_[i].content;
    contents_.add(content, static_cast<int>(i));
    if (!content.empty()) starts_[static_cast<unsigned char>(content[0])] = true;
  }
}

int AddedTokenMatcher::longest_at(std::string_view text, std::size_t start) const {
  int longest = PrefixTree::kNone;
  contents_.for_each_prefix(text.substr(start), [&](std::size_t /*length*/, int index) { longest = index; });
  return longest;
}

void AddedTokenMatcher::split(std::string_view text, std::vector<Segment>& out) const {
  const std::uint8_t* const flags = code_point_flags();
  const char* const data = text.data();
  std::size_t done = 0;  // everything before stands in `out`
  for (std::size_t i = 0; i < text.size();) {
    const int index = starts_[static_cast<unsigned char>(text[i])] ? longest_at(text, i) : PrefixTree::kNone;
    if (index == PrefixTree::kNone) {
      ++i;
      continue;
    }
    const AddedToken& token = tokens_[index];
    std::size_t start = i;
    std::size_t stop = i + token.content.size();
    i = stop;
    if (token.stays_text) continue;  // nor is another one looked for in it
    if (token.single_word) {
      const char* after = data + stop;
      const bool word_before = start > 0 && [&] {
        const char* before = previous_code_point(data + start);
        return (flags[next_code_point(before)] & kWord) != 0;
      }();
      if (word_before || (stop < text.size() && (flags[next_code_point(after)] & kWord))) continue;
    }
    if (token.lstrip) {
      while (start > done) {
        const char* const before = previous_code_point(data + start);
        const char* at = before;
        if (!(flags[next_code_point(at)] & kWhiteSpace)) break;
        start = static_cast<std::size_t>(before - data);
      }
      start = std::max(start, done);
    }
    if (token.rstrip) {
      while (stop < text.size()) {
        const char* at = data + stop;
        if (!(flags[next_code_point(at)] & kWhiteSpace)) break;
        stop = static_cast<std::size_t>(at - data);
      }
    }
    if (start >= stop) continue;  // white space that the token before has taken along
    if (done < start) out.push_back({text.substr(done, start - done)});
    out.push_back({text.substr(start, stop - start), token.id});
    done = stop;
  }
  if (done < text.size()) out.push_back({text.substr(done)});
}

}  // namespace depthlens::text
