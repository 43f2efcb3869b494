// Reads nested mappings of scalars.
#include "plain_yaml.hpp"

#include <charconv>
#include <cmath>
#include <vector>

#include "depthlens/util/text.hpp"

namespace depthlens::lens {
namespace {

using util::OrderedJson;

std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      const char next = text[++i];
      plain += next == 'n' ? '\n' : next == 't' ? '\t' : next;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

/// Where the text in quotes that `text` begins with ends; npos where it does not.
std::size_t end_of_quoted(std::string_view text) {
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '\\' && text[0] == '"') {
      ++i;
    } else if (text[i] == text[0]) {
      return i;
    }
  }
  return std::string_view::npos;
}

OrderedJson scalar(std::string_view text) {
  if (!text.empty() && (text[0] == '"' || text[0] == '\'')) {
    const std::size_t end = end_of_quoted(text);
    if (end == std::string_view::npos) return nullptr;
    const std::string_view inside = text.substr(1, end - 1);
    return text[0] == '"' ? unescaped(inside) : std::string(inside);
  }
  if (const std::size_t comment = text.find(" #"); comment != std::string_view::npos)
    text = util::trimmed(text.substr(0, comment));
  if (text == "null" || text == "~" || text.empty()) return nullptr;
  if (text == "true" || text == "false") return text == "true";
  std::int64_t integer = 0;
  if (util::parse_int(text, integer)) return integer;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && std::isfinite(number)) return number;
  return std::string(text);
}

}  // namespace

OrderedJson parse_plain_yaml(std::string_view text) {
  constexpr std::size_t kDeepest = 8;
  const std::string valid = util::valid_utf8(text);
  OrderedJson root = OrderedJson::object();
  struct Level {
    std::size_t indent;  // of its keys
    std::vector<std::string> path;
  };
  std::vector<Level> levels = {{0, {}}};
  const auto at = [&](const std::vector<std::string>& path) -> OrderedJson& {
    OrderedJson* object = &root;
    for (const std::string& key : path) object = &(*object)[key];
    return *object;
  };
  std::optional<std::string> open;  // a key whose value may follow, deeper
  for (const std::string& line : util::split(valid, '\n')) {
    const std::string_view content = util::trimmed(line);
    if (content.empty() || content[0] == '#') continue;
    const std::size_t indent = line.find_first_not_of(' ');
    const std::size_t colon = content.find(':');
    const bool is_key = colon != std::string_view::npos && colon > 0 && content[0] != '-' &&
                        (colon + 1 == content.size() || content[colon + 1] == ' ');
    if (open && indent > levels.back().indent && is_key && levels.size() < kDeepest) {
      std::vector<std::string> path = levels.back().path;
      path.push_back(*open);
      at(path) = OrderedJson::object();
      levels.push_back({indent, std::move(path)});
    }
    open.reset();
    while (levels.size() > 1 && indent < levels.back().indent) levels.pop_back();
    if (!is_key || indent != levels.back().indent) continue;
    const std::string key(util::trimmed(content.substr(0, colon)));
    const std::string_view value = util::trimmed(content.substr(colon + 1));
    OrderedJson& object = at(levels.back().path);
    if (object.contains(key)) continue;
    object[key] = scalar(value);
    if (value.empty()) open = key;
  }
  return root;
}

}  // namespace depthlens::lens
