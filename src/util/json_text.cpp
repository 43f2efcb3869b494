// Numbers and strings of JSON.
#include "depthlens/util/json_text.hpp"

#include <array>
#include <charconv>
#include <cmath>

#include "depthlens/util/json.hpp"

namespace depthlens::util {

std::string json_number(float value) {
  if (!std::isfinite(value)) return "null";
  std::array<char, 24> buffer;
  const auto written = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), written.ptr};
}

std::string json_string(const std::string& text, JsonAlphabet alphabet) {
  return Json(text).dump(-1, ' ', alphabet == JsonAlphabet::kAscii, Json::error_handler_t::replace);
}

}  // namespace depthlens::util
