// Small helpers on text.
#include "depthlens/util/text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace depthlens::util {

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out += separator;
    out += parts[i];
  }
  return out;
}

std::string join_first(const std::vector<std::string>& parts, std::size_t most) {
  if (parts.size() <= most) return join(parts, ", ");
  return join({parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(most)}, ", ") + ", …";
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::vector<std::string> sizes;
  for (const std::int64_t size : shape) sizes.push_back(std::to_string(size));
  return "[" + join(sizes, ", ") + "]";
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  while (true) {
    const std::size_t end = text.find(separator, start);
    parts.emplace_back(text.substr(start, end == std::string_view::npos ? end : end - start));
    if (end == std::string_view::npos) return parts;
    start = end + 1;
  }
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\f\v";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool parse_int(std::string_view text, std::int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool decode_utf8(std::string_view text, std::size_t i, char32_t& code_point, int& length) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[k]); };
  const unsigned char first = byte(i);
  length = 1;
  if (first < 0x80) {
    code_point = first;
    return true;
  }
  // The allowed range of the second byte excludes overlong forms, surrogates and what lies beyond U+10FFFF.
  int more;
  unsigned char low = 0x80, high = 0xbf;
  if (first >= 0xc2 && first <= 0xdf) {
    more = 1;
    code_point = first & 0x1f;
  } else if (first >= 0xe0 && first <= 0xef) {
    more = 2;
    code_point = first & 0x0f;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    more = 3;
    code_point = first & 0x07;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
  } else {
    return false;
  }
  for (int k = 1; k <= more; ++k) {
    if (i + k >= text.size()) return false;
    const unsigned char next = byte(i + k);
    if (next < low || next > high) return false;
    low = 0x80;
    high = 0xbf;
    code_point = (code_point << 6) | (next & 0x3f);
    length = k + 1;
  }
  return true;
}

bool is_valid_utf8(std::string_view text, std::size_t* first_bad_byte) {
  char32_t code_point;
  int length;
  for (std::size_t i = 0; i < text.size(); i += length) {
    if (!decode_utf8(text, i, code_point, length)) {
      if (first_bad_byte) *first_bad_byte = i;
      return false;
    }
  }
  return true;
}

std::string hex_escape(unsigned char byte) {
  std::array<char, 5> buffer;
  std::snprintf(buffer.data(), buffer.size(), "\\x%02x", byte);
  return buffer.data();
}

std::string_view cut_utf8(std::string_view text, std::size_t most) {
  if (text.size() <= most) return text;
  std::size_t end = most;
  // At most three bytes of a character can stand before the cut.
  while (end > 0 && most - end < 3 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

std::string valid_utf8(std::string_view text, InvalidBytes mode) {
  if (is_valid_utf8(text)) return std::string(text);
  std::string out;
  char32_t code_point;
  int length;
  for (std::size_t i = 0; i < text.size(); i += length) {
    if (decode_utf8(text, i, code_point, length)) {
      out += text.substr(i, length);
    } else if (mode == InvalidBytes::kReplace) {
      out += "\xEF\xBF\xBD";
    } else {
      for (int k = 0; k < length; ++k) out += hex_escape(static_cast<unsigned char>(text[i + k]));
    }
  }
  return out;
}

std::string printable(std::string_view text) {
  const auto harmful = [](char32_t c) {
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0x200e && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
  };
  std::string out;
  char32_t code_point = 0;
  int length = 1;
  for (std::size_t i = 0; i < text.size(); i += static_cast<std::size_t>(length)) {
    const bool valid = decode_utf8(text, i, code_point, length);
    const std::string_view character = text.substr(i, static_cast<std::size_t>(length));
    if (valid && code_point == '\n') {
      out += "\\n";
    } else if (valid && !harmful(code_point)) {
      out += character;
    } else {
      for (const char byte : character) out += hex_escape(static_cast<unsigned char>(byte));
    }
  }
  return out;
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  const auto distance = [](std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j <= b.size(); ++j) {
        const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
      }
    }
    return row.back();
  };
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, name.size() / 3) + 1;
  for (const auto& candidate : candidates) {
    if (candidate.size() > 200 || name.size() > 200) continue;
    const std::size_t d = distance(name, candidate);
    if (d < best_distance) {
      best_distance = d;
      best = candidate;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string best = nearest_name(name, candidates);
  return best.empty() ? "" : "did you mean '" + best + "'?";
}

std::string with_thousands(std::int64_t number) {
  std::string digits = std::to_string(number);
  const std::size_t first = number < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > first + 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string as_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  std::array<char, 32> buffer;
  std::snprintf(buffer.data(), buffer.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return buffer.data();
}

std::string as_duration(double seconds) {
  std::array<char, 48> buffer;
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  if (seconds < 10) {
    std::snprintf(buffer.data(), buffer.size(), "%.1f s", seconds);
  } else if (seconds < 90) {
    std::snprintf(buffer.data(), buffer.size(), "%.0f s", seconds);
  } else if (seconds < 5400) {
    const auto whole = std::llround(seconds);
    std::snprintf(buffer.data(), buffer.size(), "%lld min %02lld s", whole / 60, whole % 60);
  } else {
    const auto minutes = std::llround(seconds / 60);
    std::snprintf(buffer.data(), buffer.size(), "%lld h %02lld min", minutes / 60, minutes % 60);
  }
  return buffer.data();
}

}  // namespace depthlens::util
