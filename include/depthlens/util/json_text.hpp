// Parts of JSON documents that are put together as text: nlohmann's numbers are not always the shortest, and
// a tree of hundreds of numbers costs more than making them.
#pragma once

#include <cstddef>
#include <string>

#include "depthlens/util/json.hpp"

namespace depthlens::util {

/// Shortest form that reads back as the same float; null where the number is not finite.
std::string json_number(float value);
/// The same, written at `to`, where kMaxJsonNumber bytes must be free; returns its end.
inline constexpr std::size_t kMaxJsonNumber = 24;
char* write_json_number(char* to, float value);

enum class JsonAlphabet { kUtf8, kAscii };

/// A document as text, in one line, or indented by `indent` where that is not below 0. What is not valid
/// UTF-8 in it, of a path for one, becomes U+FFFD. No document is written by any other way: nlohmann's own
/// throws.
std::string json_text(const Json& value, int indent = -1, JsonAlphabet alphabet = JsonAlphabet::kUtf8);
std::string json_text(const OrderedJson& value, int indent = -1, JsonAlphabet alphabet = JsonAlphabet::kUtf8);

/// `text` with its quotes, whatever its bytes are: invalid UTF-8 becomes U+FFFD. U+0085, U+2028 and U+2029
/// are escaped, at which some readers end a line of JSON lines; all else that ends one JSON escapes anyway.
/// `kAscii` escapes all other characters, so that the document can be shown on a terminal.
std::string json_string(const std::string& text, JsonAlphabet alphabet = JsonAlphabet::kUtf8);

}  // namespace depthlens::util
