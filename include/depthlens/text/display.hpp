// Tokens on a terminal: what is harmless to print, and how many columns it takes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace depthlens::text {

/// `text` as visible characters of one line, whatever its bytes are: "·" for a space, "⏎" for a line feed,
/// "⇥" for a tab, \xNN for other control characters of ASCII and for bytes that are not UTF-8, \u{N} for all
/// other code points that show nothing or act on what stands around them (controls, formats, directions,
/// spaces, variation selectors, parts of flags, what Unicode has not assigned). A mark at the beginning gets
/// "◌" to sit on.
std::string printable(std::string_view text);

/// Columns of a terminal that printable text takes: 2 for wide characters, 0 for marks.
std::int64_t display_width(std::string_view text);

/// Printable `text` cut (with "…") or filled with spaces to exactly `width` columns; "" where `width` is less
/// than 1. A character is never separated from its marks.
std::string fitted(std::string_view text, std::int64_t width);

}  // namespace depthlens::text
