// Typed access to JSON from files: every error names the file, the key path, what was expected and found.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace depthlens::util {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

/// Parses `text`. Throws a format error with `where` (a file, perhaps with a line) and the byte on a mistake,
/// on invalid UTF-8, on nesting deeper than 512, and on duplicate keys of an object.
Json parse_json(std::string_view text, const std::string& where);
/// The same with the keys of objects in the order of the document. No file is parsed by any other way: a tree
/// of unbounded depth ends in a crash when it is walked, printed or freed.
OrderedJson parse_ordered_json(std::string_view text, const std::string& where);
/// The same of a model's config.json, in which Python may have written Infinity, -Infinity or NaN, which JSON
/// has no words for: they are read as transformers 5 writes them, {"__float__": "Infinity"}.
Json parse_config(std::string_view text, const std::string& where);
OrderedJson parse_ordered_config(std::string_view text, const std::string& where);

/// A view of one JSON value that knows where it came from. Valid while the document lives.
class JsonView {
 public:
  JsonView(const Json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  const Json& raw() const { return *value_; }
  const std::string& where() const { return where_; }

  bool has(const std::string& key) const;     ///< an object with that key, and the value is not null
  JsonView at(const std::string& key) const;  ///< throws where it is absent or null
  JsonView at(std::size_t index) const;
  std::vector<std::string> keys() const;  ///< of an object, in order of the document's sorted keys
  std::size_t size() const;               ///< of an array or object

  bool is_object() const { return value_->is_object(); }
  bool is_array() const { return value_->is_array(); }
  bool is_string() const { return value_->is_string(); }
  bool is_integer() const { return value_->is_number_integer(); }
  bool is_number() const { return value_->is_number(); }
  bool is_null() const { return value_->is_null(); }

  std::string as_string() const;
  bool as_bool() const;
  double as_number() const;  ///< finite
  std::int64_t as_integer(std::int64_t lowest, std::int64_t highest) const;

  std::string get_string(const std::string& key, const std::string& fallback) const;
  bool get_bool(const std::string& key, bool fallback) const;
  double get_number(const std::string& key, double fallback) const;
  std::int64_t get_integer(const std::string& key, std::int64_t lowest, std::int64_t highest,
                           std::int64_t fallback) const;

  /// Throws the error "`where`: expected `expected`, found <this value>".
  [[noreturn]] void fail(const std::string& expected) const;

 private:
  const Json* value_;
  std::string where_;
};

/// The value as text for a message, cut to a readable length.
std::string summary(const Json& value);

}  // namespace depthlens::util
