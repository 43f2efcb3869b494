// What medians are made from, and cells of values that may not exist.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "depthlens/tables/table.hpp"

namespace depthlens::tables {

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

  /// Calls use(value, count) for every value that occurs, in rising order, until it returns false.
  template <typename Use>
  void for_each(const Use& use) const {
    for (std::size_t i = 0; i < page_of_.size(); ++i) {
      if (page_of_[i] < 0) continue;
      const Page& page = pages_[static_cast<std::size_t>(page_of_[i])];
      for (std::size_t j = 0; j < kPage; ++j) {
        if (page[j] != 0 && !use(static_cast<std::int64_t>(i * kPage + j), page[j])) return;
      }
    }
  }

 private:
  static constexpr std::size_t kPage = 32;
  using Page = std::array<std::int64_t, kPage>;

  std::vector<std::int32_t> page_of_;  // by value / kPage; −1 where none of its values occurs
  std::vector<Page> pages_;            // counts, in the order of first use
  std::int64_t total_ = 0;
};

/// A cell of a value that may not exist.
Cell cell(const std::optional<double>& value);

/// part / whole, or nothing where the whole is 0.
std::optional<double> share(std::int64_t part, std::int64_t whole);

}  // namespace depthlens::tables
