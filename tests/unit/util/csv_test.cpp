// CSV as RFC 4180 has it: what is written reads back, and foreign files are read.
#include "depthlens/util/csv.hpp"

#include <string>
#include <vector>

#include "depthlens/util/text.hpp"
#include "support/check_error.hpp"

using namespace depthlens;
using util::csv_field;
using util::parse_csv;

namespace {

using Records = std::vector<std::vector<std::string>>;

std::string written(const Records& records) {
  std::string text;
  for (const auto& record : records) {
    std::vector<std::string> fields;
    for (const auto& field : record) fields.push_back(csv_field(field));
    text += util::join(fields, ",") + "\n";
  }
  return text;
}

}  // namespace

TEST_CASE("csv: only fields that need quotes get them") {
  CHECK(csv_field("plain") == "plain");
  CHECK(csv_field("") == "");
  CHECK(csv_field(" leading space") == " leading space");
  CHECK(csv_field("a,b") == R"("a,b")");
  CHECK(csv_field("say \"x\"") == R"("say ""x""")");
  CHECK(csv_field("\"") == R"("""")");
  CHECK(csv_field("two\nlines") == "\"two\nlines\"");
  CHECK(csv_field("\r") == "\"\r\"");
}

TEST_CASE("csv: every awkward field survives the round trip, in every place of a record") {
  const std::vector<std::string> fields = {"",   "a",    ",",    "\"",     "\"\"", "a\"b", "\n",
                                           "\r", "\r\n", "a,\"", "x\r\ny", " ",    "ü",    "\"quoted\""};
  for (const auto& first : fields) {
    for (const auto& second : fields) {
      const Records records = {{"id", "text", "end"}, {first, second, "1"}, {"2", first, second}};
      INFO(written(records));
      CHECK(parse_csv(written(records), "x.csv") == records);
    }
  }
}

TEST_CASE("csv: line ends of either kind, a missing last one, and empty lines") {
  const Records expected = {{"a", "b"}, {"c", "d"}};
  CHECK(parse_csv("a,b\nc,d\n", "x") == expected);
  CHECK(parse_csv("a,b\r\nc,d\r\n", "x") == expected);
  CHECK(parse_csv("a,b\nc,d", "x") == expected);
  CHECK(parse_csv("a,b\rc,d\r", "x") == expected);
  CHECK(parse_csv("a,b\r\n\"c\",\"d\"\r\n", "x") == expected);
  CHECK(parse_csv("a,b\n\n\r\nc,d\n\n", "x") == expected);
  CHECK(parse_csv("", "x").empty());
  CHECK(parse_csv("\n\n", "x").empty());
}

TEST_CASE("csv: empty fields count") {
  CHECK(parse_csv(",\n", "x") == Records{{"", ""}});
  CHECK(parse_csv("a,,b\n", "x") == Records{{"a", "", "b"}});
  CHECK(parse_csv("a,", "x") == Records{{"a", ""}});
  CHECK(parse_csv("\"\"\n", "x") == Records{{""}});
  CHECK(parse_csv("\"\",\"\"", "x") == Records{{"", ""}});
}

TEST_CASE("csv: a quote that is never closed names the line where it was opened") {
  test::check_error(util::ErrorCode::kInput, {"a quote is never closed", "counts.csv, line 3"},
                    [] { parse_csv("a,\"b\nc\"\nd,\"e\nf\ng\n", "counts.csv"); });
}
