// What a code point does on a terminal, by utf8proc's tables.
#include "depthlens/text/display.hpp"

#include <utf8proc.h>

#include <algorithm>

#include "depthlens/util/text.hpp"

namespace depthlens::text {
namespace {

std::int64_t columns_of(char32_t code_point) {
  // Medial and final jamo are drawn into the syllable that they end.
  if (code_point >= 0x1160 && code_point <= 0x11ff) return 0;
  return utf8proc_charwidth(static_cast<utf8proc_int32_t>(code_point));
}

/// Whether a terminal draws it, and does nothing else.
bool is_drawn(char32_t code_point) {
  // Terminals disagree on the columns of what these are part of: flags, emoji with a colour of skin,
  // variants.
  const auto between = [&](char32_t first, char32_t last) {
    return code_point >= first && code_point <= last;
  };
  if (between(0x1f1e6, 0x1f1ff) || between(0x1f3fb, 0x1f3ff) || between(0xfe00, 0xfe0f) ||
      between(0xe0100, 0xe01ef))
    return false;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  char32_t code_point;
  int length;
  for (std::size_t i = 0; i < text.size(); i += static_cast<std::size_t>(length)) {
    const bool valid = util::decode_utf8(text, i, code_point, length);
    const std::string_view bytes = text.substr(i, static_cast<std::size_t>(length));
    if (!valid || (code_point < 0x80 && !is_drawn(code_point))) {
      if (bytes == " ") {
        out += "·";
      } else if (bytes == "\n") {
        out += "⏎";
      } else if (bytes == "\t") {
        out += "⇥";
      } else {
        for (const char byte : bytes) out += util::hex_escape(static_cast<unsigned char>(byte));
      }
    } else if (is_drawn(code_point)) {
      if (out.empty() && columns_of(code_point) == 0) out += "◌";
      out += bytes;
    } else {
      out += util::cat("\\u{", std::hex, static_cast<std::uint32_t>(code_point), "}");
    }
  }
  return out;
}

std::int64_t display_width(std::string_view text) {
  std::int64_t width = 0;
  char32_t code_point;
  int length;
  for (std::size_t i = 0; i < text.size(); i += static_cast<std::size_t>(length))
    width += util::decode_utf8(text, i, code_point, length) ? columns_of(code_point) : 1;
  return width;
}

std::string fitted(std::string_view text, std::int64_t width) {
  if (width < 1) return "";
  const bool cut = display_width(text) > width;
  const std::int64_t room = cut ? width - 1 : width;
  std::string out;
  std::int64_t used = 0;
  char32_t code_point;
  int length;
  for (std::size_t i = 0; i < text.size(); i += static_cast<std::size_t>(length)) {
    const bool valid = util::decode_utf8(text, i, code_point, length);
    const std::int64_t columns = valid ? columns_of(code_point) : 1;
    if (used + columns > room) break;
    out += text.substr(i, static_cast<std::size_t>(length));
    used += columns;
  }
  if (cut) {
    out += "…";
    ++used;
  }
  return out.append(static_cast<std::size_t>(width - used), ' ');
}

}  // namespace depthlens::text
