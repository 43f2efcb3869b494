// Histograms: exact, and the same whether merged or counted in one go.
#include "depthlens/tables/accumulators.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <vector>

#include "support/catch.hpp"

using namespace depthlens;
using tables::Cell;
using tables::Histogram;

namespace {

Histogram histogram_of(const std::vector<std::int64_t>& values) {
  Histogram histogram;
  for (const std::int64_t value : values) histogram.add(value);
  return histogram;
}

}  // namespace

TEST_CASE("histogram: nothing of nothing") {
  CHECK(Histogram().count() == 0);
  CHECK(Histogram().count(3) == 0);
  CHECK_FALSE(Histogram().mean().has_value());
  CHECK_FALSE(Histogram().median().has_value());
}

TEST_CASE("histogram: the median of an even number of values is the mean of the two middle ones") {
  CHECK(histogram_of({7}).median() == 7);
  CHECK(histogram_of({1, 4}).median() == 2.5);
  CHECK(histogram_of({4, 1}).median() == 2.5);
  CHECK(histogram_of({1, 1, 1, 100}).median() == 1);
  CHECK(histogram_of({1, 2, 100}).median() == 2);
  CHECK(histogram_of({1, 1, 3, 3}).median() == 2);
  CHECK(histogram_of({0, 0}).median() == 0);
  CHECK(histogram_of({0, 50256}).median() == 25128);
  CHECK(histogram_of({1, 1, 100}).mean() == 34);
}

TEST_CASE("histogram: mean, median and counts equal those of the sorted values") {
  std::mt19937_64 random(2);
  for (int size = 1; size <= 40; ++size) {
    std::vector<std::int64_t> values;
    for (int i = 0; i < size; ++i) values.push_back(static_cast<std::int64_t>(random() % 12));
    const Histogram histogram = histogram_of(values);
    std::sort(values.begin(), values.end());
    const auto n = values.size();
    const double median = static_cast<double>(values[(n - 1) / 2] + values[n / 2]) / 2;
    double sum = 0;
    for (const std::int64_t value : values) sum += static_cast<double>(value);
    CHECK(histogram.median() == median);
    CHECK(histogram.mean() == sum / static_cast<double>(n));
    for (std::int64_t value = -1; value < 14; ++value)
      CHECK(histogram.count(value) == std::count(values.begin(), values.end(), value));
  }
}

TEST_CASE("histogram: large counts are exact") {
  Histogram histogram;
  histogram.add(150'000, 3'000'000'000);
  histogram.add(1, 3'000'000'000);
  histogram.add(2);
  CHECK(histogram.count() == 6'000'000'001);
  CHECK(histogram.median() == 2);
  CHECK(histogram.mean() == 450'003'000'000'002.0 / 6'000'000'001.0);
}

TEST_CASE("histogram: merging equals adding one by one") {
  Histogram merged = histogram_of({3, 1, 4, 1, 5});
  merged.merge(histogram_of({9, 2, 6}));
  merged.merge(Histogram());
  const Histogram single = histogram_of({3, 1, 4, 1, 5, 9, 2, 6});
  CHECK(merged.count() == single.count());
  CHECK(merged.mean() == single.mean());
  CHECK(merged.median() == single.median());
  for (std::int64_t value = 0; value < 12; ++value) CHECK(merged.count(value) == single.count(value));
  Histogram empty;
  empty.merge(single);
  CHECK(empty.median() == single.median());
}

TEST_CASE("histogram: a negative value is a defect of the caller") {
  Histogram histogram;
  CHECK_THROWS_AS(histogram.add(-1), std::logic_error);
}

TEST_CASE("share and cell: nothing where there is no case") {
  CHECK(tables::share(1, 4) == 0.25);
  CHECK(tables::share(0, 4) == 0.0);
  CHECK(tables::share(0, 0) == std::nullopt);
  CHECK(tables::share(1, 3) == 1.0 / 3);
  CHECK(tables::cell(std::nullopt) == Cell());
  CHECK(tables::cell(0.0) == Cell(0.0));
}
