// What tables are made from: sums that can be merged. Counts merge exactly; means to within rounding of a
// double.
#pragma once

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
/// the greatest value (8 bytes for each up to it), not with the number of values.
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
  std::vector<std::int64_t> counts_;  // by value
  std::int64_t total_ = 0;
};

/// A cell of a value that may not exist.
Cell cell(const std::optional<double>& value);

/// part / whole, or nothing where the whole is 0.
Cell share(std::int64_t part, std::int64_t whole);

}  // namespace depthlens::tables
