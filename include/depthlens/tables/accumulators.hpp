// What tables are made from: sums that can be merged. Counts merge exactly; means to within rounding of a
// double.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "depthlens/tables/table.hpp"

namespace depthlens::tables {

/// Mean of numbers, with Neumaier's compensated sum: the order of a million additions does not show.
class Mean {
 public:
  void add(double value);
  void merge(const Mean& other);
  std::int64_t count() const { return count_; }
  double sum() const { return sum_ + compensation_; }
  /// Nothing where nothing was added.
  std::optional<double> value() const;

 private:
  void add_to_sum(double value);
  double sum_ = 0;
  double compensation_ = 0;
  std::int64_t count_ = 0;
};

/// How often each small non-negative integer occurs, such as a rank; exact mean and median. Memory grows with
/// the number of different values (at most 256 bytes each) and, by a quarter of a byte for each up to it,
/// with the greatest.
class Histogram {
 public:
  void add(std::int64_t value, std::int64_t times = 1);
  void merge(const Histogram& other);
  std::int64_t count() const { return total_; }
  std::int64_t count(std::int64_t value) const;
  std::optional<double> mean() const;
  /// The middle value, or the mean of the two middle ones.
  std::optional<double> median() const;

 private:
  static constexpr std::size_t kPage = 32;
  using Page = std::array<std::int64_t, kPage>;

  /// Calls use(value, count) for every value that occurs, in rising order, until it returns false.
  template <typename Use>
  void for_each(const Use& use) const;

  std::vector<std::int32_t> page_of_;  // by value / kPage; −1 where none of its values occurs
  std::vector<Page> pages_;            // counts, in the order of first use
  std::int64_t total_ = 0;
};

/// A cell of a value that may not exist.
Cell cell(const std::optional<double>& value);

/// part / whole, or nothing where the whole is 0.
Cell share(std::int64_t part, std::int64_t whole);

}  // namespace depthlens::tables
