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
  void add(std::vector<Field> row) { add_at(places_.size(), std::move(row)); }
  /// Adds a row that stands before those of greater places. So estimates may be asked for object by object
  /// (see BootstrapSums::ratio), whatever the order of the rows. Each place once.
  void add_at(std::size_t place, std::vector<Field> row);

  Table finish() &&;

 private:
  Table table_;
  std::size_t num_given_, num_estimated_;
  std::vector<std::size_t> places_;  // of the rows
  bool keeps_replicates_ = true;
};

}  // namespace depthlens::tables
