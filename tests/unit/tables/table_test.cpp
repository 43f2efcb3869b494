// Tables as text: the shortest decimals that read back, and CSV that reads back.
#include "depthlens/tables/table.hpp"

#include <cstdint>
#include <cstdlib>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>

#include "depthlens/tables/table_json.hpp"
#include "depthlens/util/csv.hpp"
#include "support/catch.hpp"

using namespace depthlens;
using tables::Cell;
using tables::cell_text;
using tables::Table;

TEST_CASE("cell text: integers, words, nothing") {
  CHECK(cell_text(Cell()) == "");
  CHECK(cell_text(std::int64_t{0}) == "0");
  CHECK(cell_text(std::int64_t{-5}) == "-5");
  CHECK(cell_text(INT64_MIN) == "-9223372036854775808");
  CHECK(cell_text(std::string("top_1_10")) == "top_1_10");
}

TEST_CASE("cell text: numbers are the shortest decimals that read back as the same double") {
  CHECK(cell_text(0.1) == "0.1");
  CHECK(cell_text(0.1 + 0.2) == "0.30000000000000004");
  CHECK(cell_text(1.0 / 3) == "0.3333333333333333");
  CHECK(cell_text(2.0) == "2");
  CHECK(cell_text(0.0) == "0");
  CHECK(cell_text(1e-10) == "1e-10");
  std::mt19937_64 random(3);
  for (int i = 0; i < 2000; ++i) {
    const double value =
        std::ldexp(static_cast<double>(random()) / 1e19, static_cast<int>(random() % 200) - 100);
    const std::string text = cell_text(value);
    INFO(text);
    CHECK(std::strtod(text.c_str(), nullptr) == value);
  }
  for (const double value : {std::numeric_limits<double>::min(), std::numeric_limits<double>::denorm_min(),
                             std::numeric_limits<double>::max(), -0.0, -1.7976931348623157e308}) {
    CHECK(std::strtod(cell_text(value).c_str(), nullptr) == value);
  }
}

TEST_CASE("csv of a table: header, cells, quotes, and an empty field for nothing") {
  Table table{.name = "t", .columns = {{"lens"}, {"a,b", "nats"}, {"n"}}, .rows = {}};
  table.add({std::string("tuned \"2\""), 0.25, std::int64_t{3}});
  table.add({std::string("x,y\nz"), Cell(), std::int64_t{0}});
  const std::string csv = tables::to_csv(table);
  CHECK(csv == "lens,\"a,b\",n\n\"tuned \"\"2\"\"\",0.25,3\n\"x,y\nz\",,0\n");
  CHECK(util::parse_csv(csv, "t") == std::vector<std::vector<std::string>>{{"lens", "a,b", "n"},
                                                                           {"tuned \"2\"", "0.25", "3"},
                                                                           {"x,y\nz", "", "0"}});
}

TEST_CASE("csv of a table without rows is its header") {
  CHECK(tables::to_csv({.name = "t", .columns = {{"lens"}, {"layer"}}, .rows = {}}) == "lens,layer\n");
}

TEST_CASE("table: a row of another width is a defect of the caller") {
  Table table{.name = "t", .columns = {{"a"}, {"b"}}, .rows = {}};
  CHECK_THROWS_AS(table.add({std::int64_t{1}}), std::logic_error);
  CHECK(table.rows.empty());
}

TEST_CASE("JSON: a table whole, as summary.json has it, and small, as a page has it") {
  Table table{.name = "x", .columns = {{"lens"}, {"z", "nats"}, {"count"}, {"a", "tokens"}}, .rows = {}};
  CHECK(tables::to_json(table, tables::JsonForm::kWhole) ==
        "{\"columns\": [\"lens\",\"z\",\"count\",\"a\"],\n \"units\": {\"z\":\"nats\",\"a\":\"tokens\"},\n "
        "\"rows\": []}");
  table.add({std::string("say \"é\""), 1.0 / 3, std::int64_t{-7}, Cell()});
  table.add({std::string(), 2.0, INT64_MAX, std::numeric_limits<double>::quiet_NaN()});
  table.add({Cell(), 1234567.0, std::int64_t{0}, 1e-10});
  CHECK(tables::to_json(table, tables::JsonForm::kWhole) ==
        "{\"columns\": [\"lens\",\"z\",\"count\",\"a\"],\n \"units\": {\"z\":\"nats\",\"a\":\"tokens\"},\n "
        "\"rows\": [\n  [\"say \\\"é\\\"\",0.3333333333333333,-7,null],\n  "
        "[\"\",2.0,9223372036854775807,null],\n"
        "  [null,1234567.0,0,1e-10]]}");
  CHECK(tables::to_json(table, tables::JsonForm::kSmall) ==
        "{\"columns\":[\"lens\",\"z\",\"count\",\"a\"],\"units\":{\"a\":\"tokens\",\"z\":\"nats\"},\"rows\":["
        "[\"say "
        "\\\"é\\\"\",0.333333,-7,null],[\"\",2,9223372036854775807,null],[null,1.23457e+06,0,1e-10]]}");
}
