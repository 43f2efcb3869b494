// Texts into added tokens and words.
#include "word_tokenizer.hpp"

#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "unicode.hpp"

namespace depthlens::text {
namespace {

constexpr std::size_t kMaxText = std::size_t{1} << 30;

}  // namespace

int fallback_byte(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return -1;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

std::string with_spaces(std::string_view token, std::string_view space) {
  if (space.empty()) return std::string(token);
  std::string out;
  std::size_t done = 0;
  for (std::size_t at; (at = token.find(space, done)) != std::string_view::npos; done = at + space.size()) {
    out += token.substr(done, at - done);
    out += ' ';
  }
  out += token.substr(done);
  return out;
}

WordTokenizer::WordTokenizer(TokenBytes token_bytes, const AddedTokens& added, TextSteps steps,
                             const SpecialIds& special)
    : token_bytes_(std::move(token_bytes)), steps_(std::move(steps)) {
  bos_ = special.bos;
  eos_ = special.eos;
  adds_bos_ = special.adds_bos && special.bos.has_value();
  std::vector<AddedToken> raw, normalized;
  for (const AddedToken& token : added.all()) {
    if (token.id >= size()) token_bytes_.by_id.resize(token.id + 1);
    std::string& bytes = token_bytes_.by_id[token.id];
    if (!token_bytes_.vocabulary_counts || bytes.empty())
      bytes = with_spaces(token.content, token_bytes_.space);
    if (!token.normalized) {
      raw.push_back(token);
      continue;
    }
    AddedToken wanted = token;
    std::string storage;
    wanted.content = std::string(steps_.normalizer.apply(token.content, storage));
    normalized.push_back(std::move(wanted));
  }
  raw_tokens_ = AddedTokenMatcher(std::move(raw));
  normalized_tokens_ = AddedTokenMatcher(std::move(normalized));
}

const std::string& WordTokenizer::token_bytes(TokenId id) const {
  static const std::string none;
  return id >= 0 && id < size() ? token_bytes_.by_id[id] : none;
}

std::vector<TokenId> WordTokenizer::encode(std::string_view text) const {
  if (text.size() > kMaxText) {
    throw util::input_error({.what = "a text that is too long to be tokenized at once",
                             .expected = util::cat("at most ", util::as_bytes(kMaxText)),
                             .found = util::as_bytes(text.size())});
  }
  require_valid_utf8(text, "the text to be tokenized");
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4);
  std::vector<Segment> segments, parts;
  Words words;
  std::string storage;
  raw_tokens_.split(text, segments);
  for (const Segment& segment : segments) {
    if (segment.id != kNoToken) {
      ids.push_back(segment.id);
      continue;
    }
    const std::string_view normalized = steps_.normalizer.apply(segment.text, storage);
    const bool at_text_start = segment.text.data() == text.data();
    parts.clear();
    normalized_tokens_.split(normalized, parts);
    for (const Segment& part : parts) {
      if (part.id != kNoToken) {
        ids.push_back(part.id);
        continue;
      }
      steps_.pre_tokenizer.split(part.text, at_text_start && part.text.data() == normalized.data(), words);
      encode_words(words.views, ids);
    }
  }
  return ids;
}

}  // namespace depthlens::text
