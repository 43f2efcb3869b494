// A tidy table: named columns with units, rows of numbers and words.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace depthlens::tables {

/// Nothing (a value that does not exist, such as a rate of no cases), an integer, a number or a word.
using Cell = std::variant<std::monostate, std::int64_t, double, std::string>;

struct Column {
  std::string name;
  std::string unit = {};   ///< "nats", "tokens", "layer", …; "" for a plain label or number
  bool estimated = false;  ///< of `EstimateTable`: a value with an interval
};

struct Table {
  std::string name;
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
  /// [rows, columns that are `estimated`, kReplicates] of the bootstrap, NaN where there is none; empty: no
  /// column is estimated, or they would be too many.
  std::vector<float> replicates = {};

  /// Adds a row. The number of cells must be that of the columns.
  void add(std::vector<Cell> row);
};

/// The cell as text: shortest form that reads back as the same double; "" for nothing and for a
/// number that is not finite, as in JSON.
std::string cell_text(const Cell& cell);
std::string to_csv(const Table& table);

}  // namespace depthlens::tables
