// Numbers and strings of JSON.
#include "depthlens/util/json_text.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "depthlens/util/json.hpp"

namespace depthlens::util {

std::string json_number(float value) {
  if (!std::isfinite(value)) return "null";
  std::array<char, 24> buffer;
  const auto written = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), written.ptr};
}

std::string json_string(const std::string& text, JsonAlphabet alphabet) {
  std::string json =
      Json(text).dump(-1, ' ', alphabet == JsonAlphabet::kAscii, Json::error_handler_t::replace);
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kLineEnds = {
      {{"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}}};
  for (const auto& [character, escape] : kLineEnds) {
    for (std::size_t at = 0; (at = json.find(character, at)) != std::string::npos; at += escape.size())
      json.replace(at, character.size(), escape);
  }
  return json;
}

}  // namespace depthlens::util
