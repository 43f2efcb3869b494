// Tokens that are found in a text before anything else: special tokens, runs of spaces, what a fine-tuning
// added.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "depthlens/text/tokenizer.hpp"
#include "prefix_tree.hpp"

namespace depthlens::text {

/// No tokenizer comes near; a larger id in a file is a mistake that would cost memory for every id below it.
constexpr TokenId kMaxTokens = TokenId{1} << 22;

struct AddedToken {
  std::string content = {};
  TokenId id = kNoToken;     ///< kNoToken: the file does not say
  bool single_word = false;  ///< only where no part of a word stands beside it
  bool lstrip = false;       ///< takes the white space before it along
  bool rstrip = false;
  bool normalized = false;  ///< looked for after normalization
  bool special = false;
  bool stays_text = false;  ///< where it is found in a text, it is text

  bool operator==(const AddedToken&) const = default;
};

/// A part of a text: an added token, or text between them (`id` is kNoToken).
struct Segment {
  std::string_view text;
  TokenId id = kNoToken;
};

/// The added tokens of one tokenizer, with ids.
class AddedTokens {
 public:
  using Lookup = std::function<std::optional<TokenId>(const std::string&)>;

  /// `vocabulary` gives the ids of tokens that are in the vocabulary already, which holds `count`. `taken`
  /// tells its ids where they have holes; empty: they are 0 … count − 1.
  AddedTokens(Lookup vocabulary, TokenId count, std::vector<bool> taken = {})
      : vocabulary_(std::move(vocabulary)), next_id_(count), taken_(std::move(taken)) {}

  /// Adds, or replaces the token of that content. Its id is the vocabulary's, or else the next one behind the
  /// vocabulary and the tokens added before, whatever the file says: so Hugging Face's package does. What
  /// was special stays special. Throws a format error where the id is taken or too large.
  void add(AddedToken token, const std::string& where);
  /// Warns, in one line, where files say other ids.
  void warn_of_ids() const;

  /// Marks a token that is there as special.
  void mark_special(const std::string& content);
  /// From now on special tokens that stand in a text are text.
  void leave_special_as_text();

  const AddedToken* find(const std::string& content) const;
  /// The id of an added token or of a token of the vocabulary.
  std::optional<TokenId> id_of(const std::string& content) const;
  const std::vector<AddedToken>& all() const { return tokens_; }

 private:
  Lookup vocabulary_;
  TokenId next_id_;
  std::vector<bool> taken_;
  std::string first_moved_;  // what a file says of the first token whose id is not the file's
  std::size_t moved_ = 0;
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, std::size_t> by_content_;
};

/// Finds added tokens in a text: the leftmost, among those the longest, then on behind it.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  /// Each token is looked for as its `content`.
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  /// Appends the parts of `text` (valid UTF-8) in order; views into it. Nothing for an empty text.
  void split(std::string_view text, std::vector<Segment>& out) const;

 private:
  /// The longest token that starts at `start`, as its index, or PrefixTree::kNone.
  int longest_at(std::string_view text, std::size_t start) const;

  std::vector<AddedToken> tokens_;
  PrefixTree contents_;  // with their indices
  bool starts_[256] = {};
};

}  // namespace depthlens::text
