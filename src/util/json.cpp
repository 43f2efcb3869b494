// Typed access to JSON from files.
#include "depthlens/util/json.hpp"

#include <cmath>
#include <set>

#include "depthlens/util/error.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::util {
namespace {

constexpr int kDeepest = 512;

/// Builds the document through nlohmann's own SAX builder, and stops at what a tree could hide or blow up.
template <typename Document>
class StrictBuilder : public nlohmann::detail::json_sax_dom_parser<Document> {
  using Base = nlohmann::detail::json_sax_dom_parser<Document>;

 public:
  explicit StrictBuilder(Document& document) : Base(document, /*allow_exceptions=*/false) {}

  bool start_object(std::size_t size) {
    keys_.emplace_back();
    return deeper() && Base::start_object(size);
  }
  bool end_object() {
    keys_.pop_back();
    --depth_;
    return Base::end_object();
  }
  bool start_array(std::size_t size) { return deeper() && Base::start_array(size); }
  bool end_array() {
    --depth_;
    return Base::end_array();
  }
  bool key(std::string& name) {
    if (!keys_.back().insert(name).second) {
      problem = "the key " + in_quotes(name) + " twice in one object";
      return false;
    }
    return Base::key(name);
  }
  bool parse_error(std::size_t position, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& error) {
    std::string text = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error …": keep what a reader
    // needs.
    if (const std::size_t end = text.find("] "); end != std::string::npos) text.erase(0, end + 2);
    if (text.rfind("parse error at ", 0) == 0) text.erase(0, 15);
    problem = text;
    byte = position;
    return false;
  }

  std::string problem;
  std::size_t byte = 0;

 private:
  bool deeper() {
    if (++depth_ <= kDeepest) return true;
    problem = cat("nesting deeper than ", kDeepest);
    return false;
  }
  int depth_ = 0;
  std::vector<std::set<std::string>> keys_;
};

template <typename Document>
Document parse_strictly(std::string_view text, const std::string& where) {
  Document document;
  StrictBuilder<Document> builder(document);
  const bool parsed = Document::sax_parse(text.begin(), text.end(), &builder);
  if (!parsed || !builder.problem.empty()) {
    // A line of JSON lines: which line it is stands in `where`.
    if (builder.problem.rfind("line 1, ", 0) == 0 && text.find('\n') == std::string_view::npos)
      builder.problem.erase(0, 8);
    throw format_error({.what = "not valid JSON",
                        .where = where,
                        .found = valid_utf8(builder.problem.empty() ? "a syntax error" : builder.problem,
                                            InvalidBytes::kHex)});
  }
  return document;
}

std::string with_tagged_floats(std::string_view text) {
  std::string tagged;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size();) {
    std::string_view word;
    if (!in_string) {
      for (const std::string_view known : {"-Infinity", "Infinity", "NaN"}) {
        if (word.empty() && text.substr(i).starts_with(known)) word = known;
      }
    }
    if (!word.empty()) {
      tagged += cat("{\"__float__\": \"", word, "\"}");
      i += word.size();
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    const std::size_t length = in_string && text[i] == '\\' && i + 1 < text.size() ? 2 : 1;
    tagged += text.substr(i, length);
    i += length;
  }
  return tagged;
}

}  // namespace

Json parse_config(std::string_view text, const std::string& where) {
  return parse_strictly<Json>(with_tagged_floats(text), where);
}

OrderedJson parse_ordered_config(std::string_view text, const std::string& where) {
  return parse_strictly<OrderedJson>(with_tagged_floats(text), where);
}

Json parse_json(std::string_view text, const std::string& where) {
  return parse_strictly<Json>(text, where);
}

OrderedJson parse_ordered_json(std::string_view text, const std::string& where) {
  return parse_strictly<OrderedJson>(text, where);
}

std::string summary(const Json& value) {
  if (value.is_object() && value.size() == 1 && value.contains("__float__") && value["__float__"].is_string())
    return value["__float__"];  // of `parse_config`
  if (value.is_object()) return cat("an object of ", value.size(), " keys");
  if (value.is_array() && value.size() > 8) return cat("an array of ", value.size(), " values");
  std::string text = util::json_text(value);
  constexpr std::size_t kMaxLength = 80;
  if (text.size() > kMaxLength) text = std::string(cut_utf8(text, kMaxLength)) + "…";
  return text;
}

void JsonView::fail(const std::string& expected) const {
  throw format_error(
      {.what = "unexpected value", .where = where_, .expected = expected, .found = summary(*value_)});
}

bool JsonView::has(const std::string& key) const {
  if (!value_->is_object()) return false;
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

JsonView JsonView::at(const std::string& key) const {
  if (!value_->is_object()) fail("an object with the key '" + key + "'");
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) {
    const bool is_null = found != value_->end();
    throw format_error(
        {.what = is_null ? "the key '" + key + "' is null" : "missing key '" + key + "'", .where = where_});
  }
  return {*found, where_ + ": " + key};
}

JsonView JsonView::at(std::size_t index) const {
  if (!value_->is_array() || index >= value_->size()) fail(cat("an array with more than ", index, " values"));
  return {(*value_)[index], cat(where_, "[", index, "]")};
}

std::vector<std::string> JsonView::keys() const {
  if (!value_->is_object()) fail("an object");
  std::vector<std::string> names;
  for (const auto& item : value_->items()) names.push_back(item.key());
  return names;
}

std::size_t JsonView::size() const {
  return value_->size();
}

std::string JsonView::as_string() const {
  if (!value_->is_string()) fail("a string");
  return value_->get<std::string>();
}

bool JsonView::as_bool() const {
  if (!value_->is_boolean()) fail("true or false");
  return value_->get<bool>();
}

double JsonView::as_number() const {
  if (!value_->is_number()) fail("a number");
  const double number = value_->get<double>();
  if (!std::isfinite(number)) fail("a finite number");
  return number;
}

std::int64_t JsonView::as_integer(std::int64_t lowest, std::int64_t highest) const {
  const bool representable = value_->is_number_integer() &&
                             !(value_->is_number_unsigned() && value_->get<std::uint64_t>() > INT64_MAX);
  const std::int64_t number = representable ? value_->get<std::int64_t>() : 0;
  if (!representable || number < lowest || number > highest) {
    fail(cat("an integer from ", lowest, " to ", highest));
  }
  return number;
}

std::string JsonView::get_string(const std::string& key, const std::string& fallback) const {
  return has(key) ? at(key).as_string() : fallback;
}
bool JsonView::get_bool(const std::string& key, bool fallback) const {
  return has(key) ? at(key).as_bool() : fallback;
}
double JsonView::get_number(const std::string& key, double fallback) const {
  return has(key) ? at(key).as_number() : fallback;
}
std::int64_t JsonView::get_integer(const std::string& key, std::int64_t lowest, std::int64_t highest,
                                   std::int64_t fallback) const {
  return has(key) ? at(key).as_integer(lowest, highest) : fallback;
}

}  // namespace depthlens::util
