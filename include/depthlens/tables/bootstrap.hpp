// Means and ratios with 95 % intervals, from one pass over the items.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "depthlens/tables/accumulators.hpp"

namespace depthlens::tables {

/// Replicates of a bootstrap, everywhere.
inline constexpr std::int64_t kReplicates = 1000;

/// From the 2.5th to the 97.5th percentile of replicates; NaN, a replicate without cases, is left out.
struct Interval {
  std::optional<double> low, high;
};
Interval percentile_interval(std::span<const double> replicates);

/// A value with its interval.
struct Estimate {
  std::optional<double> value;     ///< nothing where there is no case
  Interval interval;               ///< nothing where fewer than two items have a case
  std::vector<double> replicates;  ///< [kReplicates], NaN where one has no case; empty without an interval
};

/// a − b, replicate by replicate: paired where the items of both are the same.
Estimate difference(const Estimate& a, const Estimate& b);

/// Several sums over items, and ratios of them with bootstrap intervals. Every item gets a weight from
/// Poisson(1) in each replicate (the Poisson bootstrap: Hanley and MacGibbon 2006; Chamandy et al. 2012),
/// which depends on the seed and the item's number alone: the order of the items, and how they are dealt out
/// to processes, do not matter, nothing grows with their number, and estimates from several objects with one
/// seed are paired.
class BootstrapSums {
 public:
  BootstrapSums() = default;
  BootstrapSums(std::size_t num_sums, std::uint64_t seed);

  /// The sums of an item, zero at first, to add to; valid until the next call. An item may come again, also
  /// after others: its parts add up.
  std::span<double> of(std::uint64_t item);

  /// Nothing where there is none.
  double sum(std::size_t i) const;
  /// Σ sums i / Σ sums j.
  Estimate ratio(std::size_t i, std::size_t j) const;

 private:
  void apply() const;
  std::span<double> row(std::size_t pending) const {
    return {pending_.data() + pending * num_sums_, num_sums_};
  }

  std::size_t num_sums_ = 0;
  std::uint64_t seed_ = 0;
  // A few items wait, so that a pass over the replicates serves all of them.
  mutable std::vector<std::uint64_t> waiting_;  // items
  mutable std::vector<double> pending_;         // their sums: [items, number of sums]
  mutable std::vector<Mean> sums_;              // their count is not used
  mutable std::vector<std::uint64_t> first_;    // by sum: the first item that had something to add,
  mutable std::vector<std::uint8_t> items_;     // and how many had: none, one, or several (2)
  mutable std::vector<double> replicates_;      // [kReplicates, number of sums]
};

/// Means over cases, of which an item has one or several.
class BootstrapMeans {
 public:
  BootstrapMeans() = default;
  BootstrapMeans(std::size_t num_means, std::uint64_t seed)
      : num_means_(num_means), sums_(num_means + 1, seed) {}

  /// Adds an item whose `cases` cases sum up to `sums`, one for each mean. An item may be added in parts.
  void add(std::uint64_t item, std::span<const double> sums, std::int64_t cases = 1);

  /// Cases that were added.
  std::int64_t count() const {
    return num_means_ == 0 ? 0 : static_cast<std::int64_t>(sums_.sum(num_means_));
  }
  /// Σ sums / Σ cases.
  Estimate estimate(std::size_t i) const { return sums_.ratio(i, num_means_); }

 private:
  std::size_t num_means_ = 0;
  BootstrapSums sums_;  // the last one counts cases
};

}  // namespace depthlens::tables
