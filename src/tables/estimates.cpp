// Tables whose values have intervals.
#include "depthlens/tables/estimates.hpp"

#include <cmath>

#include "depthlens/tables/accumulators.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::tables {
namespace {

constexpr std::size_t kMaxReplicates = (std::size_t{64} << 20) / sizeof(float);

void append_replicates(std::vector<float>& all, const Estimate& estimate) {
  if (estimate.replicates.empty()) {
    all.insert(all.end(), static_cast<std::size_t>(kReplicates), std::nanf(""));
  }
  for (const double value : estimate.replicates) all.push_back(static_cast<float>(value));
}

}  // namespace

EstimateTable::EstimateTable(std::string name, std::vector<Column> columns)
    : table_{.name = std::move(name), .columns = columns, .rows = {}}, num_given_(columns.size()) {
  for (const Column& column : columns) {
    if (!column.estimated) continue;
    table_.columns.push_back({column.name + "_low", column.unit});
    table_.columns.push_back({column.name + "_high", column.unit});
  }
}

void EstimateTable::add(std::vector<Field> row) {
  DEPTHLENS_ASSERT(row.size() == num_given_);
  std::vector<Cell> cells, intervals;
  for (std::size_t c = 0; c < num_given_; ++c) {
    DEPTHLENS_ASSERT(std::holds_alternative<Estimate>(row[c]) == table_.columns[c].estimated);
    if (!table_.columns[c].estimated) {
      cells.push_back(std::move(std::get<Cell>(row[c])));
      continue;
    }
    const auto& estimate = std::get<Estimate>(row[c]);
    cells.push_back(cell(estimate.value));
    intervals.push_back(cell(estimate.interval.low));
    intervals.push_back(cell(estimate.interval.high));
    if (keeps_replicates_) append_replicates(table_.replicates, estimate);
  }
  if (table_.replicates.size() > kMaxReplicates) {
    keeps_replicates_ = false;
    table_.replicates = {};
  }
  cells.insert(cells.end(), intervals.begin(), intervals.end());
  table_.add(std::move(cells));
}

}  // namespace depthlens::tables
