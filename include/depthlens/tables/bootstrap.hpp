// Means and ratios with 95 % intervals, from one pass over the items.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "depthlens/tables/exact_sums.hpp"

namespace depthlens::tables {

/// Replicates of a bootstrap, everywhere.
inline constexpr std::int64_t kReplicates = 1000;

/// Items whose sums are kept one by one, in an eighth of the memory of replicates.
inline constexpr std::size_t kKeptItems = 128;

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
/// which depends on the seed and the item's number alone, and all sums are exact (exact_sums.hpp): the order
/// of the items, and how they are dealt out to processes, do not show in a single bit; nothing grows with
/// their number; and estimates from several objects with one seed are paired.
///
/// Of up to kKeptItems items the sums of each are kept, of more those of all replicates: a table may have
/// thousands of groups with an item or two, and 1,000 replicates of each would take gigabytes.
///
/// What is added belongs to a part until `commit`; sums and ratios are over finished parts.
class BootstrapSums {
 public:
  BootstrapSums() = default;
  BootstrapSums(std::size_t num_sums, std::uint64_t seed);

  std::size_t size() const { return num_sums_; }
  std::uint64_t seed() const { return seed_; }

  /// The values of one more case of an item, zero at first, to be filled in; valid until the next call. Each
  /// is rounded to fixed point and added to the item's sums. An item may come again, also after others and in
  /// other parts: its cases add up.
  std::span<double> of(std::uint64_t item);

  void commit();
  void drop_pending();
  /// Adds another's finished parts; sizes and seeds must agree.
  void merge(const BootstrapSums& other);

  /// NaN where a value was not finite, or too large for fixed point.
  double sum(std::size_t i) const;
  std::int64_t count(std::size_t i) const { return static_cast<std::int64_t>(sum(i)); }  ///< of whole numbers
  /// Σ sums i / Σ sums j. Ask for those of one object before the next one's: where items are kept one by one,
  /// the replicates of all its sums are made anew after each other object.
  Estimate ratio(std::size_t i, std::size_t j) const;

 private:
  friend class State;
  /// Of one sum: fixed point in two's complement, so that what does not fit wraps around and nothing is
  /// undefined.
  struct Total {
    std::uint64_t whole = 0, fraction = 0;
    std::uint64_t first = 0;  // the lowest item that had something to add,
    std::uint8_t items = 0;   // and how many had: none, one, or several (2)
    bool broken = false;      // a value was not finite, or too large
    void merge(const Total& other);
    void note(std::uint64_t lowest, std::uint8_t count);  // items that had something
  };
  /// One word of eight sums that lie side by side: what a processor adds at once, and a line of its cache.
  struct alignas(64) Eight {
    std::array<std::uint64_t, 8> of;
  };

  struct Words {
    std::vector<Eight> whole, fraction;
  };
  /// Sums of items, [items, eights].
  struct Rows : Words {
    std::vector<std::uint64_t> items;
  };

  void take_case();
  void add(const Rows& rows);
  /// Adds rows, weighted, to replicates, [eights, kReplicates].
  void apply(const Rows& rows, Words& replicates) const;
  Words no_replicates() const;
  void set_kept(Rows rows);
  const Words& replicates() const;

  std::size_t num_sums_ = 0, eights_ = 0;
  std::uint64_t seed_ = 0;
  // The part in progress: a case being filled in, and the sums of the items so far.
  std::vector<double> case_;
  std::optional<std::uint64_t> case_item_;
  Rows pending_;
  std::vector<Total> pending_totals_;
  // Finished parts: rows of up to kKeptItems items, in their order, or replicates; neither where no item had
  // anything to add. Which of them depends on the items alone.
  std::vector<Total> totals_;
  Rows kept_;
  std::uint64_t kept_version_ = 0;  // no other rows of the process have it
  Words replicates_;
};

/// Means over cases: a view of sums of which the last one counts cases.
class BootstrapMeans {
 public:
  BootstrapMeans() = default;
  /// `sums` must outlive the view; they are one more than there are means.
  explicit BootstrapMeans(BootstrapSums& sums) : sums_(&sums) {}

  /// Adds a case of an item, one value for each mean; or `cases` cases whose values are summed up already.
  void add(std::uint64_t item, std::span<const double> values, std::int64_t cases = 1);

  /// Cases that were added.
  std::int64_t count() const { return sums_->count(sums_->size() - 1); }
  /// Σ values / Σ cases.
  Estimate estimate(std::size_t i) const { return sums_->ratio(i, sums_->size() - 1); }

 private:
  BootstrapSums* sums_ = nullptr;
};

}  // namespace depthlens::tables
