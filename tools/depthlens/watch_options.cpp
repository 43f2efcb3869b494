// Tokens by text or number.
#include "watch_options.hpp"

#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "flags.hpp"

namespace depthlens::tool {
namespace {

using experiments::Watch, experiments::WatchedToken;

class TokenFinder {
 public:
  TokenFinder(const text::Tokenizer& tokenizer, std::int64_t vocab_size)
      : tokenizer_(tokenizer), size_(vocab_size) {}

  /// Index into the watch's tokens.
  std::size_t add(const std::string& text, const std::string& where) {
    WatchedToken token = token_of(text, where);
    for (std::size_t i = 0; i < watch_.tokens.size(); ++i) {
      const WatchedToken& other = watch_.tokens[i];
      if (other.kind == token.kind && other.id == token.id) return i;
      if (other.name == token.name) token.name += util::cat(" (#", token.id, ")");  // two ids, one text
    }
    if (token.kind == WatchedToken::Kind::kToken) tell(token.id, text);
    watch_.tokens.push_back(std::move(token));
    return watch_.tokens.size() - 1;
  }

  void add_pair(const std::string& text) {
    const std::string where = "--watch-pair " + util::in_quotes(text);
    const auto comma = text.find(',');
    if (comma == std::string::npos || text.find(',', comma + 1) != std::string::npos) {
      throw util::usage_error({.what = "not a pair of tokens",
                               .where = where,
                               .expected = "two tokens with one comma between them",
                               .hint = "a token with a comma is named by its number: #ID"});
    }
    const std::size_t first = add(text.substr(0, comma), where), second = add(text.substr(comma + 1), where);
    if (first == second) throw util::usage_error({.what = "a pair of one token with itself", .where = where});
    const auto is_same = [&](const auto& pair) { return pair.first == first && pair.second == second; };
    if (std::any_of(watch_.pairs.begin(), watch_.pairs.end(), is_same)) return;
    watch_.pairs.push_back({.first = first,
                            .second = second,
                            .name = watch_.tokens[first].name + "," + watch_.tokens[second].name});
  }

  Watch finish() && { return std::move(watch_); }

 private:
  std::string shown(text::TokenId id) const {
    return util::cat(util::in_quotes(text_of(id)), " (#", id, ")");
  }

  /// "" of ids beyond the tokenizer's, of a padded vocabulary.
  std::string text_of(text::TokenId id) const {
    return id < tokenizer_.size() ? tokenizer_.token_text(id) : "";
  }

  WatchedToken of_id(text::TokenId id) const {
    const std::string text = text_of(id);
    return {.id = id, .name = text.empty() ? util::cat("#", id) : text};
  }

  WatchedToken token_of(const std::string& text, const std::string& where) const {
    if (text == "#target") return {.kind = WatchedToken::Kind::kTarget, .name = text};
    if (text == "#distractor") return {.kind = WatchedToken::Kind::kDistractor, .name = text};
    std::int64_t id = 0;
    if (text.size() > 1 && text[0] == '#' && util::parse_int(text.substr(1), id) &&
        text.substr(1) == std::to_string(id)) {
      if (id < 0 || id >= size_) {
        throw util::usage_error({.what = "no such token",
                                 .where = where,
                                 .expected = util::cat("an id from 0 to ", size_ - 1),
                                 .found = text});
      }
      return of_id(static_cast<text::TokenId>(id));
    }
    if (!util::is_valid_utf8(text))
      throw util::usage_error({.what = "a token that is not UTF-8", .where = where});

    const std::vector<text::TokenId> named = with_text(text);
    // Behind a space tokenizers cut in several ways, but what is meant is plain.
    if (text.starts_with(' ') && named.size() == 1) return of_id(named.front());
    const std::vector<text::TokenId> tokens = tokenizer_.encode(text);
    if (tokens.size() == 1 && tokens.front() < size_) return of_id(tokens.front());
    if (named.size() == 1) return of_id(named.front());
    // Bytes that are tokens of their own have the texts of others; what a text is made of is meant.
    const std::vector<text::TokenId> within = tokenizer_.encode("a" + text);
    if (!within.empty() && std::find(named.begin(), named.end(), within.back()) != named.end())
      return of_id(within.back());
    fail(text, where, tokens, named);
  }

  /// Which token it is, and which has the text to the letter where that is another one.
  void tell(text::TokenId id, const std::string& text) const {
    const std::vector<text::TokenId> named = with_text(text);
    std::string others;
    for (const text::TokenId other : named) {
      if (other != id) others += util::cat("; ", shown(other), " is another token");
    }
    util::log_info(util::cat("watching ", shown(id), others));
  }

  std::vector<text::TokenId> with_text(const std::string& text) const {
    std::vector<text::TokenId> ids;
    for (text::TokenId id = 0; id < size_; ++id) {
      if (tokenizer_.token_bytes(id) == text) ids.push_back(id);
    }
    return ids;
  }

  [[noreturn]] void fail(const std::string& text, const std::string& where,
                         const std::vector<text::TokenId>& tokens,
                         const std::vector<text::TokenId>& named) const {
    const std::vector<text::TokenId>& all = named.size() > 1 ? named : tokens;
    std::vector<std::string> each;
    for (const text::TokenId id : all) each.push_back(shown(id));
    util::ErrorText error = {.what = "not one token",
                             .where = where,
                             .expected = "the text of one token, or #ID",
                             .found = all.empty() ? "no token" : util::join(each, ", "),
                             .hint = "a token is named by its number: #ID"};
    const std::string spaced = " " + text;
    if (named.size() > 1) error.what = "several tokens have this text";
    if (const auto other = with_text(spaced); named.empty() && other.size() == 1 && tokens != other)
      error.hint =
          util::cat(util::in_quotes(spaced), ", with its space, is one token (#", other.front(), ")");
    throw util::usage_error(std::move(error));
  }

  const text::Tokenizer& tokenizer_;
  std::int64_t size_;
  Watch watch_;
};

}  // namespace

void add_watch_options(CLI::App& app, WatchOptions& options) {
  add_repeatable(
      app, "--watch", options.tokens,
      "Token whose rank and log-probability are followed at every layer: its text, #ID, #target or "
      "#distractor; may be given several times",
      /*lists=*/false)
      ->type_name("TEXT|#ID");
  add_repeatable(
      app, "--watch-pair", options.pairs,
      "Two tokens, the difference of whose log-probabilities is followed; may be given several times",
      /*lists=*/false)
      ->type_name("A,B");
}

experiments::Watch find_watched(const WatchOptions& options, const text::Tokenizer& tokenizer,
                                std::int64_t vocab_size) {
  TokenFinder finder(tokenizer, vocab_size);
  for (const std::string& text : options.tokens) finder.add(text, "--watch " + util::in_quotes(text));
  for (const std::string& text : options.pairs) finder.add_pair(text);
  return std::move(finder).finish();
}

void describe_watched(const experiments::Watch& watch, util::OrderedJson& settings) {
  if (watch.empty()) return;
  settings["watch"] = util::OrderedJson::array();
  for (const WatchedToken& token : watch.tokens) {
    const bool fixed = token.kind == WatchedToken::Kind::kToken;
    settings["watch"].push_back(
        {{"text", token.name}, {"id", fixed ? util::OrderedJson(token.id) : util::OrderedJson(nullptr)}});
  }
  util::OrderedJson names = util::OrderedJson::array(), tokens = util::OrderedJson::array();
  for (const experiments::WatchedPair& pair : watch.pairs) {
    names.push_back(pair.name);
    tokens.push_back({pair.first, pair.second});
  }
  settings["watch_pairs"] = names;
  settings["watch_pair_tokens"] = tokens;
}

}  // namespace depthlens::tool
