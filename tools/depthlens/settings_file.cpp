// TOML by toml++; what its values mean for the flags.
#include "settings_file.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {
namespace {

/// What a flag takes, as it was declared to CLI11.
struct Takes {
  enum class Kind { kSwitch, kInteger, kNumber, kText };
  Kind kind;
  bool comma_list;  ///< several values, joined by commas
  bool repeatable;

  explicit Takes(const CLI::Option& option)
      : kind(option.get_items_expected_max() == 0            ? Kind::kSwitch
             : option.get_type_name().rfind("INT", 0) == 0   ? Kind::kInteger
             : option.get_type_name().rfind("FLOAT", 0) == 0 ? Kind::kNumber
                                                             : Kind::kText),
        comma_list(option.get_delimiter() == ','),
        repeatable(option.get_items_expected_max() > 1) {}

  /// One value of several.
  std::string element_in_words() const { return comma_list ? "a string or an integer" : "a string"; }

  std::string in_words() const {
    if (comma_list) return "a string or a list";
    if (repeatable) return "a string or a list of strings";
    switch (kind) {
      case Kind::kSwitch:
        return "true or false";
      case Kind::kInteger:
        return "an integer";
      case Kind::kNumber:
        return "a number";
      case Kind::kText:
        return "a string";
    }
    return "";
  }
};

std::string shortest(double value) {
  std::array<char, 32> digits;
  return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr};
}

std::string at_line(const std::string& path, std::size_t line) {
  return util::cat(path, " line ", line);
}

/// A value for a message.
std::string described(const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) return "the string " + util::in_quotes(*text);
  if (const auto number = node.value_exact<std::int64_t>()) return util::cat("the integer ", *number);
  if (const auto number = node.value_exact<double>()) return "the number " + shortest(*number);
  if (const auto truth = node.value_exact<bool>()) return *truth ? "true" : "false";
  if (node.is_array()) return "a list";
  if (node.is_table()) return "a table";
  return "a date or a time";
}

util::Error wrong_type(const std::string& where, const std::string& expected, const toml::node& node) {
  return util::usage_error(
      {.what = "a value of the wrong type", .where = where, .expected = expected, .found = described(node)});
}

/// One value as it would be given by hand.
std::optional<std::string> text_of(const toml::node& node, const Takes& takes) {
  const auto text = node.value_exact<std::string>();
  const auto integer = node.value_exact<std::int64_t>();
  const auto number = node.value_exact<double>();
  const auto truth = node.value_exact<bool>();
  switch (takes.kind) {
    case Takes::Kind::kSwitch:
      if (truth) return *truth ? "true" : "false";
      break;
    case Takes::Kind::kInteger:
      if (integer) return std::to_string(*integer);
      break;
    case Takes::Kind::kNumber:
      if (integer) return std::to_string(*integer);
      if (number) return shortest(*number);
      break;
    case Takes::Kind::kText:
      if (text) return *text;
      break;
  }
  return std::nullopt;
}

std::vector<std::string> values_of(const toml::node& node, const Takes& takes, const std::string& path,
                                   const std::string& key) {
  const auto at = [&](const toml::node& place) {
    return at_line(path, place.source().begin.line) + ": " + key;
  };
  const std::string where = at(node);
  const toml::array* list = node.as_array();
  if (list == nullptr || (!takes.comma_list && !takes.repeatable)) {
    const std::optional<std::string> text = text_of(node, takes);
    if (!text) throw wrong_type(where, takes.in_words(), node);
    return {*text};
  }
  if (list->empty()) {
    throw util::usage_error({.what = "an empty list", .where = where, .hint = "leave the key out"});
  }
  std::vector<std::string> values;
  for (const toml::node& element : *list) {
    const auto integer = element.value_exact<std::int64_t>();
    const std::optional<std::string> text =
        takes.comma_list && integer ? std::to_string(*integer) : text_of(element, takes);
    if (!text) throw wrong_type(at(element), takes.element_in_words(), element);
    values.push_back(*text);
    if (takes.comma_list && (values.back().empty() || values.back().find(',') != std::string::npos)) {
      throw util::usage_error({.what = "an element that cannot stand in this list",
                               .where = at(element),
                               .expected = "one value, without a comma",
                               .found = util::in_quotes(values.back())});
    }
  }
  if (takes.comma_list) return {util::join(values, ",")};
  return values;
}

std::string read_text(const std::string& path) {
  constexpr std::uint64_t kMaxSize = 1 << 20;
  std::string text = util::read_file(path, kMaxSize);
  std::size_t bad = 0;
  if (!util::is_valid_utf8(text, &bad)) {
    const auto end = text.begin() + static_cast<std::ptrdiff_t>(bad);
    const auto line = static_cast<std::size_t>(std::count(text.begin(), end, '\n')) + 1;
    throw util::usage_error({.what = "the settings are not UTF-8",
                             .where = at_line(path, line),
                             .found = util::hex_escape(static_cast<unsigned char>(text[bad]))});
  }
  return text;
}

toml::table parsed(const std::string& text, const std::string& path) {
  try {
    return toml::parse(std::string_view(text));
  } catch (const toml::parse_error& error) {
    const std::size_t line = error.source().begin.line;
    const std::vector<std::string> lines = util::split(text, '\n');
    throw util::usage_error(
        {.what = util::cat("not valid TOML: ", error.description()),
         .where = util::cat(at_line(path, line), ", column ", error.source().begin.column),
         .found = line >= 1 && line <= lines.size() ? util::in_quotes(util::trimmed(lines[line - 1]))
                                                    : "the end of the file"});
  }
}

}  // namespace

std::vector<Setting> read_settings(const std::string& path, const std::vector<CLI::Option*>& options) {
  const toml::table table = parsed(read_text(path), path);
  struct Entry {
    std::size_t line;
    std::string key;
    const toml::node* node;
  };
  std::vector<Entry> entries;
  for (const auto& [key, node] : table)
    entries.push_back({key.source().begin.line, std::string(key.str()), &node});
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.line, a.key) < std::pair(b.line, b.key);
  });

  std::vector<std::string> names;
  for (const CLI::Option* option : options) {
    for (const std::string& name : option->get_lnames()) {
      if (name != "help" && name != "config") names.push_back(name);
    }
  }
  std::vector<Setting> settings;
  for (const auto& [line, key, node] : entries) {
    const std::string where = at_line(path, line) + ": " + key;
    const bool section = node->is_table() || (node->is_array() && node->as_array()->is_array_of_tables());
    if (section) {
      throw util::usage_error(
          {.what = "a section or dotted key",
           .where = where,
           .expected = "keys that are long flag names, without sections",
           .hint = "a file holds the settings of one command, none of them below a name"});
    }
    if (std::find(names.begin(), names.end(), key) == names.end()) {
      throw util::usage_error({.what = "unknown key " + util::in_quotes(key),
                               .where = where,
                               .expected = "long flag names of the command, except help and config",
                               .hint = util::did_you_mean(key, names)});
    }
    CLI::Option* option =
        *std::find_if(options.begin(), options.end(),
                      [&, &key = key](const CLI::Option* o) { return o->check_lname(key); });
    settings.push_back({option, values_of(*node, Takes(*option), path, key), where});
  }
  return settings;
}

}  // namespace depthlens::tool
