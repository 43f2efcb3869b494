// Numbers and strings of JSON that is written as text.
#include "depthlens/util/json_text.hpp"

#include <cmath>
#include <cstdlib>
#include <limits>

#include "depthlens/util/json.hpp"
#include "support/catch.hpp"

using namespace depthlens::util;

TEST_CASE("numbers of JSON are the shortest that read back as the same float") {
  CHECK(json_number(0.1F) == "0.1");
  CHECK(json_number(-2.5F) == "-2.5");
  CHECK(json_number(0.0F) == "0");
  CHECK(json_number(5.5338387F) == "5.5338387");
  CHECK(json_number(1e-7F) == "1e-07");
  for (const float value : {std::nextafter(1.0F, 2.0F), std::numeric_limits<float>::max(),
                            std::numeric_limits<float>::denorm_min(), -1.8825461F}) {
    CHECK(std::strtof(json_number(value).c_str(), nullptr) == value);
    CHECK(Json::parse(json_number(value)).is_number());
  }
  CHECK(json_number(INFINITY) == "null");
  CHECK(json_number(NAN) == "null");
}

TEST_CASE("strings of JSON hold any bytes, and in ASCII nothing that acts on a terminal") {
  CHECK(json_string("a\"\\\n") == R"("a\"\\\n")");
  CHECK(json_string("é中") == "\"é中\"");
  CHECK(json_string("é\xff") == "\"é\uFFFD\"");
  CHECK(json_string("é\x1b\x7f\u009b😀\xff", JsonAlphabet::kAscii) ==
        R"("\u00e9\u001b\u007f\u009b\ud83d\ude00\ufffd")");
  CHECK(json_string("") == "\"\"");
}

TEST_CASE("strings of JSON are one line for every reader: all that Unicode ends a line with is escaped") {
  const std::string text = "a\n\v\f\r\x1c\x1d\x1e\u0085\u2028\u2029z \u2027\u202a\u0084";
  const std::string json = json_string(text);
  CHECK(json == R"("a\n\u000b\f\r\u001c\u001d\u001e\u0085\u2028\u2029z )"
                "\u2027\u202a\u0084\"");
  CHECK(Json::parse(json) == text);
  CHECK(json_string("\u2028\u2028", JsonAlphabet::kAscii) == R"("\u2028\u2028")");
}
