// Pairs of prompts: roles of tokens, and which pairs are left out.
#include "depthlens/data/pairs.hpp"

#include <map>
#include <string>
#include <vector>

#include "support/byte_tokenizer.hpp"
#include "support/catch.hpp"
#include "support/letter_tokenizer.hpp"
#include "support/warnings.hpp"

using namespace depthlens;
using data::Drop;
using data::Dropped;
using data::PairTask;
using data::PromptPair;

namespace {

/// The initials of the roles: b, f, m, l, a, L.
std::string roles_of(const std::string& source, const std::string& target) {
  std::string initials;
  for (const data::TokenRole role : data::token_roles(
           {.source = test::ByteTokenizer().encode(source), .target = test::ByteTokenizer().encode(target)}))
    initials += "bfmlaL"[static_cast<std::size_t>(role)];
  return initials;
}

PromptPair pair_of(const std::string& source, const std::string& source_answer, const std::string& target,
                   const std::string& target_answer) {
  PromptPair pair{.id = source + "/" + target, .source = {}, .target = {}};
  pair.source.prompt = source;
  pair.source.answer = source_answer;
  pair.target.prompt = target;
  pair.target.answer = target_answer;
  return pair;
}

}  // namespace

TEST_CASE("pairs: every token has one role") {
  CHECK(roles_of("one two", "one ten") == "bbbbbfL");  // a different last token is the last one
  CHECK(roles_of("abcdefg", "abXdefg") == "bblaaaL");
  CHECK(roles_of("abcdefg", "aXYdefg") == "bflaaaL");
  CHECK(roles_of("abcdefg", "aXcYefg") == "bfmlaaL");  // "c" stands between different ones
  CHECK(roles_of("abcdefg", "abcdefX") == "bbbbbbL");
  CHECK(roles_of("abcdefg", "XbcdefY") == "fmmmmmL");
  CHECK(roles_of("abcdefg", "abcdeXg") == "bbbbblL");
  CHECK(roles_of("ab", "Xb") == "lL");
  CHECK(roles_of("a", "X") == "L");
  CHECK(std::string(data::kTokenRoleNames[static_cast<std::size_t>(data::TokenRole::kLast)]) == "last");
}

TEST_CASE("pairs: those that cannot be patched are counted by reason") {
  const test::ByteTokenizer tokenizer;
  data::PairBuilder builder(tokenizer, 7, 8);
  builder.add(pair_of("the cat", "sat", "the cow", "lay"));
  builder.add(pair_of("the cat", "sat", "the bear", "lay"));  // 8 and 9 tokens with BOS: the window first
  builder.add(pair_of("the cat", "sat", "the ox", "lay"));
  builder.add(pair_of("the cat", "sat", "the cat", "lay"));
  builder.add(pair_of("the cat ", "sat", "the cow\n", " lay "));  // white space around is no text
  builder.add(pair_of("the pig", "1", "the hen", "2"));
  const PairTask task = std::move(builder).finish();
  CHECK(task.dropped == Dropped{{Drop::kLongerThanWindow, 1},
                                {Drop::kLengthsDiffer, 1},
                                {Drop::kSamePrompt, 1},
                                {Drop::kSameAnswer, 2},
                                {Drop::kRepeatedPair, 1}});
  CHECK(task.items.empty());  // every answer begins with a space, a token of its own here
}

TEST_CASE("pairs: tokens, answers and places") {
  const test::LetterTokenizer tokenizer;  // where bytes are tokens, all answers begin with the same space
  const auto built = [&](std::optional<text::TokenId> bos) {
    data::PairBuilder builder(tokenizer, bos, 100);
    builder.add(pair_of("same", "x", "same", "y"));
    builder.add(pair_of("a cat", "sat", "a cow ", "lay"));
    builder.add(pair_of("a cat", "sat", "a cow", "sat"));
    return std::move(builder).finish();
  };
  const PairTask task = built(std::nullopt);
  REQUIRE(task.items.size() == 1);
  const data::PairItem& item = task.items.front();
  CHECK(item.id == "a cat/a cow ");
  CHECK(item.document == 1);
  CHECK(item.pair.source == std::vector<text::TokenId>{'a', 256 + 'c', 'a', 't'});
  CHECK(item.pair.target == std::vector<text::TokenId>{'a', 256 + 'c', 'o', 'w'});
  CHECK(item.pair.source_answer == 256 + 's');
  CHECK(item.pair.target_answer == 256 + 'l');
  CHECK(item.pair.first_different() == 2);
  CHECK(item.roles.size() == 4);
  CHECK(task.dropped == Dropped{{Drop::kSamePrompt, 1}, {Drop::kSameAnswer, 1}});
  const PairTask with_bos = built(5);
  CHECK(with_bos.items.front().pair.source == std::vector<text::TokenId>{5, 'a', 256 + 'c', 'a', 't'});
}

TEST_CASE("pairs: a prompt or an answer without tokens is left out") {
  class Deaf final : public text::Tokenizer {
   public:
    std::vector<text::TokenId> encode(std::string_view text) const override {
      std::vector<text::TokenId> ids;
      for (const char c : text)
        if (c != ' ' && c != '?') ids.push_back(static_cast<unsigned char>(c));
      return ids;
    }
    const std::string& token_bytes(text::TokenId /*id*/) const override { return nothing_; }
    text::TokenId size() const override { return 256; }
    std::string kind() const override { return "deaf"; }

   private:
    std::string nothing_;
  };
  const Deaf tokenizer;
  for (const std::optional<text::TokenId> bos :
       {std::optional<text::TokenId>(), std::optional<text::TokenId>(1)}) {
    data::PairBuilder builder(tokenizer, bos, 100);
    builder.add(pair_of("??", "a", "ab", "b"));
    builder.add(pair_of("ab", "?", "ac", "b"));
    builder.add(pair_of("ab", "x", "ac", "?"));
    builder.add(pair_of("ab", "x", "ac", "y"));
    const PairTask task = std::move(builder).finish();
    CHECK(task.dropped == Dropped{{Drop::kNoTokens, 3}});
    CHECK(task.items.size() == 1);
  }
}

TEST_CASE("pairs: one that says the same as another is counted once, and told of") {
  const test::LetterTokenizer tokenizer;
  PairTask task;
  const std::vector<std::string> told = test::warnings_of([&] {
    data::PairBuilder builder(tokenizer, std::nullopt, 100);
    builder.begin_input("one.jsonl");
    CHECK(builder.add(pair_of("a cat", "sat", "a cow", "lay")));
    CHECK_FALSE(builder.add(pair_of("a cat ", "sat", "a cow", " lay")));
    builder.begin_input("two.jsonl");
    CHECK_FALSE(builder.add(pair_of("a cat", "sat", "a cow", "lay")));
    CHECK(builder.add(pair_of("a cat", "sat", "a cow", "ran")));
    CHECK(builder.add(pair_of("a cow", "lay", "a cat", "sat")));
    task = std::move(builder).finish();
  });
  CHECK(task.items.size() == 3);
  CHECK(task.items.back().document == 4);
  CHECK(task.dropped == Dropped{{Drop::kRepeatedPair, 2}});
  CHECK(told == std::vector<std::string>{
                    "one.jsonl: repeated pairs: 1 (first: 'a cat /a cow'); each is counted once",
                    "two.jsonl: repeated pairs: 1 (first: 'a cat/a cow'); each is counted once",
                    "two.jsonl: prompts that stand twice with different answers: 1 (first: 'a cat/a cow' and "
                    "'a cat/a cow'); both are asked"});
}
