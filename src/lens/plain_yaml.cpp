// Reads nested mappings of values that stand in one line, and tells what it could not read.
#include "plain_yaml.hpp"

#include <charconv>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "stored_lens.hpp"

namespace depthlens::lens {
namespace {

using util::OrderedJson;

/// What no text without quotes begins with: it opens a collection, a tag, a comment, a text of several lines.
constexpr std::string_view kIndicators = "{}[],&*!|>%@`?\"'#";

std::string_view without_comment(std::string_view text) {
  for (std::size_t i = text.find('#'); i != std::string_view::npos; i = text.find('#', i + 1)) {
    if (i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t') return util::trimmed(text.substr(0, i));
  }
  return text;
}

/// The length of the text in quotes that `text` begins with; 0 where it begins with none, or with no end.
std::size_t length_of_quoted(std::string_view text) {
  if (text.empty() || (text[0] != '"' && text[0] != '\'')) return 0;
  for (std::size_t i = 1; i < text.size(); ++i) {
    const bool next_too = text[0] == '"' ? text[i] == '\\' : text.substr(i, 2) == "''";
    if (next_too) {
      ++i;
    } else if (text[i] == text[0]) {
      return i + 1;
    }
  }
  return 0;
}

/// A text with its quotes, without them.
std::optional<OrderedJson> unquoted(std::string_view text) {
  if (text[0] == '"') return json_of(text);
  std::string plain;
  for (std::size_t i = 1; i + 1 < text.size(); ++i) {
    plain += text[i];
    if (text[i] == '\'') ++i;  // of two
  }
  return plain;
}

/// Nothing where the value is in a form that is not read.
std::optional<OrderedJson> value_of(std::string_view text) {
  if (const std::size_t length = length_of_quoted(text); length > 0) {
    if (!without_comment(text.substr(length)).empty()) return std::nullopt;
    return unquoted(text.substr(0, length));
  }
  text = without_comment(text);
  if (text.starts_with('[') || text.starts_with('{')) return json_of(text);
  const std::string word = util::lower_case(text);
  if (word == "null" || word == "~" || word.empty()) return nullptr;
  if (word == "true" || word == "yes" || word == "on") return true;
  if (word == "false" || word == "no" || word == "off") return false;
  const bool structure = text.starts_with("- ") || text.starts_with(": ") || text == "-" ||
                         text.ends_with(':') || text.find(": ") != std::string_view::npos;
  if (structure || kIndicators.find(text[0]) != std::string_view::npos) return std::nullopt;
  std::int64_t integer = 0;
  if (util::parse_int(text, integer)) return integer;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && std::isfinite(number)) return number;
  return std::string(text);
}

struct Entry {
  std::string key;
  std::string_view value;  // as it is written
};

/// "key: value"; nothing where the line is none.
std::optional<Entry> entry_of(std::string_view line) {
  const std::size_t quoted = length_of_quoted(line);
  if (quoted == 0 && kIndicators.find(line[0]) != std::string_view::npos) return std::nullopt;
  std::size_t colon = line.find(':', quoted);
  const auto is_inside = [&] {
    return colon + 1 < line.size() && line[colon + 1] != ' ' && line[colon + 1] != '\t';
  };
  while (colon != std::string_view::npos && is_inside()) colon = line.find(':', colon + 1);
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  const std::string_view key = util::trimmed(line.substr(0, colon));
  if (key.size() != (quoted > 0 ? quoted : without_comment(key).size())) return std::nullopt;
  const std::optional<OrderedJson> text = quoted > 0 ? unquoted(key) : std::string(key);
  if (!text) return std::nullopt;
  return Entry{text->get<std::string>(), util::trimmed(line.substr(colon + 1))};
}

}  // namespace

PlainYaml parse_plain_yaml(std::string_view text) {
  constexpr std::size_t kDeepest = 8;
  const std::string valid = util::valid_utf8(text.substr(text.starts_with("\xef\xbb\xbf") ? 3 : 0));
  PlainYaml read;
  struct Level {
    std::size_t indent;  // of its keys
    std::vector<std::string> path;
  };
  std::vector<Level> levels = {{0, {}}};
  const auto at = [&](const std::vector<std::string>& path) -> OrderedJson& {
    OrderedJson* object = &read.fields;
    for (const std::string& key : path) object = &(*object)[key];
    return *object;
  };
  std::optional<std::string> last;  // the key of the line before, or of a list that goes on
  bool open = false;                // whether its value may follow
  // The indentation of a line that was not read. Deeper ones belong to it.
  std::optional<std::size_t> left_out;
  std::size_t number = 0;
  for (const std::string& line : util::split(valid, '\n')) {
    ++number;
    const std::string_view content = util::trimmed(line);
    if (content.empty() || content[0] == '#') continue;
    const std::size_t indent = line.find_first_not_of(' ');
    if (left_out && indent > *left_out) continue;
    left_out.reset();
    if (read.fields.empty() && without_comment(content) == "---") continue;
    if (read.fields.empty()) levels.front().indent = indent;
    while (levels.size() > 1 && indent < levels.back().indent) {
      levels.pop_back();
      last.reset();
    }
    const bool item = content == "-" || content.starts_with("- ");
    const bool text_line = line[indent] != '\t' && content.find('\0') == std::string_view::npos;
    if (text_line && item && last && open) {
      const std::optional<OrderedJson> value = value_of(util::trimmed(content.substr(1)));
      OrderedJson& list = at(levels.back().path)[*last];
      if (value && (list.is_null() || list.is_array())) {
        list.push_back(*value);
        continue;
      }
    }
    const std::optional<Entry> entry = text_line && !item ? entry_of(content) : std::nullopt;
    if (entry && last && open && indent > levels.back().indent && levels.size() < kDeepest &&
        at(levels.back().path)[*last].is_null()) {
      std::vector<std::string> path = levels.back().path;
      path.push_back(*last);
      at(path) = OrderedJson::object();
      levels.push_back({indent, std::move(path)});
      last.reset();
    }
    OrderedJson& object = at(levels.back().path);
    const std::optional<OrderedJson> value = entry ? value_of(entry->value) : std::nullopt;
    if (!value || indent != levels.back().indent || object.contains(entry->key)) {
      if (read.num_unread++ == 0)
        read.first_unread = util::cat("line ", number, ": ", util::in_quotes(content));
      left_out = indent;
      // What goes on in a form that is not read is not what its first line says.
      if (last && indent > levels.back().indent) object[*last] = nullptr;
      last.reset();
      continue;
    }
    object[entry->key] = *value;
    last = entry->key;
    open = without_comment(entry->value).empty();
  }
  return read;
}

}  // namespace depthlens::lens
