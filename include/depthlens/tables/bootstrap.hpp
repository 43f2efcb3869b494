// Means with 95 % intervals, from one pass over the items.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "depthlens/tables/accumulators.hpp"

namespace depthlens::tables {

/// Several means over items, with bootstrap intervals. Every item gets a weight from Poisson(1) in each of
/// 1,000 replicates (the Poisson bootstrap: Hanley and MacGibbon 2006; Chamandy et al. 2012), which depends
/// on the seed and the item's number alone: the order of the items, and how they are dealt out to processes,
/// do not matter, and nothing grows with their number. An interval goes from the 2.5th to the 97.5th
/// percentile of the replicates' weighted means.
class BootstrapMeans {
 public:
  static constexpr std::int64_t kReplicates = 1000;

  BootstrapMeans() = default;
  BootstrapMeans(std::size_t num_means, std::uint64_t seed);

  /// Adds an item whose `cases` cases sum up to `sums`, one for each mean. An item may be added in parts.
  void add(std::uint64_t item, std::span<const double> sums, std::int64_t cases = 1);

  /// Cases that were added.
  std::int64_t count() const { return cases_; }
  /// Σ sums / Σ cases. Nothing where nothing was added.
  std::optional<double> mean(std::size_t i) const;

  struct Interval {
    std::optional<double> low, high;
  };
  /// Nothing where fewer than two items were added.
  Interval interval(std::size_t i) const;

 private:
  std::uint64_t seed_ = 0;
  std::int64_t cases_ = 0;
  std::uint64_t last_item_ = 0;
  bool several_items_ = false;
  std::vector<Mean> sums_;               // their count is not used
  std::vector<double> replicate_sums_;   // [kReplicates, number of means]
  std::vector<double> replicate_cases_;  // [kReplicates]
};

/// mean, low and high as cells.
std::vector<Cell> cells_with_interval(const BootstrapMeans& means, std::size_t i);

}  // namespace depthlens::tables
