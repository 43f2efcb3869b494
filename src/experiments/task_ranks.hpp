// Ranks of an answer by layer, over the items of a group: what pos and facts both table.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "depthlens/decode/readout.hpp"
#include "depthlens/tables/estimates.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {

/// Ranks up to which an answer counts as near the top, rising: of the tables, and of curves over the rank.
inline constexpr std::array<std::int64_t, 3> kRankThresholds = {1, 5, 10};
inline constexpr std::array<std::int64_t, 21> kRanksOfCurves = {
    1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 200, 300, 500, 700, 1000, 2000, 3000, 5000, 7000, 10000};

/// Rank statistics of one group of positions, for each lens and layer: a view of arrays of the state.
class RankCurves {
 public:
  RankCurves(const Context& context, const std::string& name, const decode::ReadoutShape& shape);
  void add(const decode::PositionReadout& position, std::int64_t w);

  std::int64_t count() const { return means_.count(); }
  tables::Estimate mean_rank(std::int64_t lens, std::int64_t row) const;
  tables::Cell median_rank(std::int64_t lens, std::int64_t row) const;
  tables::Estimate mean_reciprocal_rank(std::int64_t lens, std::int64_t row) const;
  tables::Estimate top1_rate(std::int64_t lens, std::int64_t row) const;

 private:
  std::size_t index(std::int64_t lens, std::int64_t row, std::size_t statistic) const;
  std::int64_t num_rows_ = 0;
  std::vector<double> values_;    // of one position: [N, R, 3]
  tables::BootstrapMeans means_;  // [N, R, 3]: rank, 1 / rank, rank is 1
  tables::Histograms* ranks_;     // [N, R]
};

/// The earliest layers of one group of positions, for each lens and threshold: a view likewise.
class EarliestLayers {
 public:
  /// `thresholds` rise, and must outlive it.
  EarliestLayers(const Context& context, const std::string& name, const decode::ReadoutShape& shape,
                 std::span<const std::int64_t> thresholds);
  void add(const decode::PositionReadout& position, std::int64_t w);

  /// Adds a row for each lens and threshold, with the lens before `key` and the threshold, count, mean_layer,
  /// median_layer and reached behind it. `count` counts all positions, the layers are over those that reach
  /// the threshold at some layer. Of each lens the table has `num_groups` such groups of rows; this is number
  /// `group` of them.
  void add_rows(tables::EstimateTable& table, const std::vector<std::string>& lens_names,
                const std::vector<tables::EstimateTable::Field>& key, std::size_t group,
                std::size_t num_groups) const;

 private:
  std::span<const std::int64_t> thresholds_;
  std::int64_t num_lenses_ = 0;
  tables::BootstrapSums* sums_;  // [N, thresholds, 2]: layers and how many; positions
  tables::Histograms* layers_;   // [N, thresholds]
};

/// The item that asked for a position.
const data::TaskItem& item_of(const Context& context, const decode::PositionReadout& position);
/// Which of its answer tokens the position predicts.
std::int64_t answer_index(const data::TaskItem& item, const decode::PositionReadout& position);

/// The option with the greatest probability at a layer, the first of equals; options are watched in order.
std::size_t leading_option(const data::TaskItem& item, const decode::PositionReadout& position,
                           std::int64_t lens, std::int64_t row);

}  // namespace depthlens::experiments
