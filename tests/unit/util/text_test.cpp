// Text helpers: UTF-8 of every malformed class, integers, nearest names, and numbers for people.
#include "depthlens/util/text.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "support/catch.hpp"

using namespace depthlens;
using namespace depthlens::util;

namespace {

struct Decoded {
  bool valid;
  char32_t code_point;
  int length;
};

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

Decoded decode(std::string_view text, std::size_t i = 0) {
  Decoded result{false, 0, 0};
  result.valid = decode_utf8(text, i, result.code_point, result.length);
  return result;
}

}  // namespace

TEST_CASE("utf-8: every code point that is not a surrogate survives the round trip") {
  std::string failures;
  for (char32_t c = 0; c <= 0x10ffff; ++c) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    std::string bytes;
    append_utf8(bytes, c);
    const Decoded decoded = decode(bytes);
    const int length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (!decoded.valid || decoded.code_point != c || decoded.length != length ||
        bytes.size() != static_cast<std::size_t>(length)) {
      failures += std::to_string(static_cast<std::uint32_t>(c)) + " ";
    }
  }
  CHECK(failures.empty());
}

TEST_CASE("utf-8: malformed sequences, each with the length of its maximal invalid part") {
  struct Case {
    std::string_view bytes;
    int length;
    std::string_view why;
  };
  const std::vector<Case> cases = {
      {"\x80", 1, "continuation without a first byte"},
      {"\xbf", 1, "continuation without a first byte"},
      {"\xc0\xaf", 1, "overlong '/'"},
      {"\xc1\xbf", 1, "overlong U+007F"},
      {"\xe0\x80\xaf", 1, "overlong '/' in three bytes"},
      {"\xe0\x9f\xbf", 1, "overlong U+07FF"},
      {"\xf0\x80\x80\xaf", 1, "overlong '/' in four bytes"},
      {"\xf0\x8f\xbf\xbf", 1, "overlong U+FFFF"},
      {"\xed\xa0\x80", 1, "surrogate U+D800"},
      {"\xed\xbf\xbf", 1, "surrogate U+DFFF"},
      {"\xf4\x90\x80\x80", 1, "beyond U+10FFFF"},
      {"\xf5\x80\x80\x80", 1, "first byte that never occurs"},
      {"\xfe", 1, "first byte that never occurs"},
      {"\xff", 1, "first byte that never occurs"},
      {"\xc3", 1, "cut after one of two"},
      {"\xe2\x82", 2, "cut after two of three"},
      {"\xf0\x9f\x98", 3, "cut after three of four"},
      {"\xf0\x9f", 2, "cut after two of four"},
      {"\xe2\x82x", 2, "two of three, then ASCII"},
      {"\xf0\x9f\x98x", 3, "three of four, then ASCII"},
      {"\xc3x", 1, "one of two, then ASCII"},
      {"\xc3\xc3\xa9", 1, "one of two, then a first byte"},
      {"\xf0\x9f\xe2\x82\xac", 2, "two of four, then a first byte"},
  };
  for (const Case& c : cases) {
    INFO(c.why);
    const Decoded decoded = decode(c.bytes);
    CHECK_FALSE(decoded.valid);
    CHECK(decoded.length == c.length);
    CHECK_FALSE(is_valid_utf8(c.bytes));
  }
}

TEST_CASE("utf-8: the ends of the valid ranges are valid") {
  CHECK(decode("\xe0\xa0\x80").code_point == 0x800);
  CHECK(decode("\xed\x9f\xbf").code_point == 0xd7ff);
  CHECK(decode("\xee\x80\x80").code_point == 0xe000);
  CHECK(decode("\xf0\x90\x80\x80").code_point == 0x10000);
  CHECK(decode("\xf4\x8f\xbf\xbf").code_point == 0x10ffff);
  CHECK(decode("\xc2\x80").code_point == 0x80);
  CHECK(decode("a\xc3\xa9", 1).code_point == 0xe9);
  CHECK(is_valid_utf8(""));
  CHECK(is_valid_utf8(std::string_view("\0", 1)));
}

TEST_CASE("utf-8: the first bad byte is found") {
  std::size_t at = 99;
  CHECK_FALSE(is_valid_utf8("ab\u00e9\xff", &at));
  CHECK(at == 4);
  CHECK_FALSE(is_valid_utf8("abc\xe2\x82", &at));
  CHECK(at == 3);
}

TEST_CASE("valid_utf8: one U+FFFD for each maximal invalid part, or each byte in hex") {
  CHECK(valid_utf8("plain \u00e9") == "plain \u00e9");
  CHECK(valid_utf8("a\xff"
                   "b") == "a\uFFFDb");
  CHECK(valid_utf8("\xe2\x82") == "\uFFFD");
  CHECK(valid_utf8("\xf0\x9f\x98\xf0\x9f\x98\x80") == "\uFFFD\U0001F600");
  CHECK(valid_utf8("\xed\xa0\x80") == "\uFFFD\uFFFD\uFFFD");
  CHECK(valid_utf8("\xe2\x82x", InvalidBytes::kHex) == R"(\xe2\x82x)");
  CHECK(valid_utf8("\u00e9\xff", InvalidBytes::kHex) == "\u00e9\\xff");
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string bytes = {static_cast<char>(first), static_cast<char>(second)};
      if (!is_valid_utf8(valid_utf8(bytes)) || !is_valid_utf8(valid_utf8(bytes, InvalidBytes::kHex)))
        FAIL(first << " " << second);
    }
  }
}

TEST_CASE("hex_escape: two lower-case digits") {
  CHECK(hex_escape(0) == "\\x00");
  CHECK(hex_escape(0x7f) == "\\x7f");
  CHECK(hex_escape(0xff) == "\\xff");
}

TEST_CASE("printable: nothing that acts on a terminal or reorders the line gets through") {
  CHECK(printable("plain, Grüße, 日本語, 🦉") == "plain, Grüße, 日本語, 🦉");
  CHECK(printable("\x1b[31mred\x1b[0m") == "\\x1b[31mred\\x1b[0m");
  CHECK(printable("one\ntwo\r\tthree\x7f") == "one\\ntwo\\x0d\\x09three\\x7f");
  CHECK(printable("\xC2\x9B"
                  "2J") == "\\xc2\\x9b2J");  // the one-byte form of ESC [
  CHECK(printable("a\xE2\x80\xAE"
                  "b") ==
        "a\\xe2\\x80\\xae"
        "b");  // right-to-left override
  CHECK(printable("a\xE2\x80\xA8"
                  "b") ==
        "a\\xe2\\x80\\xa8"
        "b");  // line separator
  CHECK(printable(std::string_view("\0\xff", 2)) == "\\x00\\xff");
}

TEST_CASE("cat, join, split, trimmed") {
  CHECK(cat("a", 1, '-', 2.5, std::string("z")) == "a1-2.5z");
  CHECK(join({}, ", ") == "");
  CHECK(join({"a"}, ", ") == "a");
  CHECK(join({"a", "", "b"}, ", ") == "a, , b");
  CHECK(join_first({}, 2) == "");
  CHECK(join_first({"a", "b"}, 2) == "a, b");
  CHECK(join_first({"a", "b", "c"}, 2) == "a, b, …");
  CHECK(split("a,b,,c", ',') == std::vector<std::string>{"a", "b", "", "c"});
  CHECK(split("", ',') == std::vector<std::string>{""});
  CHECK(split(",", ',') == std::vector<std::string>{"", ""});
  CHECK(trimmed(" \t\r\n x y \f\v") == "x y");
  CHECK(trimmed(" \n ") == "");
  CHECK(trimmed("") == "");
}

TEST_CASE("parse_int: the whole text, in base 10, within 64 bits") {
  std::int64_t value = 0;
  CHECK((parse_int("0", value) && value == 0));
  CHECK((parse_int("-12", value) && value == -12));
  CHECK((parse_int("007", value) && value == 7));
  CHECK((parse_int("9223372036854775807", value) && value == INT64_MAX));
  CHECK((parse_int("-9223372036854775808", value) && value == INT64_MIN));
  for (const char* text : {"", "-", "+1", " 1", "1 ", "1.0", "1e3", "0x10", "9223372036854775808", "1,000"}) {
    INFO(text);
    CHECK_FALSE(parse_int(text, value));
  }
}

TEST_CASE("nearest_name: a mistyped name is recognised, another word is not") {
  const std::vector<std::string> names = {"trajectory", "frequency", "flips", "settling"};
  CHECK(nearest_name("trajectroy", names) == "trajectory");
  CHECK(nearest_name("frequencies", names) == "frequency");
  CHECK(nearest_name("flip", names) == "flips");
  CHECK(nearest_name("flips", names) == "flips");
  CHECK(nearest_name("setling", names) == "settling");
  CHECK(nearest_name("calibration", names) == "");
  CHECK(nearest_name("x", names) == "");
  CHECK(nearest_name("", names) == "");
  CHECK(nearest_name("anything", {}) == "");
  CHECK(nearest_name(std::string(100'000, 'f'), names) == "");
  CHECK(did_you_mean("flps", names) == "did you mean 'flips'?");
  CHECK(did_you_mean("calibration", names) == "");
}

TEST_CASE("nearest_name: the nearest of several near ones") {
  CHECK(nearest_name("--max-record", {"--max-length", "--max-records", "--records"}) == "--max-records");
}

TEST_CASE("with_thousands") {
  CHECK(with_thousands(0) == "0");
  CHECK(with_thousands(999) == "999");
  CHECK(with_thousands(1000) == "1,000");
  CHECK(with_thousands(1234567) == "1,234,567");
  CHECK(with_thousands(-999) == "-999");
  CHECK(with_thousands(-1000) == "-1,000");
  CHECK(with_thousands(-123456) == "-123,456");
  CHECK(with_thousands(INT64_MIN) == "-9,223,372,036,854,775,808");
}

TEST_CASE("as_bytes") {
  CHECK(as_bytes(0) == "0 B");
  CHECK(as_bytes(1023) == "1023 B");
  CHECK(as_bytes(1024) == "1.0 KiB");
  CHECK(as_bytes(1536 * 1024) == "1.5 MiB");
  CHECK(as_bytes(std::uint64_t{8} << 30) == "8.0 GiB");
  CHECK(as_bytes(std::uint64_t{5000} << 40) == "5000.0 TiB");
}

TEST_CASE("as_duration: three ranges, and no sixty of anything") {
  CHECK(as_duration(0) == "0.0 s");
  CHECK(as_duration(4.2) == "4.2 s");
  CHECK(as_duration(10) == "10 s");
  CHECK(as_duration(89) == "89 s");
  CHECK(as_duration(200) == "3 min 20 s");
  CHECK(as_duration(119.7) == "2 min 00 s");
  CHECK(as_duration(3600 + 59) == "60 min 59 s");
  CHECK(as_duration(2 * 3600 + 120) == "2 h 02 min");
  CHECK(as_duration(2 * 3600 - 1) == "2 h 00 min");
  CHECK(as_duration(-1) == "?");
  CHECK(as_duration(std::numeric_limits<double>::infinity()) == "?");
  CHECK(as_duration(std::numeric_limits<double>::quiet_NaN()) == "?");
}
