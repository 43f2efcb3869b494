// Ranks of an answer by layer, over the items of a group: what pos and facts both table.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "depthlens/decode/readout.hpp"
#include "depthlens/tables/estimates.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {

inline constexpr std::array<std::int64_t, 3> kRankThresholds = {1, 5, 10};

/// The first layer where watched token `w` has at most rank `threshold`.
std::optional<std::int64_t> first_layer_with_rank(const decode::PositionReadout& position, std::int64_t lens,
                                                  std::int64_t w, std::int64_t threshold);

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
  EarliestLayers(const Context& context, const std::string& name, const decode::ReadoutShape& shape);
  void add(const decode::PositionReadout& position, std::int64_t w);

  /// Puts count, mean_layer, median_layer, reached behind `key`. `count` counts all positions, the layers are
  /// over those that reach the threshold at some layer.
  void add_row(tables::EstimateTable& table, std::vector<tables::EstimateTable::Field> key, std::int64_t lens,
               std::size_t threshold) const;

 private:
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
