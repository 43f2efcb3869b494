// Tables and their CSV form.
#include "depthlens/tables/table.hpp"

#include <array>
#include <charconv>
#include <cmath>

#include "depthlens/util/csv.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::tables {

void Table::add(std::vector<Cell> row) {
  DEPTHLENS_ASSERT(row.size() == columns.size());
  rows.push_back(std::move(row));
}

std::string cell_text(const Cell& cell) {
  if (const auto* integer = std::get_if<std::int64_t>(&cell)) return std::to_string(*integer);
  if (const auto* word = std::get_if<std::string>(&cell)) return *word;
  if (const auto* number = std::get_if<double>(&cell); number != nullptr && std::isfinite(*number)) {
    std::array<char, 32> buffer;
    const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), *number);
    return {buffer.data(), end};
  }
  return "";
}

std::string to_csv(const Table& table) {
  std::string out;
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    out += (c > 0 ? "," : "") + util::csv_field(table.columns[c].name);
  }
  out += "\n";
  for (const auto& row : table.rows) {
    for (std::size_t c = 0; c < row.size(); ++c)
      out += (c > 0 ? "," : "") + util::csv_field(cell_text(row[c]));
    out += "\n";
  }
  return out;
}

}  // namespace depthlens::tables
