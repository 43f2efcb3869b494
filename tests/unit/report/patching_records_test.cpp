// Records of pairs.
#include "depthlens/report/patching_records.hpp"

#include <string>
#include <vector>

#include "depthlens/util/json.hpp"
#include "support/catch.hpp"

using namespace depthlens;

TEST_CASE("patching records: a pair is one line") {
  std::vector<std::string> lines;
  report::PatchingRecords records([](decode::TokenId id) { return "\"" + std::to_string(id) + "\n"; },
                                  [&](std::string_view line) { lines.emplace_back(line); });
  data::PairItem item{.id = "one \"pair\"",
                      .document = 4,
                      .pair = {.source = {7, 8}, .target = {9, 8}, .source_answer = 1, .target_answer = 2},
                      .roles = {}};
  item.roles = data::token_roles(item.pair);
  decode::PatchingResult result{.source = {.top1 = 1, .log_probability_difference = 1.5, .kl = 0.25},
                                .target = {.top1 = 2, .log_probability_difference = -0.5, .kl = 0},
                                .num_rows = 2,
                                .length = 2,
                                .patched = {}};
  result.patched = {
      {.log_probability_difference = 0.5, .kl = 0.1}, result.target, result.target, result.source};
  records.accept(item, result);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].find('\n') == lines[0].size() - 1);
  const auto token = [](int id) {
    return util::Json{{"id", id}, {"text", "\"" + std::to_string(id) + "\n"}};
  };
  const util::Json expected = {
      {"document", 4},
      {"item", "one \"pair\""},
      {"source",
       {{"tokens", {token(7), token(8)}},
        {"answer", token(1)},
        {"final", token(1)},
        {"log_probability_difference", 1.5},
        {"kl", 0.25}}},
      {"target",
       {{"tokens", {token(9), token(8)}},
        {"answer", token(2)},
        {"final", token(2)},
        {"log_probability_difference", -0.5},
        {"kl", 0.0}}},
      {"positions", {"last_different", "last"}},
      {"log_probability_difference", util::Json::parse("[[0.5, -0.5], [-0.5, 1.5]]")},
      {"restored", util::Json::parse("[[0.5, 0], [0, 1]]")},
      {"kl", util::Json::parse("[[0.1, 0], [0, 0.25]]")}};
  CHECK(util::Json::parse(lines[0]) == expected);

  result.source.log_probability_difference = -0.5;
  report::PatchingRecords all([](decode::TokenId) { return std::string("t"); },
                              [&](std::string_view line) { lines.emplace_back(line); });
  all.accept(item, result);
  CHECK(util::Json::parse(lines.back()).at("restored") == util::Json::parse("[[null, null], [null, null]]"));
}
