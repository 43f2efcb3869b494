// Ratios of bootstrapped sums, differences of them, and tables that hold them.
#include "depthlens/tables/estimates.hpp"

#include <cmath>
#include <variant>
#include <vector>

#include "support/catch.hpp"

using namespace depthlens;
using tables::BootstrapMeans, tables::BootstrapSums, tables::Estimate;

namespace {

/// Sums of item i: i, 1, and 2 where i is a multiple of 4.
BootstrapSums some_sums(std::uint64_t items, std::uint64_t seed) {
  BootstrapSums sums(3, seed);
  for (std::uint64_t i = 0; i < items; ++i) {
    const std::span<double> of = sums.of(i);
    of[0] += static_cast<double>(i);
    of[1] += 1;
    of[2] += i % 4 == 0 ? 2 : 0;
  }
  sums.commit();
  return sums;
}

/// The mean of 0, 1, 2 …
Estimate mean_of(std::uint64_t items, std::uint64_t seed) {
  BootstrapSums sums(2, seed);
  BootstrapMeans means(sums);
  for (std::uint64_t i = 0; i < items; ++i) {
    const auto value = static_cast<double>(i);
    means.add(i, {&value, 1});
  }
  sums.commit();
  return means.estimate(0);
}

}  // namespace

TEST_CASE("bootstrap sums: a ratio to the number of cases is a mean with its interval") {
  for (const std::uint64_t items : {2U, 15U, 16U, 17U, 100U}) {  // some more than wait at a time
    INFO(items);
    const BootstrapSums sums = some_sums(items, 9);
    const Estimate mean = mean_of(items, 9), ratio = sums.ratio(0, 1);
    CHECK(*ratio.value == *mean.value);
    CHECK(*ratio.interval.low == *mean.interval.low);
    CHECK(*ratio.interval.high == *mean.interval.high);
    CHECK(ratio.replicates.size() == 1000);
    CHECK(sums.sum(1) == static_cast<double>(items));
  }
}

TEST_CASE("bootstrap sums: asking in between, and ending parts, changes nothing") {
  BootstrapSums asked(1, 0), whole(1, 0);
  for (std::uint64_t i = 0; i < 40; ++i) {
    asked.of(i)[0] += 0.1 * static_cast<double>(i);
    whole.of(i)[0] += 0.1 * static_cast<double>(i);
    if (i % 7 == 0) asked.commit();
    CHECK(asked.sum(0) >= 0);
  }
  asked.commit();
  whole.commit();
  CHECK(asked.sum(0) == whole.sum(0));
}

TEST_CASE("bootstrap sums: a replicate in which nothing counts is left out of the interval") {
  BootstrapSums sums(2, 1);
  for (std::uint64_t i = 0; i < 3; ++i) {
    const std::span<double> of = sums.of(i);
    of[0] += i < 2 ? 5 : 0;
    of[1] += i < 2 ? 1 : 0;  // the last item has no case
  }
  sums.commit();
  const Estimate ratio = sums.ratio(0, 1);
  CHECK(*ratio.value == 5);
  CHECK(*ratio.interval.low == 5);
  CHECK(*ratio.interval.high == 5);
  std::size_t without = 0;
  for (const double replicate : ratio.replicates) without += std::isnan(replicate) ? 1 : 0;
  CHECK(without > 90);  // e^-2 of them are expected
  CHECK(without < 185);
  CHECK_FALSE(BootstrapSums(2, 1).ratio(0, 1).value.has_value());
}

TEST_CASE(
    "bootstrap sums: where one item only has a case there is no interval, however many items there are") {
  BootstrapSums sums(2, 1);
  for (const std::uint64_t i : {0U, 1U, 2U, 1U}) {
    const std::span<double> of = sums.of(i);
    of[0] += i == 1 ? 5 : 0;
    of[1] += i == 1 ? 1 : 0;  // in two parts
  }
  sums.commit();
  const Estimate ratio = sums.ratio(0, 1);
  CHECK(*ratio.value == 5);
  CHECK_FALSE(ratio.interval.low.has_value());
  CHECK(ratio.replicates.empty());
}

TEST_CASE("bootstrap: the difference of two estimates from the same items is paired") {
  // b is a plus 3 in every item: the items scatter, their difference does not.
  BootstrapSums a_sums(2, 4), b_sums(2, 4), other_sums(2, 5);
  BootstrapMeans a(a_sums), b(b_sums), others(other_sums);
  for (std::uint64_t i = 0; i < 50; ++i) {
    const double x = std::sin(static_cast<double>(i)) * 10, y = x + 3;
    a.add(i, {&x, 1});
    b.add(i, {&y, 1});
    others.add(i, {&y, 1});
  }
  for (BootstrapSums* sums : {&a_sums, &b_sums, &other_sums}) sums->commit();
  const Estimate paired = tables::difference(b.estimate(0), a.estimate(0));
  CHECK(*paired.value == Approx(3));
  CHECK(*paired.interval.low == Approx(3));
  CHECK(*paired.interval.high == Approx(3));
  const Estimate unpaired = tables::difference(others.estimate(0), a.estimate(0));
  CHECK(*unpaired.value == Approx(3));
  CHECK(*unpaired.interval.high - *unpaired.interval.low > 2);
  CHECK_FALSE(tables::difference(paired, Estimate{}).value.has_value());
}

TEST_CASE("table of estimates: the ends of intervals stand behind all columns, replicates by row") {
  tables::EstimateTable table("t", {{"name"}, {"mean", "nats", tables::kEstimated}, {"count", "items"}});
  const Estimate estimate = mean_of(40, 0);
  table.add({"a", estimate, std::int64_t{40}});
  table.add({"b", Estimate{}, std::int64_t{0}});
  const tables::Table made = std::move(table).finish();
  REQUIRE(made.columns.size() == 5);
  CHECK(made.columns[2].name == "count");
  CHECK(made.columns[3].name == "mean_low");
  CHECK(made.columns[3].unit == "nats");
  CHECK(made.columns[4].name == "mean_high");
  CHECK(std::get<double>(made.rows[0][1]) == 19.5);
  CHECK(std::get<double>(made.rows[0][3]) == *estimate.interval.low);
  CHECK(std::get<double>(made.rows[0][4]) == *estimate.interval.high);
  for (const std::size_t c : {1U, 3U, 4U}) CHECK(std::holds_alternative<std::monostate>(made.rows[1][c]));
  REQUIRE(made.replicates.size() == 2000);
  for (std::size_t r = 0; r < 1000; ++r) {
    CHECK(made.replicates[r] == static_cast<float>(estimate.replicates[r]));
    CHECK(std::isnan(made.replicates[1000 + r]));
  }
}

TEST_CASE("table of estimates: replicates that are too many are left out") {
  tables::EstimateTable table("t", {{"mean", "", tables::kEstimated}});
  for (int row = 0; row < 16778; ++row) table.add({Estimate{}});
  CHECK(std::move(table).finish().replicates.empty());  // 64 MiB hold 16,777 rows
}

TEST_CASE("estimate tables: rows added in any order stand by their places, each with its replicates") {
  const BootstrapSums sums = some_sums(5, 2);
  const auto table_of = [&](const std::vector<std::size_t>& places) {
    tables::EstimateTable table(
        "t", {{"key"}, {"mean", "", tables::kEstimated}, {"other", "", tables::kEstimated}});
    for (const std::size_t place : places)
      table.add_at(place, {tables::Cell(static_cast<std::int64_t>(place)), sums.ratio(place % 3, 2),
                           sums.ratio(0, 1 + place % 2)});
    return std::move(table).finish();
  };
  const tables::Table in_order = table_of({0, 1, 2, 3, 7});
  for (const std::vector<std::size_t>& places : {std::vector<std::size_t>{7, 3, 0, 2, 1}, {1, 0, 2, 3, 7}}) {
    const tables::Table table = table_of(places);
    CHECK(to_csv(table) == to_csv(in_order));
    REQUIRE(table.replicates.size() == in_order.replicates.size());
    bool same = true;
    for (std::size_t r = 0; r < table.replicates.size(); ++r) {
      const float a = table.replicates[r], b = in_order.replicates[r];
      same = same && (a == b || (std::isnan(a) && std::isnan(b)));
    }
    CHECK(same);
  }
  CHECK(in_order.replicates.size() == 5 * 2 * static_cast<std::size_t>(tables::kReplicates));
}
