// Frequency tables: order, files in both formats and every way in which one can be wrong, buckets.
#include "depthlens/data/token_counts.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "depthlens/util/csv.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/log.hpp"
#include "support/byte_tokenizer.hpp"
#include "support/check_error.hpp"
#include "support/compressed.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using data::make_buckets;
using data::parse_bucket_edges;
using data::TokenBuckets;
using data::TokenCounts;
using test::check_error;
using text::TokenId;
using util::ErrorCode;

namespace {

constexpr std::int64_t kVocabulary = 10;

TokenCounts read(const std::string& name, const std::string& bytes, std::int64_t vocab_size = kVocabulary,
                 const test::ByteTokenizer& tokenizer = test::ByteTokenizer()) {
  const test::TemporaryFolder folder;
  return TokenCounts::read(folder.write(name, bytes).string(), vocab_size, tokenizer);
}

/// Reads, and a warning that holds `parts` must be given, or none.
TokenCounts check_told(const std::string& bytes, const std::string& name,
                       const test::ByteTokenizer& tokenizer, const std::vector<std::string>& parts) {
  INFO(bytes);
  const std::size_t before = util::warnings().size();
  TokenCounts counts = read(name, bytes, kVocabulary, tokenizer);
  const std::vector<std::string> all = util::warnings();
  REQUIRE(all.size() == before + (parts.empty() ? 0 : 1));
  for (const std::string& part : parts) {
    INFO(all.back());
    CHECK(all.back().find(part) != std::string::npos);
  }
  return counts;
}

void check_refused(const std::string& name, const std::string& bytes, const std::vector<std::string>& parts) {
  INFO(bytes);
  std::vector<std::string> all = parts;
  all.push_back(name);
  check_error(ErrorCode::kInput, all, [&] { read(name, bytes); });
}

}  // namespace

TEST_CASE("counts: adding, asking, and what was never added") {
  TokenCounts counts;
  CHECK(counts.total() == 0);
  CHECK(counts.by_frequency().empty());
  counts.add(7);
  counts.add(2, 3);
  counts.add(7);
  CHECK(counts.count(7) == 2);
  CHECK(counts.count(2) == 3);
  CHECK(counts.count(3) == 0);
  CHECK(counts.count(1'000'000) == 0);
  CHECK(counts.count(-1) == 0);
  CHECK(counts.total() == 5);
  CHECK(counts.num_distinct() == 2);
}

TEST_CASE("counts: ordered by falling count, equal counts by rising id, absent tokens not at all") {
  CHECK(TokenCounts({4, 0, 9, 4, 1, 9, 4}).by_frequency() == std::vector<TokenId>{2, 5, 0, 3, 6, 4});
}

TEST_CASE("counts: the JSON of count-tokens") {
  const test::ByteTokenizer tokenizer({{1, " the"}, {3, "a\"b\n"}, {4, "\xe2\x82"}});
  const std::string json = TokenCounts({0, 1, 0, 4, 3}).to_json(tokenizer);
  const util::OrderedJson parsed = util::OrderedJson::parse(json);
  std::vector<std::string> ids;
  for (const auto& item : parsed.items()) ids.push_back(item.key());
  CHECK(ids == std::vector<std::string>{"3", "4", "1"});  // most frequent first
  CHECK(parsed["3"] == util::OrderedJson({{"token", "a\"b\n"}, {"count", 4}, {"ratio", 0.5}}));
  CHECK(parsed["4"] == util::OrderedJson({{"token", "\uFFFD"}, {"count", 3}, {"ratio", 0.375}}));
  CHECK(parsed["1"] == util::OrderedJson({{"token", " the"}, {"count", 1}, {"ratio", 0.125}}));
}

TEST_CASE("counts: the CSV of count-tokens") {
  const test::ByteTokenizer tokenizer({{1, ", \"x\""}, {3, "\n"}});
  const std::string csv = TokenCounts({0, 1, 0, 3}).to_csv(tokenizer);
  CHECK(csv == "id,token,count,ratio\n3,\"\n\",3,0.75\n1,\", \"\"x\"\"\",1,0.25\n");
}

TEST_CASE("counts: nothing counted gives files without tokens") {
  const test::ByteTokenizer tokenizer;
  CHECK(util::parse_json(TokenCounts().to_json(tokenizer), "x") == util::Json::object());
  CHECK(TokenCounts().to_csv(tokenizer) == "id,token,count,ratio\n");
}

TEST_CASE("counts: both files read back, whatever bytes the tokens have") {
  const test::ByteTokenizer tokenizer({{0, ","}, {1, "\""}, {2, "\r\n"}, {3, "\xff"}, {4, ""}});
  const TokenCounts counts({5, 5, 1, 0, 70'000'000'000, 2, 0, 0, 3, 0});
  for (const auto& [name, bytes] : {std::pair<std::string, std::string>{"t.json", counts.to_json(tokenizer)},
                                    {"t.csv", counts.to_csv(tokenizer)}}) {
    INFO(name);
    const TokenCounts found = read(name, bytes, kVocabulary, tokenizer);
    for (TokenId id = 0; id < kVocabulary; ++id) CHECK(found.count(id) == counts.count(id));
    CHECK(found.by_frequency() == counts.by_frequency());
  }
}

TEST_CASE("counts: a table written by hand needs no more than ids and counts") {
  CHECK(read("t.csv", "count,id\r\n5,2\r\n7,0\r\n").by_frequency() == std::vector<TokenId>{0, 2});
  CHECK(read("t.json", R"({"2": {"count": 5}, "0": {"count": 7, "token": 3}})").count(0) == 7);
  CHECK(read("t.json", R"({"2": {"count": 5}, "0": {"count": 0}})").num_distinct() == 1);
}

TEST_CASE("counts: malformed JSON tables are input errors that name file and place") {
  check_refused("t.json", "{", {"not valid JSON"});
  check_refused("t.json", "[]", {"expected an object"});
  check_refused("t.json", R"({"1": 5})", {"t.json: 1", "expected an object with the key 'count'"});
  check_refused("t.json", R"({"1": {"ratio": 5}})", {"t.json: 1", "missing key 'count'"});
  check_refused("t.json", R"({"1": {"count": -1}})", {"t.json: 1: count", "found -1"});
  check_refused("t.json", R"({"1": {"count": 1.5}})", {"found 1.5"});
  check_refused("t.json", R"({"1": {"count": "3"}})", {"found \"3\""});
  check_refused("t.json", R"({"1": {"count": 1e30}})", {"t.json: 1: count"});
  check_refused("t.json", R"({"10": {"count": 1}})", {"expected an id from 0 to 9, found '10'"});
  check_refused("t.json", R"({"-1": {"count": 1}})", {"found '-1'", "model's own tokenizer"});
  check_refused("t.json", R"({"the": {"count": 1}})", {"found 'the'"});
  check_refused("t.json", R"({"1": {"count": 1}, "1": {"count": 2}})", {"'1' twice"});
  check_refused("t.json", R"({"1": {"count": 1}, "01": {"count": 2}})", {"token 1 twice"});
  check_refused("t.json", "{}", {"counts nothing"});
  check_refused("t.json", R"({"1": {"count": 0}})", {"counts nothing"});
}

TEST_CASE("counts: malformed CSV tables are input errors that name file and record") {
  check_refused("t.csv", "", {"empty"});
  check_refused("t.csv", "token,count\na,1\n", {"not a frequency table", "a column 'id'"});
  check_refused("t.csv", "id,token\n1,a\n", {"a column 'count'"});
  check_refused("t.csv", "id,count\n1,2\n2\n", {"t.csv, record 3", "2 fields"});
  check_refused("t.csv", "id,count\n1,2,3\n", {"t.csv, record 2"});
  check_refused("t.csv", "id,count\n1,-2\n", {"t.csv, record 2", "not negative"});
  check_refused("t.csv", "id,count\n1,2.5\n", {"record 2"});
  check_refused("t.csv", "id,count\n1,\n", {"record 2"});
  check_refused("t.csv", "id,count\n1,99999999999999999999\n", {"record 2"});
  check_refused("t.csv", "id,count\n10,2\n", {"record 2", "expected an id from 0 to 9, found '10'"});
  check_refused("t.csv", "id,count\nx,2\n", {"record 2", "found 'x'"});
  check_refused("t.csv", "id,count\n3,2\n3,2\n", {"record 3", "token 3 twice"});
  check_refused("t.csv", "id,count\n\"3,2\n", {"quote is never closed", "line 2"});
  check_refused("t.csv", "id,count\n", {"counts nothing"});
}

TEST_CASE("counts: a sum beyond what a file may hold is refused, not wrapped around") {
  std::string csv = "id,count\n";
  for (int id = 0; id < 2000; ++id) csv += std::to_string(id) + ",9007199254740992\n";
  check_error(ErrorCode::kInput, {"t.csv"}, [&] { read("t.csv", csv, 2000); });
}

TEST_CASE("counts: a missing file is an input error") {
  check_error(ErrorCode::kInput, {"none.csv"},
              [] { TokenCounts::read("/nowhere/none.csv", 10, test::ByteTokenizer()); });
}

TEST_CASE("counts: with a byte order mark, other line ends, compressed, named in capitals") {
  const std::string csv = "id,count\n2,5\n0,7\n", json = R"({"2": {"count": 5}, "0": {"count": 7}})";
  const std::string mark = "\xEF\xBB\xBF";
  const std::vector<std::pair<std::string, std::string>> files = {
      {"t.csv", mark + csv},
      {"t.csv", mark + "\"id\",\"count\"\r2,5\r0,7\r"},
      {"T.CSV", csv},
      {"t.csv.gz", test::gzip(csv)},
      {"t.csv.xz", test::xz(mark + csv)},
      {"t.csv", test::zstd(csv)},
      {"t.json", mark + json},
      {"t.json.zst", test::zstd(json)}};
  for (const auto& [name, bytes] : files) {
    INFO(name);
    CHECK(read(name, bytes).by_frequency() == std::vector<TokenId>{0, 2});
  }
  check_refused("t.csv.gz", test::gzip(csv).substr(0, 20), {"damaged gzip file"});
  check_refused("t.csv", std::string("i\0d\0,\0", 6), {"UTF-16LE"});
}

TEST_CASE("counts: tokens agree decoded, as a vocabulary spells them, or stripped") {
  const test::ByteTokenizer tokenizer(
      {{0, " the"}, {1, "\n"}, {2, "\xc3\xa9t"}, {3, " "}, {4, "\xe4\xb8\xad"}, {5, "<s>"}, {6, ""}});
  for (const std::string table :
       {R"({"0": {"token": " the", "count": 2}, "1": {"token": "\n", "count": 1}})",
        R"({"0": {"token": "Ġthe", "count": 2}, "1": {"token": "Ċ", "count": 1}})",
        R"({"0": {"token": "▁the", "count": 2}, "1": {"token": "<0x0A>", "count": 1}})",
        R"({"0": {"token": "the", "count": 2}, "1": {"token": "", "count": 1}})",
        R"({"2": {"token": "Ã©t", "count": 2}, "4": {"token": "ä¸Ń", "count": 1}})",
        R"({"2": {"token": "\ufffdt", "count": 2}, "5": {"token": "<s>", "count": 1}})"})
    check_told(table, "t.json", tokenizer, {});
}

TEST_CASE("counts: a table of another tokenizer is refused, some other tokens are reported") {
  const test::ByteTokenizer tokenizer({{0, "a"}, {1, " b"}, {2, "c"}, {3, "d"}, {4, ""}});
  const auto table = [](const std::vector<std::string>& tokens) {
    std::string csv = "id,token,count\n";
    for (std::size_t id = 0; id < tokens.size(); ++id) csv += std::to_string(id) + "," + tokens[id] + ",1\n";
    return csv;
  };
  check_told(table({"a", "b", "c", "d"}), "t.csv", tokenizer, {});
  CHECK(check_told(table({"a", "x", "c", "y"}), "t.csv", tokenizer,
                   {"t.csv: 2 of 4 tokens", "first 'x' for 1, which is ' b'"})
            .total() == 4);
  check_error(ErrorCode::kInput,
              {"counted with another tokenizer", "t.csv", "3 of 4", "first 'the' for 0, which is 'a'",
               "count-tokens"},
              [&] {
                read("t.csv", table({"the", "x", "c", "y"}), kVocabulary, tokenizer);
              });
  // An id that has no token, and ids beyond those of the tokenizer.
  check_error(ErrorCode::kInput, {"1 of 1", "'e' for 4"},
              [&] { read("t.json", R"({"4": {"token": "e", "count": 1}})", kVocabulary, tokenizer); });
  check_error(ErrorCode::kInput, {"'e' for 300"},
              [&] { read("t.json", R"({"300": {"token": "e", "count": 1}})", 400, tokenizer); });
}

TEST_CASE("counts: ratios that the counts contradict are reported, and counts are used") {
  const test::ByteTokenizer tokenizer;
  check_told("id,count,ratio\n0,1,0.25\n1,3,0.75\n", "t.csv", tokenizer, {});
  check_told("id,count,ratio\n0,1,0.333\n1,2,0.667\n", "t.csv", tokenizer, {});  // rounded
  check_told("id,count,ratio\n0,1,\n1,2,n/a\n", "t.csv", tokenizer, {});
  CHECK(
      check_told("id,count,ratio\n0,1,0.125\n1,3,0.375\n", "t.csv", tokenizer, {"of 2 ratios 2"}).count(1) ==
      3);
  check_told(R"({"0": {"count": 1, "ratio": 0.9}, "1": {"count": 1, "ratio": 0.5}})", "t.json", tokenizer,
             {"of 2 ratios 1"});
}

TEST_CASE("edges: rising positive integers") {
  CHECK(parse_bucket_edges("10,100,1000") == std::vector<std::int64_t>{10, 100, 1000});
  CHECK(parse_bucket_edges("1") == std::vector<std::int64_t>{1});
  CHECK(parse_bucket_edges(" 1 , 2 ") == std::vector<std::int64_t>{1, 2});
  for (const char* text : {"", ",", "0", "-5", "10,10", "100,10", "10,", ",10", "ten", "1.5", "10;100",
                           "1,,2", "99999999999999999999", "+1"}) {
    INFO(text);
    check_error(ErrorCode::kUsage, {"--buckets", "such as 10,100,1000", std::string("found '") + text + "'"},
                [&] { parse_bucket_edges(text); });
  }
}

TEST_CASE("edges: 200 of them, no more") {
  std::string text = "1";
  for (int edge = 2; edge <= 200; ++edge) text += "," + std::to_string(edge);
  CHECK(parse_bucket_edges(text).size() == 200);
  check_error(ErrorCode::kUsage, {"--buckets", "expected at most 200 edges, found 201"},
              [&] { parse_bucket_edges(text + ",201"); });
}

TEST_CASE("buckets: the default edges have the names of the contract") {
  TokenCounts counts;
  for (TokenId id = 0; id < 1500; ++id) counts.add(id, 5000 - id);
  const TokenBuckets buckets = make_buckets(counts, {10, 100, 1000}, 2000);
  CHECK(buckets.names == std::vector<std::string>{"top_1_10", "top_11_100", "top_101_1000", "rest"});
  REQUIRE(buckets.bucket_of.size() == 2000);
  for (TokenId id = 0; id < 2000; ++id) {
    const int expected = id < 10 ? 0 : id < 100 ? 1 : id < 1000 ? 2 : 3;
    if (buckets.bucket_of[static_cast<std::size_t>(id)] != expected) FAIL(id);
  }
  std::vector<std::int64_t> sums(4);
  for (TokenId id = 0; id < 1500; ++id) sums[id < 10 ? 0 : id < 100 ? 1 : id < 1000 ? 2 : 3] += 5000 - id;
  CHECK(buckets.corpus_counts == sums);
}

TEST_CASE("buckets: equal counts go by id, tokens that never occur belong to the rest") {
  //                        id: 0  1  2  3  4  5
  const TokenBuckets buckets = make_buckets(TokenCounts({2, 0, 7, 2, 2, 0}), {1, 3}, 6);
  CHECK(buckets.names == std::vector<std::string>{"top_1_1", "top_2_3", "rest"});
  CHECK(buckets.bucket_of == std::vector<std::uint8_t>{1, 2, 0, 1, 2, 2});
  CHECK(buckets.corpus_counts == std::vector<std::int64_t>{7, 4, 2});
}

TEST_CASE("buckets: edges beyond the number of tokens that occur leave absent tokens in the rest") {
  const TokenBuckets buckets = make_buckets(TokenCounts({5, 0, 1}), {10, 20}, 5);
  CHECK(buckets.bucket_of == std::vector<std::uint8_t>{0, 2, 0, 2, 2});
  CHECK(buckets.corpus_counts == std::vector<std::int64_t>{6, 0, 0});
}

TEST_CASE("buckets: the largest edge there can be") {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
  const TokenBuckets buckets = make_buckets(TokenCounts({5, 0}), {1, kLargest}, 2);
  CHECK(buckets.names == std::vector<std::string>{"top_1_1", "top_2_9223372036854775807", "rest"});
  CHECK(buckets.bucket_of == std::vector<std::uint8_t>{0, 2});
}
