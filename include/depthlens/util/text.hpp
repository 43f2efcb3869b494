// Small helpers on text: concatenation, UTF-8, names close to a mistyped one.
#pragma once

#include <cstdint>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace depthlens::util {

/// Bytes that a line of a file may have.
inline constexpr std::uint64_t kMaxLine = std::uint64_t{1} << 30;

/// All arguments written one after another.
template <typename... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

std::string join(const std::vector<std::string>& parts, std::string_view separator);
/// "a, b, …": the first `most` of the parts, and whether there are more.
std::string join_first(const std::vector<std::string>& parts, std::size_t most);
std::vector<std::string> split(std::string_view text, char separator);
std::string_view trimmed(std::string_view text);
/// A to Z as a to z, all else as it is.
std::string lower_case(std::string_view text);

/// "[2, 3, 4]": sizes of a tensor.
std::string shape_text(std::span<const std::int64_t> shape);

/// The whole of `text` as an integer in base 10; nothing else around it. False where it is none or does not
/// fit.
bool parse_int(std::string_view text, std::int64_t& value);

enum class InvalidBytes { kReplace, kHex };

/// Decodes one code point at `text[i]` (i < size) and its length in bytes (1 to 4). False for an invalid
/// sequence (overlong, surrogate, cut, beyond U+10FFFF); `length` is then the number of bytes of the maximal
/// invalid part.
bool decode_utf8(std::string_view text, std::size_t i, char32_t& code_point, int& length);
bool is_valid_utf8(std::string_view text, std::size_t* first_bad_byte = nullptr);

/// `text` with every invalid part replaced by U+FFFD, or by \xNN for each byte.
std::string valid_utf8(std::string_view text, InvalidBytes mode = InvalidBytes::kReplace);
std::string hex_escape(unsigned char byte);

/// `text` on one line and safe to print on a terminal: what would move the cursor, change colours or reorder
/// the line (control characters, line and paragraph separators, bidirectional controls) and invalid UTF-8 as
/// \xNN, a line feed as \n.
std::string printable(std::string_view text);

/// The beginning of `text`, at most `most` bytes, cut where no character breaks.
std::string_view cut_utf8(std::string_view text, std::size_t most);

/// The candidate nearest to `name` by edit distance, or "" where none is near enough to be meant.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

/// "did you mean 'x'?" or "".
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

/// "1,234,567"; "1.5 MiB"; "1 h 02 min", "3 min 20 s", "4.2 s".
std::string with_thousands(std::int64_t number);
std::string as_bytes(std::uint64_t bytes);
std::string as_duration(double seconds);

}  // namespace depthlens::util
