// Writes tables as JSON.
#include "depthlens/tables/table_json.hpp"

#include <array>
#include <charconv>
#include <cmath>

#include "depthlens/util/json.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tables {
namespace {

std::string number_json(double number, JsonForm form) {
  if (form == JsonForm::kWhole) return util::json_text(util::Json(number));
  if (!std::isfinite(number)) return "null";
  std::array<char, 32> buffer;
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, std::chars_format::general, 6);
  return {buffer.data(), end.ptr};
}

std::string cell_json(const Cell& cell, JsonForm form) {
  if (const auto* integer = std::get_if<std::int64_t>(&cell)) return std::to_string(*integer);
  if (const auto* number = std::get_if<double>(&cell)) return number_json(*number, form);
  if (const auto* word = std::get_if<std::string>(&cell)) return util::json_text(util::Json(*word));
  return "null";
}

/// `Object` says in which order its keys stand.
template <typename Object>
std::string units_json(const Table& table) {
  Object units = Object::object();
  for (const Column& column : table.columns) {
    if (!column.unit.empty()) units[column.name] = column.unit;
  }
  return util::json_text(units);
}

}  // namespace

std::string to_json(const Table& table, JsonForm form) {
  const bool whole = form == JsonForm::kWhole;
  const std::string colon = whole ? "\": " : "\":", line = whole ? "\n " : "", row_line = whole ? "\n  " : "";
  util::Json columns = util::Json::array();
  for (const Column& column : table.columns) columns.push_back(column.name);
  std::string out = util::cat("{\"columns", colon, util::json_text(columns), ",", line, "\"units", colon,
                              whole ? units_json<util::OrderedJson>(table) : units_json<util::Json>(table),
                              ",", line, "\"rows", colon, "[");
  for (std::size_t r = 0; r < table.rows.size(); ++r) {
    out += util::cat(r > 0 ? "," : "", row_line, "[");
    for (std::size_t c = 0; c < table.rows[r].size(); ++c)
      out += (c > 0 ? "," : "") + cell_json(table.rows[r][c], form);
    out += "]";
  }
  return out + "]}";
}

}  // namespace depthlens::tables
