// Documents out of text and JSON lines, several inputs as one corpus, and windows out of documents.
#include "depthlens/data/corpus.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "depthlens/util/log.hpp"
#include "support/byte_tokenizer.hpp"
#include "support/check_error.hpp"
#include "support/compressed.hpp"
#include "support/temporary_folder.hpp"
#include "support/warnings.hpp"

using namespace depthlens;
using data::Corpus;
using data::cut_into_windows;
using data::DocumentReader;
using data::TokenId;
using test::check_error;
using util::ErrorCode;

namespace {

using Documents = std::vector<std::string>;

/// A file of its own, and its reader.
struct Input {
  Input(const std::string& bytes, const std::string& name)
      : file(folder.write(name, bytes).string()), reader(file) {}
  test::TemporaryFolder folder;
  util::InputFile file;
  DocumentReader reader;
};

Documents documents_of(const std::string& bytes, const std::string& name = "x.txt") {
  Input input(bytes, name);
  DocumentReader& reader = input.reader;
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
    Input input(bytes, name);
    while (input.reader.next()) continue;
  });
}

/// Documents, and a warning that holds `parts`, or no warning at all.
void check_told(const std::string& bytes, const std::string& name, const Documents& documents,
                const std::vector<std::string>& parts) {
  INFO(name << ": " << bytes);
  const std::size_t before = util::warnings().size();
  CHECK(documents_of(bytes, name) == documents);
  const std::vector<std::string> all = util::warnings();
  if (parts.empty()) CHECK(all.size() == before);
  if (parts.empty()) return;
  REQUIRE(all.size() == before + 1);
  INFO(all.back());
  CHECK(all.back().find(name) != std::string::npos);
  for (const std::string& part : parts) CHECK(all.back().find(part) != std::string::npos);
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
  check_told("one\n\n\xEF\xBB\xBFtwo\n\xEF\xBB\xBFthree", "joined.txt",
             {"one", "\xEF\xBB\xBFtwo\n\xEF\xBB\xBFthree"}, {"line 3 begins with a byte order mark"});
  CHECK(documents_of("\xEF\xBB\xBF\n").empty());
}

TEST_CASE("text: long lines are read") {
  const std::string long_line(300'000, 'x');
  CHECK(documents_of(long_line + "\n" + long_line) == Documents{long_line + "\n" + long_line});
}

TEST_CASE("text: invalid UTF-8 is refused with line and byte") {
  check_refused("one\n\ntw\xff\n", "x.txt",
                {"not UTF-8", "x.txt, line 3, byte 3 of the line", R"(found '\xff)"});
  check_refused("\xe9t\xe9", "x.txt", {"line 1, byte 1"});
  check_refused("caf\xc3", "x.txt", {"line 1, byte 4"});
  // A mistake behind the first document shows when it is reached.
  Input input("good\n\nbad\xff", "x.txt");
  CHECK(input.reader.next() == std::optional<std::string>("good"));
  CHECK_THROWS_AS(input.reader.next(), util::Error);
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

TEST_CASE("json lines: every text is a document, an empty one and one of white space too") {
  CHECK(json_documents_of("{\"text\": \"\"}\n\n{\"text\": \" \\n\\t\"}\n{\"text\": \"x\"}\n") ==
        Documents{"", " \n\t", "x"});
}

TEST_CASE("json lines: only a line feed ends a line") {
  const Documents marks = {"a\u2028b\u2029c\u0085d\fe"};
  CHECK(json_documents_of("{\"text\": \"a\u2028b\u2029c\u0085d\\fe\"}\n") == marks);
}

TEST_CASE("json lines: a fault is an input error that names the line") {
  check_refused("{\"text\": \"a\"}\n{\"txt\": \"b\"}\n", "x.jsonl",
                {"missing key 'text'", "x.jsonl, line 2"});
  check_refused("\n\n{\"text\": 5}\n", "x.jsonl", {"x.jsonl, line 3: text", "expected a string, found 5"});
  check_refused("{\"text\": null}\n", "x.jsonl", {"the key 'text' is null", "line 1"});
  check_refused("[\"text\"]\n", "x.jsonl", {"line 1", "expected an object with the key 'text'"});
  check_refused("{\"text\": \"a\"\n", "x.jsonl", {"not valid JSON", "line 1"});
  check_refused("{\"text\": \"a\", \"text\": \"b\"}\n", "x.jsonl", {"'text' twice", "line 1"});
  check_refused("{\"text\": \"a\"} {\"text\": \"b\"}\n", "x.jsonl", {"not valid JSON", "line 1"});
  check_refused("{\"text\": \"\xff\"}\n", "x.jsonl", {"not UTF-8", "line 1, byte 11"});
  check_refused("plain text\n", "x.jsonl", {"not valid JSON", "line 1"});
}

TEST_CASE("json lines: by the name, in any case, compressed or not") {
  const std::string lines = "{\"id\": 1, \"text\": \"a\"}\n{\"text\": \"b\"}\n";
  for (const char* name : {"x.jsonl", "x.ndjson", "x.json", "X.JSONL", "x.Json"})
    check_told(lines, name, {"a", "b"}, {});
  check_told(test::gzip(lines), "x.jsonl.gz", {"a", "b"}, {});
  check_told(test::xz(lines), "x.NDJSON.xz", {"a", "b"}, {});
  check_told(test::zstd(lines), "x.json.zst", {"a", "b"}, {});
  check_told(test::zstd("one\n\ntwo"), "x.txt.zst", {"one", "two"}, {});
  check_refused("one\n", "x.json", {"not valid JSON", "line 1", "one object", "a line", "one array"});
  check_refused("{\n \"text\": \"a\"\n}\n", "x.json", {"not valid JSON", "line 1"});
}

TEST_CASE("json lines: where the name does not tell, by the first line, with a warning") {
  const std::string lines = "\n{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n";
  for (const char* name : {"stream", "x.dat", "x.gz"})
    check_told(lines, name, {"a", "b"}, {"read as JSON lines"});
  check_told("\xEF\xBB\xBF" + lines.substr(1), "mark", {"a", "b"}, {"read as JSON lines"});
  check_refused("{\"content\": \"a\"}\n", "other-key", {"missing key 'text'", "line 1"});
  check_told("{a set}\n", "no-json", {"{a set}"}, {});
  check_told("one\n{\"text\": \"a\"}\n", "late", {"one\n{\"text\": \"a\"}"}, {});
}

TEST_CASE("json: what is read as plain text though it looks like JSON or like a table is reported") {
  check_told("{\"text\": \"a\"}\n", "x.txt", {"{\"text\": \"a\"}"}, {"looks like JSON", "plain text"});
  check_told("{\n\"text\": 1}\n", "pretty", {"{\n\"text\": 1}"}, {"looks like JSON"});
  check_told("[{\"text\": \"a\"}]\n", "array.txt", {"[{\"text\": \"a\"}]"}, {"looks like JSON"});
  check_told("[1] A note.\n", "note.txt", {"[1] A note."}, {});
  check_told("id,text\n1,a\n", "x.csv", {"id,text\n1,a"}, {"plain text", "csv file"});
  check_told(test::gzip("id\ttext\n"), "x.tsv.gz", {"id\ttext"}, {"tsv file"});
}

TEST_CASE("json: an array of objects, cut at its own commas") {
  const std::string array = R"([{"text": "a, [b] {c} \"d\" \\"},
{"text": "", "more": [1, {"x": [2]}]} , {"text":" e\u00e9"}]
)";
  CHECK(documents_of(array, "x.json") == Documents{"a, [b] {c} \"d\" \\", "", " e\u00e9"});
  CHECK(documents_of(test::xz("\xEF\xBB\xBF\n " + array), "x.json.xz").size() == 3);
  CHECK(documents_of("[]", "x.json").empty());
  CHECK(documents_of(" [ ] \n", "x.json").empty());
  std::string many = "[";
  Documents texts;
  for (int i = 0; i < 20'000; ++i) {
    texts.push_back("text " + std::to_string(i));
    many += (i > 0 ? ",\n{\"text\": \"" : "{\"text\": \"") + texts.back() + "\"}";
  }
  CHECK(documents_of(many + "]", "x.json") == texts);
  check_refused("[{\"text\": \"a\"}, {\"txt\": \"b\"}]", "x.json", {"missing key 'text'", "x.json[1]"});
  check_refused("[{\"text\": \"a\"}, 3]", "x.json", {"x.json[1]", "expected an object"});
  check_refused("[\"a\"]", "x.json", {"x.json[0]", "expected an object"});
  check_refused("[{\"text\": \"a\"},]", "x.json", {"not valid JSON", "x.json[1]"});
  check_refused("[,]", "x.json", {"not valid JSON", "x.json[0]"});
  check_refused("[{\"text\": \"a\"}", "x.json", {"never closed", "x.json[0]"});
  check_refused("[{\"text\": \"a]", "x.json", {"never closed"});
  check_refused("[{\"text\": \"a\"}] {\"text\": \"b\"}", "x.json", {"something follows the array"});
  check_refused("[{\"text\": \"a\"} {\"text\": \"b\"}]", "x.json", {"not valid JSON", "x.json[0]"});
  for (const std::string& rest : {std::string("\0,{\"text\": \"b\"}]", 16), std::string("\0", 1)})
    check_refused("[{\"text\": \"a\"}]" + rest, "x.json", {"NUL byte"});
}

TEST_CASE("text: UTF-16 and UTF-32 are refused by name, with a mark or without") {
  const auto encoded = [](const std::string& text, std::size_t bytes, bool big) {
    std::string out;
    for (const char c : text) {
      std::string unit(bytes, '\0');
      unit[big ? bytes - 1 : 0] = c;
      out += unit;
    }
    return out;
  };
  const std::string text = "The miller counts sacks of rye.\n\nNine herons.\n";
  for (const char* name : {"x.txt", "x.jsonl", "x.json", "x"}) {
    check_refused(encoded(text, 2, false), name,
                  {"not UTF-8", "NUL bytes as in UTF-16LE", "iconv -f UTF-16LE"});
    check_refused(encoded(text, 2, true), name, {"UTF-16BE"});
    check_refused(encoded(text, 4, false), name, {"UTF-32LE"});
    check_refused(encoded(text, 4, true), name, {"UTF-32BE"});
    check_refused("\xff\xfe" + encoded(text, 2, false), name, {"mark of UTF-16", "iconv -f UTF-16 "});
    check_refused("\xfe\xff" + encoded(text, 2, true), name, {"mark of UTF-16"});
    check_refused(std::string("\xff\xfe\0\0", 4) + encoded(text, 4, false), name, {"mark of UTF-32"});
    check_refused(test::gzip(encoded(text, 2, false)), name, {"UTF-16LE"});
  }
  // Cyrillic: only spaces and line ends have NULs, and all bytes are ASCII.
  const std::string cyrillic(
      "\x1c\x04\x38\x04\x40\x04\x20\x00\x38\x04\x20\x00\x34\x04\x3e\x04\x3c\x04\x0a\x00", 20);
  check_refused(cyrillic, "x.txt", {"UTF-16LE"});
}

TEST_CASE("text: a NUL is refused, in a text of JSON told, unless it is UTF-16 taken for UTF-8") {
  check_refused(std::string("one\n\na\0b\n", 9), "x.txt", {"a NUL byte", "line 3, byte 2"});
  check_refused(std::string("{\"text\": \"a\0b\"}\n", 16), "x.jsonl", {"a NUL byte", "line 1, byte 12"});
  check_told("{\"text\": \"one\"}\n{\"text\": \"a\\u0000bc\"}\n", "nul.jsonl",
             {"one", std::string("a\0bc", 4)}, {"line 2", "U+0000"});
  check_refused("{\"text\": \"T\\u0000h\\u0000e\\u0000\"}\n", "x.jsonl",
                {"NULs between its letters", "line 1", "UTF-16LE"});
}

TEST_CASE("text: files of other formats are refused by name") {
  const std::string tar = "corpus.txt" + std::string(247, '\0') + "ustar" + std::string(300, '\0');
  const std::vector<std::pair<std::string, std::string>> formats = {
      {std::string("PAR1\x15\0\x15", 7), "a Parquet file"},
      {std::string("ARROW1\0\0", 8), "an Arrow file"},
      {std::string("\xff\xff\xff\xff\x10\0", 6), "an Arrow stream"},
      {std::string("PK\x03\x04\x14\0", 6), "a zip archive"},
      {tar, "a tar archive"},
      {"BZh91AY&SY\xaf\xff", "a bzip2 file"},
      {"%PDF-1.7\n%\xe2\xe3", "a PDF"},
      {"%PDF-1.7\ntext", "a PDF"},
      {"\n<!DOCTYPE html>\n<html>", "an HTML page"},
      {"<?xml version=\"1.0\"?>", "an XML document"},
      {"{\\rtf1\\ansi", "an RTF document"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a pointer of Git LFS"},
      {"\xd0\xcf\x11\xe0\xa1", "an Office document"}};
  for (const auto& [bytes, name] : formats) {
    check_refused(bytes, "x.txt", {"not a text, ", "x.txt", name});
    check_refused(test::gzip(bytes), "x.txt", {name});
  }
  check_refused(test::gzip(test::gzip("one")), "x.txt.gz", {"a gzip file in a compressed file"});
  check_told("PAR1S is a word.\n", "par.txt", {"PAR1S is a word."}, {});
  check_told("a < b, <html> later\n", "html.txt", {"a < b, <html> later"}, {});
}

TEST_CASE("text: carriage returns stay and are reported; where they alone end lines the text is refused") {
  check_told("one\r\ntwo\r\n\r\nthree\r\n", "crlf.txt", {"one\r\ntwo\r", "three\r"},
             {"line 1 ends with CR LF", "carriage returns stay"});
  check_told("one\n10%\r20%\n", "progress.txt", {"one\n10%\r20%"}, {"line 2", "without a line feed"});
  check_told("one\rtwo", "two.txt", {"one\rtwo"}, {"without a line feed"});
  check_refused("one\rtwo\r\rthree\r", "mac.txt", {"carriage returns alone", "mac.txt, line 1", "tr "});
  check_refused("one\r \rtwo", "mac.txt", {"carriage returns alone"});
  check_told("{\"text\": \"a\\r\\nb\"}\r\n", "crlf.jsonl", {"a\r\nb"}, {});
}

TEST_CASE("text: a line that only looks empty separates nothing, and is reported") {
  check_told("one\n\u00a0 \u3000\ntwo\n", "nbsp.txt", {"one\n\u00a0 \u3000\ntwo"},
             {"line 2 holds nothing but spaces", "separates no documents"});
  check_told("one\n\u00a0x\ntwo\n", "text.txt", {"one\n\u00a0x\ntwo"}, {});
}

TEST_CASE("reader: the digest is of the whole file, also where it is asked for early") {
  for (const std::string bytes : {"a\n\nb\n\nc", "a\n\nb\n", "a\r\n", "", "\n\n\n", "\xEF\xBB\xBFx"}) {
    Input input(bytes, "x.txt");
    input.reader.next();
    CHECK(input.reader.sha256() == util::sha256(bytes));
  }
}

TEST_CASE("reader: a missing file or a folder is an input error") {
  const test::TemporaryFolder folder;
  util::InputFile none((folder.path() / "none.txt").string()), there(folder.path().string());
  check_error(ErrorCode::kInput, {"none.txt'", "No such file"}, [&] { DocumentReader{none}; });
  check_error(ErrorCode::kInput, {"a folder"}, [&] { DocumentReader{there}; });
}

TEST_CASE("corpus: documents have the id of their object and their place in the input") {
  const test::TemporaryFolder folder;
  const std::string text = folder.write("a.txt", "one\n\ntwo\n").string();
  const std::string lines =
      folder
          .write("b.jsonl",
                 "{\"id\": \"doc 1\", \"text\": \"a\"}\n\n{\"text\": \"\"}\n{\"id\": 17, \"text\": \"b\"}\n"
                 "{\"id\": \"\u00e9\\\"\", \"text\": \"c\"}\n{\"id\": [1], \"text\": \"d\"}\n"
                 "{\"id\": null, \"text\": \"e\"}\n{\"id\": \"a\\u2028b\", \"text\": \"h\"}\n")
          .string();
  const std::string array =
      folder.write("c.json", "[{\"id\": 1.5, \"text\": \"f\"}, {\"text\": \"g\"}]").string();
  const test::ByteTokenizer tokenizer;
  Corpus corpus({text, lines, array}, tokenizer, 0);
  std::vector<std::string> ids;
  std::vector<std::int64_t> places;
  const auto warnings = test::warnings_of([&] {
    while (auto document = corpus.next()) {
      ids.push_back(document->id);
      places.push_back(document->index_in_input);
    }
  });
  CHECK(ids == std::vector<std::string>{"", "", "\"doc 1\"", "", "17", "\"\u00e9\\\"\"", "", "",
                                        "\"a\\u2028b\"", "1.5", ""});
  CHECK(places == std::vector<std::int64_t>{0, 1, 0, 1, 2, 3, 4, 5, 6, 0, 1});
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("line 6: the id is neither a text nor a number") != std::string::npos);
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

TEST_CASE("corpus: a missing second input is reported before the first is read") {
  const test::TemporaryFolder folder;
  const std::string a = folder.write("a.txt", "one").string();
  const std::string none = (folder.path() / "none.txt").string();
  const test::ByteTokenizer tokenizer;
  check_error(ErrorCode::kInput, {"none.txt'"}, [&] { Corpus({a, none}, tokenizer, 0); });
  check_error(ErrorCode::kUsage, {"stdin", "only once"}, [&] { Corpus({"-", a, "-"}, tokenizer, 0); });
}

TEST_CASE("corpus: a document's number is its object's, whatever the text, and the limit counts all") {
  const test::TemporaryFolder folder;
  const std::string lines = folder
                                .write("a.jsonl",
                                       "{\"text\": \"\"}\n\n{\"text\": \"one\"}\n{\"text\": \"\"}\n"
                                       "{\"text\": \" \"}\n")
                                .string(),
                    text = folder.write("b.txt", "two\n\n \n\nthree\n").string();
  const test::ByteTokenizer tokenizer;
  for (const std::int64_t limit : {0, 4, 3, 1}) {
    Corpus corpus({lines, text}, tokenizer, limit);
    std::vector<std::pair<std::int64_t, std::size_t>> found;  // index, tokens
    while (auto document = corpus.next()) found.emplace_back(document->index, document->tokens.size());
    std::vector<std::pair<std::int64_t, std::size_t>> all = {{0, 0}, {1, 3}, {2, 0}, {3, 1}, {4, 3}, {5, 5}};
    if (limit > 0) all.resize(static_cast<std::size_t>(limit));
    CHECK(found == all);
    CHECK(corpus.summaries()[0].documents == (limit > 0 ? limit : 4));
    CHECK(corpus.summaries()[1].documents == (limit > 0 ? 0 : 2));
  }
}

TEST_CASE("corpus: compressed inputs have the documents of the others and digests of their own") {
  const test::TemporaryFolder folder;
  const std::string text = "one\n\ntwo\n",
                    packed = test::gzip(text.substr(0, 5)) + test::gzip(text.substr(5));
  const test::ByteTokenizer tokenizer;
  Corpus corpus({folder.write("a.txt.gz", packed).string()}, tokenizer, 0);
  Documents texts;
  while (auto document = corpus.next()) texts.emplace_back(document->tokens.begin(), document->tokens.end());
  CHECK(texts == Documents{"one", "two"});
  CHECK(corpus.summaries()[0].sha256 == util::sha256(packed));
  CHECK(corpus.summaries()[0].bytes == 6);
}

TEST_CASE("corpus: a pipe is read twice where there is a folder for its copy") {
  const test::TemporaryFolder folder;
  const std::string fifo = (folder.path() / "fifo").string();
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  std::thread writer([&] { std::ofstream(fifo) << "one\n\ntwo\n"; });
  const test::ByteTokenizer tokenizer;
  Corpus corpus({fifo}, tokenizer, 0, folder.path());
  for (int pass = 0; pass < 2; ++pass) {
    std::int64_t documents = 0;
    while (corpus.next()) ++documents;
    CHECK(documents == 2);
    CHECK(corpus.summaries()[0].sha256 == util::sha256("one\n\ntwo\n"));
    corpus.rewind();
  }
  writer.join();
}

TEST_CASE("corpus: an input that differs at the second reading ends it") {
  const test::TemporaryFolder folder;
  const std::string a = folder.write("a.txt", "one\n\ntwo\n").string(),
                    b = folder.write("b.txt", "end").string();
  const test::ByteTokenizer tokenizer;
  for (const std::int64_t limit : {0, 1}) {
    folder.write("a.txt", "one\n\ntwo\n");
    Corpus corpus({a, b}, tokenizer, limit);
    while (corpus.next()) continue;
    folder.write("a.txt", "one\n\nten\n");
    corpus.rewind();
    check_error(ErrorCode::kInput, {"a.txt' changed"}, [&] {
      while (corpus.next()) continue;
    });
  }
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
