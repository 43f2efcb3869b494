// Mergeable sums.
#include "depthlens/tables/accumulators.hpp"

#include <cmath>

#include "depthlens/util/error.hpp"

namespace depthlens::tables {

void Mean::add_to_sum(double value) {
  const double next = sum_ + value;
  compensation_ += std::abs(sum_) >= std::abs(value) ? (sum_ - next) + value : (value - next) + sum_;
  sum_ = next;
}

void Mean::add(double value) {
  add_to_sum(value);
  ++count_;
}

void Mean::merge(const Mean& other) {
  add_to_sum(other.sum_);
  compensation_ += other.compensation_;
  count_ += other.count_;
}

std::optional<double> Mean::value() const {
  if (count_ == 0) return std::nullopt;
  return sum() / static_cast<double>(count_);
}

void Histogram::add(std::int64_t value, std::int64_t times) {
  DEPTHLENS_ASSERT(value >= 0);
  const auto index = static_cast<std::size_t>(value);
  if (index >= counts_.size()) counts_.resize(index + 1);
  counts_[index] += times;
  total_ += times;
}

void Histogram::merge(const Histogram& other) {
  for (std::size_t value = 0; value < other.counts_.size(); ++value) {
    if (other.counts_[value] > 0) add(static_cast<std::int64_t>(value), other.counts_[value]);
  }
}

std::int64_t Histogram::count(std::int64_t value) const {
  const auto index = static_cast<std::size_t>(value);
  return value >= 0 && index < counts_.size() ? counts_[index] : 0;
}

std::optional<double> Histogram::mean() const {
  if (total_ == 0) return std::nullopt;
  // Ranks below 2^20 occurring up to 2^43 times: the sum is exact in 64 bits.
  std::int64_t sum = 0;
  for (std::size_t value = 0; value < counts_.size(); ++value)
    sum += static_cast<std::int64_t>(value) * counts_[value];
  return static_cast<double>(sum) / static_cast<double>(total_);
}

std::optional<double> Histogram::median() const {
  if (total_ == 0) return std::nullopt;
  const std::int64_t lower = (total_ - 1) / 2, upper = total_ / 2;  // places, from 0, of the middle values
  std::int64_t seen = 0;
  std::optional<std::size_t> first;
  for (std::size_t value = 0; value < counts_.size(); ++value) {
    seen += counts_[value];
    if (!first && seen > lower) first = value;
    if (seen > upper) return static_cast<double>(*first + value) / 2;
  }
  return std::nullopt;
}

Cell cell(const std::optional<double>& value) {
  if (!value) return std::monostate();
  return *value;
}

Cell share(std::int64_t part, std::int64_t whole) {
  if (whole == 0) return std::monostate();
  return static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace depthlens::tables
