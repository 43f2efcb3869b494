// Mergeable sums.
#include "depthlens/tables/accumulators.hpp"

#include "depthlens/util/error.hpp"

namespace depthlens::tables {

void Histogram::add(std::int64_t value, std::int64_t times) {
  DEPTHLENS_ASSERT(value >= 0);
  const auto index = static_cast<std::size_t>(value);
  if (index / kPage >= page_of_.size()) page_of_.resize(index / kPage + 1, -1);
  std::int32_t& page = page_of_[index / kPage];
  if (page < 0) {
    page = static_cast<std::int32_t>(pages_.size());
    pages_.emplace_back();
  }
  pages_[static_cast<std::size_t>(page)][index % kPage] += times;
  total_ += times;
}

void Histogram::merge(const Histogram& other) {
  other.for_each([&](std::int64_t value, std::int64_t count) {
    add(value, count);
    return true;
  });
}

std::int64_t Histogram::count(std::int64_t value) const {
  const auto index = static_cast<std::size_t>(value);
  if (value < 0 || index / kPage >= page_of_.size() || page_of_[index / kPage] < 0) return 0;
  return pages_[static_cast<std::size_t>(page_of_[index / kPage])][index % kPage];
}

std::optional<double> Histogram::mean() const {
  if (total_ == 0) return std::nullopt;
  __extension__ __int128 sum = 0;  // exact for any counts
  for_each([&](std::int64_t value, std::int64_t count) {
    sum += static_cast<decltype(sum)>(value) * count;
    return true;
  });
  return static_cast<double>(sum) / static_cast<double>(total_);
}

std::optional<double> Histogram::median() const {
  if (total_ == 0) return std::nullopt;
  const std::int64_t lower = (total_ - 1) / 2, upper = total_ / 2;  // places, from 0, of the middle values
  std::int64_t seen = 0;
  std::optional<std::int64_t> first;
  std::optional<double> middle;
  for_each([&](std::int64_t value, std::int64_t count) {
    seen += count;
    if (!first && seen > lower) first = value;
    if (seen > upper) middle = static_cast<double>(*first + value) / 2;
    return !middle;
  });
  return middle;
}

Cell cell(const std::optional<double>& value) {
  if (!value) return std::monostate();
  return *value;
}

std::optional<double> share(std::int64_t part, std::int64_t whole) {
  if (whole == 0) return std::nullopt;
  return static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace depthlens::tables
