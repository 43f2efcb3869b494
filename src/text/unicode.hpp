// What a code point is to the tokenizers, by tables taken from Hugging Face's package, and NFC after its
// manner.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace depthlens::text {

/// Properties of a code point, combined by |.
enum CodePointFlag : std::uint8_t {
  kLetter = 1,        ///< \p{L}
  kNumber = 2,        ///< \p{N}
  kWhiteSpace = 4,    ///< \s
  kWord = 8,          ///< part of a word, for added tokens that must stand alone
  kNumeric = 16,      ///< a number for the pre-tokenizer Digits
  kPunctuation = 64,  ///< what the pre-tokenizer Punctuation cuts at
  kNfcActive = 32     ///< NFC may change it, move it or join it to what stands before
};

/// The flags of all 0x110000 code points.
const std::uint8_t* code_point_flags();

/// Decodes the code point at `at` of text known to be valid UTF-8, and moves `at` behind it.
inline char32_t next_code_point(const char*& at) {
  const auto byte = [&](int k) { return static_cast<unsigned char>(at[k]); };
  const char32_t first = byte(0);
  if (first < 0x80) {
    at += 1;
    return first;
  }
  if (first < 0xe0) {
    const char32_t c = ((first & 0x1fu) << 6) | (byte(1) & 0x3fu);
    at += 2;
    return c;
  }
  if (first < 0xf0) {
    const char32_t c = ((first & 0x0fu) << 12) | ((byte(1) & 0x3fu) << 6) | (byte(2) & 0x3fu);
    at += 3;
    return c;
  }
  const char32_t c =
      ((first & 0x07u) << 18) | ((byte(1) & 0x3fu) << 12) | ((byte(2) & 0x3fu) << 6) | (byte(3) & 0x3fu);
  at += 4;
  return c;
}

/// The start of the code point that ends before `end`; valid UTF-8 with at least one code point is given.
inline const char* previous_code_point(const char* end) {
  do {
    --end;
  } while ((static_cast<unsigned char>(*end) & 0xc0) == 0x80);
  return end;
}

/// Throws a format error that names the first bad byte where `text` is not valid UTF-8.
void require_valid_utf8(std::string_view text, const std::string& where);

/// `text` (valid UTF-8) in normalization form C.
std::string to_nfc(std::string_view text);

/// The members of a general category ("L", "Nd", …), of white space ("\\s") or of the script Han, or what is
/// not in it, as ranges for a character class of PCRE2: "\x{41}-\x{5a}…". Empty for an unknown name.
std::string class_members(std::string_view category, bool complement);
/// What is in one of such categories and in none of the others. Empty where a name is unknown.
std::string class_difference(const std::vector<std::string_view>& categories,
                             const std::vector<std::string_view>& without);

}  // namespace depthlens::text
