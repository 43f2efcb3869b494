// Tables whose values have intervals.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "depthlens/tables/bootstrap.hpp"
#include "depthlens/tables/table.hpp"

namespace depthlens::tables {

/// Of a column: its values are estimates.
inline constexpr bool kEstimated = true;

/// Puts a table together. Each estimated column X gets X_low and X_high, the 95 % interval, behind all
/// columns that were given.
class EstimateTable {
 public:
  EstimateTable(std::string name, std::vector<Column> columns);

  /// For each column given: an estimate where it is estimated, a cell elsewhere.
  using Field = std::variant<Cell, Estimate>;
  void add(std::vector<Field> row);

  Table finish() && { return std::move(table_); }

 private:
  Table table_;
  std::size_t num_given_;
  bool keeps_replicates_ = true;
};

}  // namespace depthlens::tables
