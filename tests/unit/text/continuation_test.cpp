// How answers continue prompts: by bytes, by SentencePiece, and where a vocabulary knows no line break.
#include "depthlens/text/continuation.hpp"

#include "helpers.hpp"
#include "support/greedy_tokenizer.hpp"

using namespace depthlens;
using namespace depthlens::test;
using text::bare_tokens;
using text::continuation;
using text::is_whitespace;
using text::option_token;

namespace {

void check_continuation(const text::Tokenizer& tokenizer, const std::string& prompt,
                        const std::string& separator, const std::string& answer, const Ids& prompt_ids,
                        const Ids& answer_ids) {
  INFO("'" << prompt << "' + '" << separator << "' + '" << answer << "'");
  const text::Continuation found = continuation(tokenizer, prompt, separator, answer);
  CHECK(found.prompt == prompt_ids);
  CHECK(found.answer == answer_ids);
}

/// The byte-level tokenizer of the helpers, with " a" as a merge of its own.
Json tokenizer_with_leading_space() {
  Json tokenizer = small_tokenizer();
  tokenizer["model"]["merges"] = {"a b", "ab c", "\u0120 a"};
  return tokenizer;
}

const text::Tokenizer& demo() {
  static const auto tokenizer = text::load_tokenizer(std::string(DEPTHLENS_SOURCE_DIR) + "/data/demo");
  return *tokenizer;
}

}  // namespace

TEST_CASE("continuation: byte-level BPE") {
  const auto tokenizer = load(tokenizer_with_leading_space());
  check_continuation(*tokenizer, "ab", " ", "a", {4}, {7});
  // An answer of one token that splits when it comes with its space: "abc" is 5, " abc" is 3, 5.
  CHECK(tokenizer->encode("abc") == Ids{5});
  check_continuation(*tokenizer, "ab", " ", "abc", {4}, {3, 5});
  // Nothing between them: the letters join, and the answer begins with the token that holds both.
  check_continuation(*tokenizer, "ab", "", "c", {}, {5});
  check_continuation(*tokenizer, "1ab", "", "c", {8}, {5});
  check_continuation(*tokenizer, "ab", "", ".", {4}, {9});
  // A prompt with a space at its end. It is one token alone, and part of " a" with the answer.
  CHECK(tokenizer->encode("ab ") == Ids{4, 3});
  check_continuation(*tokenizer, "ab ", "", "a", {4}, {7});
  check_continuation(*tokenizer, "ab ", "", "c", {4, 3}, {2});
  // Nothing that a token stands for.
  check_continuation(*tokenizer, "ab", "", "", {4}, {});
  check_continuation(*tokenizer, "ab", "", "z", {4}, {});
  check_continuation(*tokenizer, "", " ", "a", {}, {7});
  check_continuation(*tokenizer, "", "", "", {}, {});
}

TEST_CASE("continuation: SentencePiece") {
  // Of the demo model: "▁The" 321, "▁capital" 2423, "▁of" 279, "▁France" 2090, "▁is" 326, "▁Paris" 2778.
  const Ids prompt = {321, 2423, 279, 2090, 326};
  check_continuation(demo(), "The capital of France is", " ", "Paris", prompt, {2778});
  // Alone, the space at the end is a token "▁" (8092); with the answer it is part of "▁Paris".
  CHECK(demo().encode("The capital of France is ").back() == 8092);
  check_continuation(demo(), "The capital of France is ", "", "Paris", prompt, {2778});
  // Digits are split, and the space stays alone.
  check_continuation(demo(), "in", " ", "1990", {281}, {8092, 8117, 8126, 8126, 8120});
  check_continuation(demo(), "in", "", "", {281}, {});
}

TEST_CASE("bare tokens: a text without a space before it") {
  const auto tokenizer = load(tokenizer_with_leading_space());
  CHECK(bare_tokens(*tokenizer, "a") == Ids{0});
  CHECK(bare_tokens(*tokenizer, "abc") == Ids{5});
  CHECK(bare_tokens(*tokenizer, "ab a") == Ids{4, 7});
  CHECK(bare_tokens(*tokenizer, "").empty());
  // "▁Paris" is a token of the demo model, "Paris" is not.
  CHECK(demo().encode("Paris") == Ids{2778});
  CHECK(bare_tokens(demo(), "Paris") == Ids{8129, 282, 274});
  CHECK(bare_tokens(demo(), "").empty());
}

TEST_CASE("bare tokens: where the first anchors join the text or leave no token") {
  // Line breaks are white space to this one: they do not hold a word's space off.
  const GreedyTokenizer collapsing({" Paris", "Paris", " (", " "});
  REQUIRE(collapsing.encode("\n").empty());
  CHECK(bare_tokens(collapsing, "Paris") == Ids{1});
  // "(" joins the word, "/" does not.
  const GreedyTokenizer joining({" Paris", "Paris", " (", " (Paris", " /"});
  CHECK(bare_tokens(joining, "Paris") == Ids{1});
  // No anchor serves: the text alone.
  CHECK(bare_tokens(GreedyTokenizer({" Paris", "Paris"}), "Paris") == Ids{0});
}

TEST_CASE("option token: the last one of a space and the option") {
  const auto tokenizer = load(tokenizer_with_leading_space());
  CHECK(option_token(*tokenizer, "a") == 7);
  CHECK(option_token(*tokenizer, "abc") == 5);  // behind the space's own token
  CHECK(option_token(*tokenizer, "a1") == 8);
  CHECK(option_token(*tokenizer, "") == 3);
  for (const auto& [option, id] : std::map<std::string, text::TokenId>{{"A", 302}, {"Paris", 2778}}) {
    CHECK(demo().encode(option) == Ids{id});
    CHECK(option_token(demo(), option) == id);
  }
  CHECK(option_token(demo(), "1990") == 8120);  // "0"
  CHECK(option_token(GreedyTokenizer({" a"}), "b") == text::kNoToken);
}

TEST_CASE("white space: tokens of nothing else") {
  Json spaced = small_tokenizer();
  spaced["added_tokens"] = Json::array({added_token("<s>", 20, {{"special", true}})});
  const auto tokenizer = load(spaced);
  std::vector<text::TokenId> white;
  for (text::TokenId id = 0; id < tokenizer->size(); ++id) {
    if (is_whitespace(*tokenizer, id)) white.push_back(id);
  }
  CHECK(white == Ids{3, 10});  // the space and the line break; not " a", not "<s>"
  CHECK(is_whitespace(demo(), 8092));
  CHECK(is_whitespace(demo(), 13));  // <0x0A>
  for (const text::TokenId id : {0, 1, 2, 302, 2778}) CHECK_FALSE(is_whitespace(demo(), id));
  CHECK_FALSE(is_whitespace(GreedyTokenizer({""}), 0));  // an id without a text
}
