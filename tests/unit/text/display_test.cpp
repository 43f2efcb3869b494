// Tokens on a terminal: nothing acts on it, and columns are counted as it counts them.
#include "depthlens/text/display.hpp"

#include "depthlens/util/text.hpp"
#include "support/catch.hpp"

namespace depthlens::text {
namespace {

TEST_CASE("printable text shows spaces, line breaks and what is invisible") {
  CHECK(printable(" the") == "·the");
  CHECK(printable("a\n\tb") == "a⏎⇥b");
  CHECK(printable("a\r\x1b[31m\x7f") == "a\\x0d\\x1b[31m\\x7f");
  CHECK(printable(std::string_view("\0x", 2)) == "\\x00x");
  CHECK(printable("\xe4\xb8") == "\\xe4\\xb8");  // half a character
  CHECK(printable("\xc2\x9b"
                  "31m") == "\\u{9b}31m");                         // CSI in one code point
  CHECK(printable("\u202eabc\u2069") == "\\u{202e}abc\\u{2069}");  // directions
  CHECK(printable("a\u00a0\u3000b") == "a\\u{a0}\\u{3000}b");
  CHECK(printable("a\u200db\ufeff") == "a\\u{200d}b\\u{feff}");
  CHECK(printable("\u2764\ufe0f") == "\u2764\\u{fe0f}");
  CHECK(printable("\U000e0041") == "\\u{e0041}");
  CHECK(printable("") == "");
  CHECK(printable("naïve 中文 Ω 😀") == "naïve·中文·Ω·😀");
  CHECK(printable("e\u0301") == "e\u0301");
  CHECK(printable("\u0301e") == "◌\u0301e");  // not onto what stands before the token
}

TEST_CASE("no byte sequence leaves a control character") {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string shown = printable(
          std::string{static_cast<char>(first), static_cast<char>(second), static_cast<char>(0x9b), 'm'});
      bool safe = util::is_valid_utf8(shown);
      char32_t code_point;
      int length;
      for (std::size_t i = 0; safe && i < shown.size(); i += static_cast<std::size_t>(length)) {
        util::decode_utf8(shown, i, code_point, length);
        safe = code_point >= 0x20 && (code_point < 0x7f || code_point > 0x9f);
      }
      if (!safe) FAIL_CHECK(first << " " << second);
    }
  }
}

TEST_CASE("wide characters take two columns, marks none") {
  CHECK(display_width("") == 0);
  CHECK(display_width("abc") == 3);
  CHECK(display_width("·⏎⇥◌…↓") == 6);
  CHECK(display_width("中文") == 4);
  CHECK(display_width("😀") == 2);
  CHECK(display_width("e\u0301") == 1);
  CHECK(display_width("\u1112\u1161\u11ab") == 2);  // one syllable of three jamo
}

TEST_CASE("text is cut and filled to exact columns, between characters") {
  CHECK(fitted("ab", 4) == "ab  ");
  CHECK(fitted("abcd", 4) == "abcd");
  CHECK(fitted("abcde", 4) == "abc…");
  CHECK(fitted("中文字", 6) == "中文字");
  CHECK(fitted("中文字", 5) == "中文…");
  CHECK(fitted("中文字", 4) == "中… ");  // half of a wide character is not shown
  CHECK(fitted("e\u0301e\u0301e\u0301", 2) == "e\u0301…");
  CHECK(fitted("abc", 1) == "…");
  CHECK(fitted("abc", 0) == "");
  CHECK(fitted("abc", -3) == "");
  for (const char* text : {"", "a", "中", "a中文", "e\u0301中😀x", "\u1112\u1161\u11ab文"}) {
    for (std::int64_t width = 0; width < 9; ++width) CHECK(display_width(fitted(text, width)) == width);
  }
}

}  // namespace
}  // namespace depthlens::text
