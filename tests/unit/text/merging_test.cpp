// Byte pair encoding on vocabularies small enough to merge by hand.
#include <random>

#include "helpers.hpp"
#include "text/bpe.hpp"

using namespace depthlens;
using namespace depthlens::test;

namespace {

Json with_merges(const Json& merges) {
  Json tokenizer = small_tokenizer();
  tokenizer["model"]["merges"] = merges;
  return tokenizer;
}

/// The definition: the merge of lowest rank, the leftmost of these, again and again.
Ids merged_slowly(const text::MergeTable& table, Ids symbols) {
  while (true) {
    const text::Merge* best = nullptr;
    std::size_t place = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const text::Merge* merge = table.find(symbols[i], symbols[i + 1]);
      if (merge != nullptr && (best == nullptr || merge->rank < best->rank)) {
        best = merge;
        place = i;
      }
    }
    if (best == nullptr) return symbols;
    symbols[place] = best->id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

}  // namespace

TEST_CASE("merging: the merge that stands first in the list goes first") {
  CHECK(load(with_merges({"a b", "ab c"}))->encode("abc") == Ids{5});
  CHECK(load(with_merges({"b c", "a b", "ab c"}))->encode("abc") == Ids{0, 6});
  CHECK(load(with_merges(Json::array()))->encode("abc") == Ids{0, 1, 2});
  CHECK(load(with_merges({"ab c"}))->encode("abc") == Ids{0, 1, 2});  // "ab" never comes about
}

TEST_CASE("merging: merges as pairs of strings are the same") {
  CHECK(load(with_merges(Json::parse(R"([["a", "b"], ["ab", "c"]])")))->encode("abcab") == Ids{5, 4});
}

TEST_CASE("merging: with ignore_merges a word that is a token needs none") {
  Json tokenizer = with_merges({"b c"});
  CHECK(load(tokenizer)->encode("abc") == Ids{0, 6});
  tokenizer["model"]["ignore_merges"] = true;
  CHECK(load(tokenizer)->encode("abc") == Ids{5});
  CHECK(load(tokenizer)->encode("abcbc") == Ids{0, 6, 6});
}

TEST_CASE("merging: never across words") {
  CHECK(load(small_tokenizer())->encode("ab c") == Ids{4, 3, 2});
  CHECK(load(with_merges({"\u0120 a"}))->encode("a a") == Ids{0, 7});
}

TEST_CASE("merging: bytes without a token are dropped, or become the unknown token") {
  CHECK(load(small_tokenizer())->encode("cxb") == Ids{2, 1});
  CHECK(load(small_tokenizer())->encode("axb") == Ids{4});  // and their neighbours may merge
  Json tokenizer = small_tokenizer();
  tokenizer["model"]["unk_token"] = ".";
  CHECK(load(tokenizer)->encode("axyb") == Ids{0, 9, 9, 1});
  tokenizer["model"]["fuse_unk"] = true;
  CHECK(load(tokenizer)->encode("axyb") == Ids{0, 9, 1});
}

TEST_CASE("merging: a long word is merged as a short one is") {
  const auto tokenizer = load(small_tokenizer());
  std::string word;
  Ids expected;
  for (int i = 0; i < 3000; ++i) {
    word += "abcb";
    expected.insert(expected.end(), {5, 1});
  }
  CHECK(tokenizer->encode(word) == expected);
}

TEST_CASE("merging: random tables and words of every length, against the definition") {
  std::mt19937 random(1);
  for (int round = 0; round < 60; ++round) {
    text::MergeTable table;
    text::TokenId next = 3;
    for (std::uint32_t rank = 0; rank < 25; ++rank) {
      const auto left = static_cast<text::TokenId>(random() % static_cast<unsigned>(next));
      const auto right = static_cast<text::TokenId>(random() % static_cast<unsigned>(next));
      if (table.find(left, right) == nullptr) table.set(left, right, {rank, next++});
    }
    for (const std::size_t length : {0, 1, 2, 3, 7, 31, 32, 33, 63, 64, 65, 127, 129, 300}) {
      Ids symbols;
      for (std::size_t i = 0; i < length; ++i) symbols.push_back(static_cast<text::TokenId>(random() % 3));
      const Ids expected = merged_slowly(table, symbols);
      text::merge_symbols(table, symbols);
      CHECK(symbols == expected);
    }
  }
}

TEST_CASE("encoding: an empty text has no tokens, invalid UTF-8 is refused with its place") {
  const auto tokenizer = load(small_tokenizer());
  CHECK(tokenizer->encode("").empty());
  check_error(util::ErrorCode::kFormat, {"UTF-8", "byte 2"}, [&] { tokenizer->encode("ab\xff"); });
}

TEST_CASE("encoding: the cache of words belongs to one tokenizer") {
  const auto merging = load(small_tokenizer()), plain = load(with_merges(Json::array()));
  for (int i = 0; i < 3; ++i) {
    CHECK(merging->encode("abc abc") == Ids{5, 3, 5});
    CHECK(plain->encode("abc abc") == Ids{0, 1, 2, 3, 0, 1, 2});
  }
}

TEST_CASE("token bytes: what a token adds to a text, nothing for ids that no token has") {
  const auto tokenizer = load(small_tokenizer());
  CHECK(tokenizer->size() == 20);
  CHECK(tokenizer->kind() == "byte-level BPE");
  CHECK(tokenizer->token_bytes(5) == "abc");
  CHECK(tokenizer->token_bytes(7) == " a");
  CHECK(tokenizer->token_bytes(10) == "\n");
  CHECK(tokenizer->token_bytes(20).empty());
  CHECK(tokenizer->token_bytes(-1).empty());
  Json gap = small_tokenizer();
  gap["model"]["vocab"]["\u00c3"] = 25;  // the byte C3 alone
  const auto with_gap = load(gap);
  CHECK(with_gap->size() == 26);
  CHECK(with_gap->token_bytes(22).empty());
  CHECK(with_gap->token_bytes(25) == "\xc3");
  CHECK(with_gap->token_text(25) == "\uFFFD");
}
