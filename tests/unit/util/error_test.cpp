// Errors: the wording and the exit status that the contract fixes, and quotes in messages.
#include "depthlens/util/error.hpp"

#include <stdexcept>
#include <string>

#include "depthlens/util/text.hpp"
#include "support/catch.hpp"

using namespace depthlens;
using util::Error;
using util::ErrorCode;
using util::in_quotes;

namespace {

int status_of(const Error& error) {
  return static_cast<int>(error.code());
}

}  // namespace

TEST_CASE("error: each kind has the exit status of the contract") {
  CHECK(status_of(util::usage_error({.what = "x"})) == 2);
  CHECK(status_of(util::input_error({.what = "x"})) == 3);
  CHECK(status_of(util::format_error({.what = "x"})) == 4);
  CHECK(status_of(util::self_check_error({.what = "x"})) == 5);
  CHECK(status_of(util::output_error({.what = "x"})) == 6);
  CHECK(status_of(util::interrupted_error()) == 130);
  CHECK(static_cast<int>(ErrorCode::kInternal) == 70);
}

TEST_CASE("error: WHAT, WHERE; expected EXPECTED, found FOUND, without the parts that are empty") {
  const auto sentence = [](util::ErrorText text) { return std::string(util::usage_error(text).what()); };
  CHECK(sentence({.what = "W", .where = "P", .expected = "E", .found = "F"}) == "W, P; expected E, found F");
  CHECK(sentence({.what = "W"}) == "W");
  CHECK(sentence({.what = "W", .where = "P"}) == "W, P");
  CHECK(sentence({.what = "W", .expected = "E"}) == "W; expected E");
  CHECK(sentence({.what = "W", .found = "F"}) == "W; found F");
  CHECK(sentence({.what = "W", .where = "P", .found = "F"}) == "W, P; found F");
  CHECK(sentence({.what = "W", .where = "P", .expected = "E"}) == "W, P; expected E");
}

TEST_CASE("error: the hint is kept apart from the sentence") {
  const Error error = util::input_error({.what = "W", .hint = "H"});
  CHECK(std::string(error.what()) == "W");
  CHECK(error.hint() == "H");
  CHECK(error.text().what == "W");
}

TEST_CASE("error: a failed assertion is a defect, not an Error, and names its condition") {
  const auto fails = [] { DEPTHLENS_ASSERT(1 + 1 == 3); };
  CHECK_THROWS_AS(fails(), std::logic_error);
  CHECK_THROWS_WITH(fails(), ContainsSubstring("1 + 1 == 3") && ContainsSubstring("error_test.cpp"));
  CHECK_NOTHROW([] { DEPTHLENS_ASSERT(true); }());
}

TEST_CASE("in_quotes: plain text and valid UTF-8 stay as they are") {
  CHECK(in_quotes("plain text") == "'plain text'");
  CHECK(in_quotes("") == "''");
  CHECK(in_quotes("zo\u00eb \U0001F600") == "'zo\u00eb \U0001F600'");
}

TEST_CASE("in_quotes: control bytes and invalid UTF-8 cannot reach the terminal") {
  CHECK(in_quotes("a\nb") == R"('a\nb')");
  CHECK(in_quotes("a\tb\r") == R"('a\x09b\x0d')");
  CHECK(in_quotes("\x1b[31m") == R"('\x1b[31m')");
  CHECK(in_quotes(std::string_view("\0\x7f", 2)) == R"('\x00\x7f')");
  CHECK(in_quotes("a\xff\xc3") == R"('a\xff\xc3')");
  CHECK(in_quotes("\xed\xa0\x80") == R"('\xed\xa0\x80')");
}

TEST_CASE("in_quotes: long text is cut and says so") {
  CHECK(in_quotes(std::string(120, 'x')) == "'" + std::string(120, 'x') + "'");
  const std::string cut = in_quotes(std::string(5000, 'x'));
  CHECK(cut.size() < 200);
  CHECK(cut.find("…'") == cut.size() - 4);
}

TEST_CASE("in_quotes: the cut does not break a character") {
  for (int before = 0; before < 4; ++before) {
    std::string text(static_cast<std::size_t>(before), 'x');
    for (int i = 0; i < 100; ++i) text += "\U0001F600";
    const std::string quoted = in_quotes(text);
    INFO(quoted);
    CHECK(quoted.find("\\x") == std::string::npos);
    CHECK(util::is_valid_utf8(quoted));
  }
}
