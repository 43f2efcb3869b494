// Unigram models in tokenizer.json: the best pieces by the definition, what is unknown, damaged files.
#include <algorithm>
#include <functional>
#include <limits>
#include <random>

#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;
using util::ErrorCode;

namespace {

using Pieces = std::vector<std::pair<std::string, double>>;

/// One whose texts are single words, as they stand: spaces are no matter here.
Json unigram(const Pieces& pieces, bool byte_fallback = false) {
  Json vocab = Json::array();
  for (const auto& [piece, score] : pieces) vocab.push_back({piece, score});
  return {
      {"added_tokens", Json::array()},
      {"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}},
      {"pre_tokenizer", nullptr},
      {"post_processor", nullptr},
      {"model",
       {{"type", "Unigram"}, {"unk_id", 0}, {"byte_fallback", byte_fallback}, {"vocab", std::move(vocab)}}}};
}

Ids ids_of(const Json& tokenizer, const std::string& text) {
  return load(tokenizer)->encode(text);
}

}  // namespace

TEST_CASE("unigram: the pieces of the largest sum, of random tables, against all ways there are") {
  std::mt19937 random(7);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int repeat = 0; repeat < 40; ++repeat) {
    Pieces pieces = {{"<unk>", 0}};
    double least = 0;
    for (int i = 0; i < 25; ++i) {
      std::string piece;
      for (int length = 1 + below(4); length > 0; --length) piece += static_cast<char>('a' + below(4));
      const auto same = [&](const auto& other) { return other.first == piece; };
      if (std::any_of(pieces.begin(), pieces.end(), same)) continue;
      pieces.emplace_back(piece,
                          -static_cast<double>(random()) / static_cast<double>(std::mt19937::max()) * 9);
      least = std::min(least, pieces.back().second);
    }
    const auto tokenizer = load(unigram(pieces));
    for (int length = 1; length <= 9; ++length) {
      std::string word;
      for (int i = 0; i < length; ++i) word += static_cast<char>('a' + below(4));
      INFO("table " << repeat << ", " << word);
      // A letter that is no piece costs ten more than the worst of them.
      double best = -std::numeric_limits<double>::infinity();
      std::vector<int> chosen, found;
      const std::function<void(std::size_t, double)> try_all = [&](std::size_t at, double sum) {
        if (at == word.size()) {
          if (sum > best) best = sum, found = chosen;
          return;
        }
        bool is_piece = false;
        for (std::size_t i = 1; i < pieces.size(); ++i) {
          const std::string& piece = pieces[i].first;
          if (word.compare(at, piece.size(), piece) != 0) continue;
          is_piece |= piece.size() == 1;
          chosen.push_back(static_cast<int>(i));
          try_all(at + piece.size(), sum + pieces[i].second);
          chosen.pop_back();
        }
        if (is_piece) return;
        chosen.push_back(0);
        try_all(at + 1, sum + least - 10);
        chosen.pop_back();
      };
      try_all(0, 0);
      Ids expected;
      for (const int id : found) {
        if (id != 0 || expected.empty() || expected.back() != 0) expected.push_back(id);
      }
      // Pieces may change places where that makes the same word: the sum is the same but for its rounding.
      Ids ids = tokenizer->encode(word);
      std::string spelled;
      for (const text::TokenId id : ids) spelled += tokenizer->token_bytes(id);
      if (std::count(ids.begin(), ids.end(), 0) == 0) CHECK(spelled == word);
      std::sort(ids.begin(), ids.end());
      std::sort(expected.begin(), expected.end());
      CHECK(ids == expected);
    }
  }
}

TEST_CASE("unigram: of equal sums the piece that was found first stays") {
  // "ab" and "a" + "b" are worth the same; the way that comes from further back is found first.
  CHECK(ids_of(unigram({{"<unk>", 0}, {"a", -1}, {"b", -2}, {"ab", -3}}), "ab") == Ids{3});
  CHECK(ids_of(unigram({{"<unk>", 0}, {"a", -1}, {"b", -2}, {"ab", -3.5}}), "ab") == Ids{1, 2});
}

TEST_CASE(
    "unigram: scores are rounded as Hugging Face's package reads them, whose last bit orders equal ways") {
  const Pieces pieces = {{"<unk>", 0}, {"\u2581\u2581", -1.9722681947544873}, {"\u2581", -7.588020551378657}};
  const Ids ids = ids_of(unigram(pieces), std::string(71, ' '));
  REQUIRE(ids.size() == 36);
  CHECK(std::find(ids.begin(), ids.end(), 2) - ids.begin() == 5);  // tokenizers 0.23.3
}

TEST_CASE("unigram: unknown text that stands together is one token, or bytes where there are all of these") {
  Pieces pieces = {{"<unk>", 0}, {"a", -1}};
  CHECK(ids_of(unigram(pieces), "axya\u00e9z") == Ids{1, 0, 1, 0});
  CHECK(ids_of(unigram(pieces), "") == Ids{});
  for (int byte = 0; byte < 256; ++byte) {
    constexpr const char* kDigits = "0123456789ABCDEF";
    pieces.emplace_back(std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">", -20);
  }
  CHECK(ids_of(unigram(pieces), "a\u00e9") == Ids{1, 0});  // unless the model says so
  const auto tokenizer = load(unigram(pieces, true));
  CHECK(tokenizer->encode("a\u00e9xa") == Ids{1, 2 + 0xc3, 2 + 0xa9, 2 + 'x', 1});
  CHECK(tokenizer->token_bytes(2 + 0xc3) == "\xc3");
  // The unknown token as text is itself; with more beside it bytes.
  CHECK(tokenizer->encode("a<unk>a") == Ids{1, 0, 1});
  CHECK(tokenizer->encode("<unk>z").size() == 6);
  pieces.erase(pieces.begin() + 2 + 'x');
  CHECK(ids_of(unigram(pieces, true), "a\u00e9xa") == Ids{1, 0, 1});
}

TEST_CASE("unigram: what a text begins with is marked once, by the expression that llm-jp has for it") {
  Json tokenizer = unigram({{"<unk>", 0}, {"\u2581", -1}, {"a", -1}, {"\n", -1}, {"<s>", 0}});
  tokenizer["added_tokens"] = {added_token("<s>", 4)};
  const Json mark = {{"type", "Replace"}, {"pattern", {{"Regex", R"((?<!\n)^)"}}}, {"content", "\u2581"}};
  const Json spaces = {{"type", "Replace"}, {"pattern", {{"Regex", " "}}}, {"content", "\u2581"}};
  tokenizer["normalizer"] = {{"type", "Sequence"}, {"normalizers", {mark, spaces}}};
  tokenizer["decoder"] = {
      {"type", "Sequence"},
      {"decoders",
       {{{"type", "ByteFallback"}},
        {{"type", "Replace"}, {"pattern", {{"Regex", "\u2581"}}}, {"content", " "}},
        {{"type", "Fuse"}},
        {{"type", "Replace"}, {"pattern", {{"Regex", R"((?<!\n)^ )"}}}, {"content", ""}}}}};
  CHECK(ids_of(tokenizer, "a\na a") == Ids{1, 2, 3, 2, 1, 2});
  CHECK(ids_of(tokenizer, "a<s>a") == Ids{1, 2, 4, 1, 2});
}

TEST_CASE("unigram: damaged files and what is not there") {
  const auto refused = [](const std::vector<std::string>& parts, const std::function<void(Json&)>& change) {
    Json tokenizer = unigram({{"<unk>", 0}, {"a", -1}});
    change(tokenizer);
    std::vector<std::string> all = parts;
    all.push_back("tokenizer.json");
    check_error(ErrorCode::kFormat, all, [&] { load(tokenizer); });
  };
  refused({"model: vocab", "a list of pieces"}, [](Json& t) { t["model"]["vocab"] = Json::object(); });
  refused({"missing key 'vocab'"}, [](Json& t) { t["model"].erase("vocab"); });
  for (const Json& piece : std::vector<Json>{"b", {"b"}, {"b", "c"}, {1, 1}, {"b", -1, 2}, nullptr, 5}) {
    INFO(piece.dump());
    refused({"model: vocab[1]", "a piece and its score"}, [&](Json& t) { t["model"]["vocab"][1] = piece; });
  }
  refused({"the piece 'a' twice", "ids 1 and 2"}, [](Json& t) { t["model"]["vocab"].push_back({"a", -3}); });
  refused({"without unk_id"}, [](Json& t) { t["model"]["unk_id"] = nullptr; });
  refused({"without unk_id"}, [](Json& t) { t["model"].erase("unk_id"); });
  refused({"unk_id", "from 0 to 1"}, [](Json& t) { t["model"]["unk_id"] = 2; });
  refused({"without unk_id"}, [](Json& t) {
    t["model"]["vocab"] = Json::array();
    t["model"].erase("unk_id");
  });
  refused({"Unigram with ByteLevel"}, [](Json& t) { t["pre_tokenizer"] = {{"type", "ByteLevel"}}; });
  refused({"Unigram over characters"}, [](Json& t) { t["normalizer"] = nullptr; });
  refused({"the setting 'novel'"}, [](Json& t) { t["model"]["novel"] = 1; });
  const auto of_class = [](const std::string& name) {
    load_files(Files{{"tokenizer.json", unigram({{"<unk>", 0}, {"a", -1}}).dump()},
                     {"tokenizer_config.json", Json{{"tokenizer_class", name}}.dump()}});
  };
  check_error(ErrorCode::kFormat, {"a Unigram model with the class LlamaTokenizer", "tokenizer.model"},
              [&] { of_class("LlamaTokenizer"); });
  const Warnings warnings;
  of_class("PreTrainedTokenizerFast");
  CHECK(warnings.count() == 0);
  of_class("XGLMTokenizer");
  CHECK(warnings.tell({"is read as it stands", "XGLMTokenizer"}));
}
