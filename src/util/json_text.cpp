// Numbers and strings of JSON.
#include "depthlens/util/json_text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "depthlens/util/json.hpp"

namespace depthlens::util {

char* write_json_number(char* to, float value) {
  if (!std::isfinite(value)) return std::copy_n("null", 4, to);
  return std::to_chars(to, to + kMaxJsonNumber, value).ptr;
}

std::string json_number(float value) {
  std::array<char, kMaxJsonNumber> buffer;
  return {buffer.data(), write_json_number(buffer.data(), value)};
}

namespace {

template <typename Document>
std::string text_of(const Document& value, int indent, JsonAlphabet alphabet) {
  return value.dump(indent, ' ', alphabet == JsonAlphabet::kAscii, Document::error_handler_t::replace);
}

}  // namespace

std::string json_text(const Json& value, int indent, JsonAlphabet alphabet) {
  return text_of(value, indent, alphabet);
}

std::string json_text(const OrderedJson& value, int indent, JsonAlphabet alphabet) {
  return text_of(value, indent, alphabet);
}

std::string json_string(const std::string& text, JsonAlphabet alphabet) {
  std::string json = json_text(Json(text), -1, alphabet);
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kLineEnds = {
      {{"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}}};
  for (const auto& [character, escape] : kLineEnds) {
    for (std::size_t at = 0; (at = json.find(character, at)) != std::string::npos; at += escape.size())
      json.replace(at, character.size(), escape);
  }
  return json;
}

}  // namespace depthlens::util
