// Tables whose values have intervals.
#include "depthlens/tables/estimates.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

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
    : table_{.name = std::move(name), .columns = columns, .rows = {}},
      num_given_(columns.size()),
      num_estimated_(0) {
  for (const Column& column : columns) {
    if (!column.estimated) continue;
    ++num_estimated_;
    table_.columns.push_back({column.name + "_low", column.unit});
    table_.columns.push_back({column.name + "_high", column.unit});
  }
}

void EstimateTable::add_at(std::size_t place, std::vector<Field> row) {
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
  places_.push_back(place);
}

Table EstimateTable::finish() && {
  if (std::is_sorted(places_.begin(), places_.end())) return std::move(table_);
  std::vector<std::size_t> order(places_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return places_[a] < places_[b]; });
  std::vector<std::vector<Cell>> rows;
  std::vector<float> replicates;
  replicates.reserve(table_.replicates.size());
  const std::size_t of_row = keeps_replicates_ ? num_estimated_ * static_cast<std::size_t>(kReplicates) : 0;
  for (const std::size_t row : order) {
    rows.push_back(std::move(table_.rows[row]));
    const auto first = table_.replicates.begin() + static_cast<std::ptrdiff_t>(row * of_row);
    replicates.insert(replicates.end(), first, first + static_cast<std::ptrdiff_t>(of_row));
  }
  table_.rows = std::move(rows);
  table_.replicates = std::move(replicates);
  return std::move(table_);
}

}  // namespace depthlens::tables
