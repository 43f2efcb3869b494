// Documents out of text and JSON lines, several inputs as one corpus, and windows out of documents.
#include "depthlens/data/corpus.hpp"

#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/byte_tokenizer.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using data::Corpus;
using data::cut_into_windows;
using data::DocumentReader;
using data::TokenId;
using test::check_error;
using util::ErrorCode;

namespace {

using Documents = std::vector<std::string>;

DocumentReader reader_of(const std::string& bytes, const std::string& name) {
  return DocumentReader(std::make_unique<std::istringstream>(bytes), name);
}

Documents documents_of(const std::string& bytes, const std::string& name = "x.txt") {
  DocumentReader reader = reader_of(bytes, name);
  Documents documents;
  while (auto document = reader.next()) documents.push_back(*document);
  CHECK_FALSE(reader.next().has_value());  // the end stays the end
  CHECK(reader.sha256() == util::sha256(bytes));
  return documents;
}

Documents json_documents_of(const std::string& bytes) {
  return documents_of(bytes, "x.jsonl");
}

void check_refused(const std::string& bytes, const std::string& name, const std::vector<std::string>& parts) {
  INFO(bytes);
  check_error(ErrorCode::kInput, parts, [&] {
    DocumentReader reader = reader_of(bytes, name);
    while (reader.next()) continue;
  });
}

std::vector<TokenId> counting(int count) {
  std::vector<TokenId> tokens;
  for (int i = 1; i <= count; ++i) tokens.push_back(i);
  return tokens;
}

using Windows = std::vector<std::vector<TokenId>>;

}  // namespace

TEST_CASE("text: documents are separated by blank lines, single line breaks stay") {
  CHECK(documents_of("one\ntwo\n\nthree\n") == Documents{"one\ntwo", "three"});
  CHECK(documents_of("one\n\n\n \t\n\ntwo") == Documents{"one", "two"});
  CHECK(documents_of("\n\n\none\n\n\n") == Documents{"one"});
  CHECK(documents_of("one") == Documents{"one"});
  CHECK(documents_of("one\n") == Documents{"one"});
}

TEST_CASE("text: nothing but white space is no document") {
  CHECK(documents_of("").empty());
  CHECK(documents_of("\n").empty());
  CHECK(documents_of(" \n\t\n\r\n\f\n").empty());
}

TEST_CASE("text: spaces at either end of a line are the document's own") {
  CHECK(documents_of("  indented\nprompt \n\nnext") == Documents{"  indented\nprompt ", "next"});
}

TEST_CASE("text: with CRLF line ends blank lines separate as well, and carriage returns stay") {
  CHECK(documents_of("one\r\ntwo\r\n\r\nthree\r\n") == Documents{"one\r\ntwo\r", "three\r"});
}

TEST_CASE("text: a byte order mark at the beginning is dropped, elsewhere it is text") {
  CHECK(documents_of("\xEF\xBB\xBFone\n\ntwo") == Documents{"one", "two"});
  CHECK(documents_of("one\n\n\xEF\xBB\xBFtwo") == Documents{"one", "\xEF\xBB\xBFtwo"});
  CHECK(documents_of("\xEF\xBB\xBF\n").empty());
}

TEST_CASE("text: zero bytes and long lines are read") {
  const std::string zero("a\0b", 3);
  CHECK(documents_of(zero + "\n\nc") == Documents{zero, "c"});
  const std::string long_line(300'000, 'x');
  CHECK(documents_of(long_line + "\n" + long_line) == Documents{long_line + "\n" + long_line});
}

TEST_CASE("text: invalid UTF-8 is refused with line and byte") {
  check_refused("one\n\ntw\xff\n", "x.txt",
                {"not UTF-8", "x.txt, line 3, byte 3 of the line", R"(found '\xff)"});
  check_refused("\xe9t\xe9", "x.txt", {"line 1, byte 1"});
  check_refused("caf\xc3", "x.txt", {"line 1, byte 4"});
  // A mistake behind the first document shows when it is reached.
  DocumentReader reader = reader_of("good\n\nbad\xff", "x.txt");
  CHECK(reader.next() == std::optional<std::string>("good"));
  CHECK_THROWS_AS(reader.next(), util::Error);
}

TEST_CASE("text: the byte told is that of the line as it stands in the file, byte order mark included") {
  check_refused(
      "\xEF\xBB\xBF"
      "ab\xff",
      "x.txt", {"line 1, byte 6 of the line"});
}

TEST_CASE("json lines: the text of one object a line") {
  CHECK(json_documents_of("{\"text\": \"one\\ntwo\", \"id\": 7}\n{\"text\": \"\\u00e9\"}\n") ==
        Documents{"one\ntwo", "\u00e9"});
  CHECK(json_documents_of("{\"text\": \"a\"}") == Documents{"a"});
  CHECK(json_documents_of("\xEF\xBB\xBF{\"text\": \"a\"}\r\n\r\n  \n{\"text\": \" b \"}\r\n") ==
        Documents{"a", " b "});
  CHECK(json_documents_of("{\"text\": \"with\\n\\nblank line\"}") == Documents{"with\n\nblank line"});
  CHECK(json_documents_of("").empty());
}

TEST_CASE("json lines: documents of nothing but white space are left out") {
  CHECK(json_documents_of("{\"text\": \"\"}\n{\"text\": \" \\n\\t\"}\n{\"text\": \"x\"}\n") ==
        Documents{"x"});
}

TEST_CASE("json lines: a fault is an input error that names the line") {
  check_refused("{\"text\": \"a\"}\n{\"txt\": \"b\"}\n", "x.jsonl",
                {"missing key 'text'", "x.jsonl, line 2"});
  check_refused("\n\n{\"text\": 5}\n", "x.jsonl", {"x.jsonl, line 3: text", "expected a string, found 5"});
  check_refused("{\"text\": null}\n", "x.jsonl", {"missing key 'text'", "line 1"});
  check_refused("[\"text\"]\n", "x.jsonl", {"line 1", "expected an object with the key 'text'"});
  check_refused("{\"text\": \"a\"\n", "x.jsonl", {"not valid JSON", "line 1"});
  check_refused("{\"text\": \"a\", \"text\": \"b\"}\n", "x.jsonl", {"'text' twice", "line 1"});
  check_refused("{\"text\": \"a\"} {\"text\": \"b\"}\n", "x.jsonl", {"not valid JSON", "line 1"});
  check_refused("{\"text\": \"\xff\"}\n", "x.jsonl", {"not UTF-8", "line 1, byte 11"});
  check_refused("plain text\n", "x.jsonl", {"not valid JSON", "line 1"});
}

TEST_CASE("only .jsonl is JSON") {
  CHECK(documents_of("{\"text\": \"a\"}", "x.json") == Documents{"{\"text\": \"a\"}"});
  CHECK(documents_of("{\"text\": \"a\"}", "-") == Documents{"{\"text\": \"a\"}"});
}

TEST_CASE("reader: the digest is of the whole file, also where it is asked for early") {
  for (const std::string bytes : {"a\n\nb\n\nc", "a\n\nb\n", "a\r\n", "", "\n\n\n", "\xEF\xBB\xBFx"}) {
    DocumentReader reader = reader_of(bytes, "x.txt");
    reader.next();
    CHECK(reader.sha256() == util::sha256(bytes));
  }
}

TEST_CASE("reader: a missing file or a folder is an input error") {
  const test::TemporaryFolder folder;
  check_error(ErrorCode::kInput, {"none.txt'", "No such file"},
              [&] { DocumentReader((folder.path() / "none.txt").string()); });
  check_error(ErrorCode::kInput, {"a folder"}, [&] { DocumentReader(folder.path().string()); });
}

TEST_CASE("corpus: several inputs are one stream, with a summary of each") {
  const test::TemporaryFolder folder;
  const std::string first = folder.write("a.txt", "one\n\ntwo\n").string();
  const std::string empty = folder.write("b.txt", " \n").string();
  const std::string last = folder.write("c.jsonl", "{\"text\": \"three\"}\n").string();
  const test::ByteTokenizer tokenizer;
  Corpus corpus({first, empty, last}, tokenizer, 0);
  for (int pass = 0; pass < 2; ++pass) {  // the second time after rewind
    std::vector<std::int64_t> indices;
    std::vector<std::size_t> inputs;
    Documents texts;
    while (auto document = corpus.next()) {
      indices.push_back(document->index);
      inputs.push_back(document->input);
      texts.emplace_back(document->tokens.begin(), document->tokens.end());
    }
    CHECK(indices == std::vector<std::int64_t>{0, 1, 2});
    CHECK(inputs == std::vector<std::size_t>{0, 0, 2});
    CHECK(texts == Documents{"one", "two", "three"});
    const auto& summaries = corpus.summaries();
    REQUIRE(summaries.size() == 3);
    CHECK(summaries[0].path == first);
    CHECK(summaries[0].documents == 2);
    CHECK(summaries[0].tokens == 6);
    CHECK(summaries[0].sha256 == util::sha256("one\n\ntwo\n"));
    CHECK(summaries[1].documents == 0);
    CHECK(summaries[1].tokens == 0);
    CHECK(summaries[1].sha256 == util::sha256(" \n"));
    CHECK(summaries[2].tokens == 5);
    corpus.rewind();
  }
}

TEST_CASE("corpus: the limit counts documents over all inputs, digests are still of whole files") {
  const test::TemporaryFolder folder;
  const std::string a = folder.write("a.txt", "one\n\ntwo\n").string();
  const std::string b = folder.write("b.txt", "three\n\nfour\n").string();
  const test::ByteTokenizer tokenizer;
  for (const std::int64_t limit : {1, 2, 3, 4, 5}) {
    Corpus corpus({a, b}, tokenizer, limit);
    std::int64_t count = 0;
    while (corpus.next()) ++count;
    CHECK(count == std::min<std::int64_t>(limit, 4));
    CHECK(corpus.summaries()[0].documents == std::min<std::int64_t>(limit, 2));
    CHECK(corpus.summaries()[0].sha256 == util::sha256("one\n\ntwo\n"));
    CHECK(corpus.summaries()[1].sha256 == util::sha256("three\n\nfour\n"));
  }
}

TEST_CASE("corpus: a missing second input is told before the first is read") {
  const test::TemporaryFolder folder;
  const std::string a = folder.write("a.txt", "one").string();
  const std::string none = (folder.path() / "none.txt").string();
  const test::ByteTokenizer tokenizer;
  check_error(ErrorCode::kInput, {"none.txt'"}, [&] { Corpus({a, none}, tokenizer, 0); });
  check_error(ErrorCode::kUsage, {"stdin", "only once"}, [&] { Corpus({"-", a, "-"}, tokenizer, 0); });
}

TEST_CASE("windows: consecutive, none longer than asked for, nothing lost") {
  CHECK(cut_into_windows(counting(7), 3, {}) == Windows{{1, 2, 3}, {4, 5, 6}, {7}});
  CHECK(cut_into_windows(counting(6), 3, {}) == Windows{{1, 2, 3}, {4, 5, 6}});
  CHECK(cut_into_windows(counting(3), 512, {}) == Windows{{1, 2, 3}});
  CHECK(cut_into_windows(counting(3), 3, {}) == Windows{{1, 2, 3}});
  CHECK(cut_into_windows(counting(2), 1, {}) == Windows{{1}, {2}});
}

TEST_CASE("windows: BOS stands before every window and counts") {
  CHECK(cut_into_windows(counting(5), 3, 0) == Windows{{0, 1, 2}, {0, 3, 4}, {0, 5}});
  CHECK(cut_into_windows(counting(4), 3, 0) == Windows{{0, 1, 2}, {0, 3, 4}});
  CHECK(cut_into_windows(counting(2), 2, 9) == Windows{{9, 1}, {9, 2}});
  CHECK(cut_into_windows(counting(2), 3, 9) == Windows{{9, 1, 2}});
}

TEST_CASE("windows: an empty document gives none, with BOS or without") {
  CHECK(cut_into_windows({}, 3, {}).empty());
  CHECK(cut_into_windows({}, 3, 0).empty());
}

TEST_CASE("windows: joined again they are the document, for every length") {
  for (int tokens = 1; tokens <= 12; ++tokens) {
    for (std::int64_t length = 2; length <= 14; ++length) {
      for (const bool with_bos : {false, true}) {
        const auto windows =
            cut_into_windows(counting(tokens), length, with_bos ? std::optional<TokenId>(0) : std::nullopt);
        std::vector<TokenId> joined;
        for (std::size_t w = 0; w < windows.size(); ++w) {
          CHECK(static_cast<std::int64_t>(windows[w].size()) <= length);
          if (w + 1 < windows.size()) CHECK(static_cast<std::int64_t>(windows[w].size()) == length);
          CHECK(windows[w].size() > (with_bos ? 1u : 0u));
          joined.insert(joined.end(), windows[w].begin() + (with_bos ? 1 : 0), windows[w].end());
        }
        CHECK(joined == counting(tokens));
      }
    }
  }
}

TEST_CASE("windows: without room for a token the caller is at fault") {
  CHECK_THROWS_AS(cut_into_windows(counting(2), 1, 0), std::logic_error);
  CHECK_THROWS_AS(cut_into_windows(counting(2), 0, {}), std::logic_error);
}
