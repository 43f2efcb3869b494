// Means with bootstrap intervals: against a computation from the definition, and against theory.
#include "depthlens/tables/bootstrap.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <variant>
#include <vector>

#include "support/catch.hpp"

using namespace depthlens;
using tables::BootstrapMeans, tables::BootstrapSums, tables::Estimate;

namespace {

struct Item {
  std::uint64_t number;
  std::vector<double> sums;
  std::int64_t cases = 1;
};

/// Sums and a view of them as means.
struct Means {
  Means(std::size_t num_means, std::uint64_t seed) : sums(num_means + 1, seed) {}

  void add(const Item& item) { BootstrapMeans(sums).add(item.number, item.sums, item.cases); }
  std::int64_t count() const { return sums.count(sums.size() - 1); }
  Estimate estimate(std::size_t i) const { return sums.ratio(i, sums.size() - 1); }

  BootstrapSums sums;
};

Means means_of(const std::vector<Item>& items, std::uint64_t seed = 0) {
  Means means(items.empty() ? 1 : items.front().sums.size(), seed);
  for (const Item& item : items) means.add(item);
  means.sums.commit();
  return means;
}

std::vector<Item> some_items(std::size_t count, std::uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::vector<Item> items;
  for (std::size_t i = 0; i < count; ++i) {
    const auto cases = static_cast<std::int64_t>(1 + random() % 3);
    items.push_back({i, {static_cast<double>(random() % 1000) / 7, random() % 3 == 0 ? 1.0 : 0.0}, cases});
  }
  return items;
}

/// SplitMix64 as its authors publish it: the state grows by a constant, and is mixed.
std::uint64_t mixed(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}
constexpr std::uint64_t kGamma = 0x9E3779B97F4A7C15U;

/// The smallest k whose cumulated probability of Poisson(1), cut to 32 bits, lies above the fraction.
int poisson(std::uint32_t fraction) {
  double cumulated = 0, factorial = 1;
  for (int k = 0; k < 12; ++k) {
    if (k > 0) factorial *= k;
    cumulated += std::exp(-1.0) / factorial;
    if (static_cast<double>(fraction) < std::floor(std::min(cumulated, 1.0) * 4294967296.0)) return k;
  }
  return 12;
}

/// [1000] weights of an item: its own sequence, two 32-bit fractions of each number, the low half first.
std::vector<int> weights(std::uint64_t seed, std::uint64_t item) {
  std::uint64_t state = mixed(seed + kGamma) ^ item;
  state = mixed(state + kGamma);
  std::vector<int> all;
  while (all.size() < 1000) {
    state += kGamma;
    const std::uint64_t number = mixed(state);
    all.push_back(poisson(static_cast<std::uint32_t>(number)));
    all.push_back(poisson(static_cast<std::uint32_t>(number >> 32)));
  }
  return all;
}

/// By numpy's default rule, linear between the two neighbours.
double percentile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const double below = std::floor(at);
  const auto i = static_cast<std::size_t>(below);
  return i + 1 == values.size() ? values[i] : values[i] * (1 - (at - below)) + values[i + 1] * (at - below);
}

struct Expected {
  double low, high;
};
Expected interval_of(const std::vector<Item>& items, std::uint64_t seed, std::size_t mean) {
  std::vector<double> sums(1000), cases(1000), replicates;
  for (const Item& item : items) {
    const std::vector<int> drawn = weights(seed, item.number);
    for (std::size_t b = 0; b < 1000; ++b) {
      sums[b] += drawn[b] * item.sums[mean];
      cases[b] += static_cast<double>(drawn[b] * item.cases);
    }
  }
  for (std::size_t b = 0; b < 1000; ++b) {
    if (cases[b] > 0) replicates.push_back(sums[b] / cases[b]);
  }
  return {percentile(replicates, 0.025), percentile(replicates, 0.975)};
}

void check_equal(const Estimate& a, const Estimate& b) {
  CHECK(a.value == b.value);
  CHECK(a.interval.low == b.interval.low);
  CHECK(a.interval.high == b.interval.high);
  CHECK(std::equal(a.replicates.begin(), a.replicates.end(), b.replicates.begin(), b.replicates.end(),
                   [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); }));
}

/// To the last bit.
void check_equal(const Means& a, const Means& b, std::size_t num_means) {
  CHECK(a.count() == b.count());
  for (std::size_t i = 0; i < num_means; ++i) check_equal(a.estimate(i), b.estimate(i));
}

}  // namespace

TEST_CASE("bootstrap: means are exact") {
  for (int n = 1; n <= 200; ++n) {
    std::vector<Item> items;
    for (int i = 0; i < n; ++i) items.push_back({static_cast<std::uint64_t>(i), {i < 1 ? 1.0 : 0.0, 3.0}});
    const Means means = means_of(items);
    INFO(n);
    CHECK(means.count() == n);
    CHECK(*means.estimate(0).value == 1.0 / n);  // the nearest double
    CHECK(*means.estimate(1).value == 3);
  }
  // A mean over cases, not over items.
  CHECK(*means_of({{0, {10}, 4}, {1, {2}, 1}}).estimate(0).value == 2.4);
  // Large values do not swallow small ones.
  CHECK(*means_of({{0, {4e15}}, {1, {1}}, {2, {-4e15}}, {3, {1}}}).estimate(0).value == 0.5);
}

TEST_CASE("bootstrap: intervals are those of the definition") {
  for (const std::size_t count : {2U, 3U, 40U, 300U}) {
    for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{7}, ~std::uint64_t{0}}) {
      INFO(count << " items, seed " << seed);
      const std::vector<Item> items = some_items(count);
      const Means means = means_of(items, seed);
      for (const std::size_t i : {0U, 1U}) {
        const Expected expected = interval_of(items, seed, i);
        CHECK(*means.estimate(i).interval.low == Approx(expected.low).epsilon(1e-12));
        CHECK(*means.estimate(i).interval.high == Approx(expected.high).epsilon(1e-12));
      }
    }
  }
}

TEST_CASE("bootstrap: weights are those of Poisson(1), independent from item to item") {
  // Of 1,000 replicates of 400 items: 400,000 draws.
  std::vector<double> counts(13);
  double products = 0;
  std::vector<int> before = weights(3, 0);
  for (std::uint64_t item = 1; item <= 400; ++item) {
    const std::vector<int> drawn = weights(3, item);
    for (std::size_t b = 0; b < 1000; ++b) {
      ++counts[static_cast<std::size_t>(drawn[b])];
      products += (drawn[b] - 1.0) * (before[b] - 1.0);
    }
    before = drawn;
  }
  double probability = std::exp(-1.0);
  for (std::size_t k = 0; k < 6; ++k) {
    INFO(k);
    const double expected = 400'000 * probability;
    CHECK(counts[k] == Approx(expected).margin(5 * std::sqrt(expected)));
    probability /= static_cast<double>(k + 1);
  }
  CHECK(products == Approx(0).margin(5 * std::sqrt(400'000.0)));
}

TEST_CASE("bootstrap: of many items the interval is that of the normal approximation") {
  std::mt19937 random(5);
  std::normal_distribution<double> normal(3, 2);
  Means means(2, 11);
  constexpr int kItems = 4000;
  double sum = 0, squares = 0;
  for (std::uint64_t item = 0; item < kItems; ++item) {
    const double x = normal(random);
    sum += x;
    squares += x * x;
    means.add({item, {x, item % 5 == 0 ? 1.0 : 0.0}});
  }
  means.sums.commit();
  const double mean = sum / kItems, error = std::sqrt((squares / kItems - mean * mean) / kItems);
  const auto interval = means.estimate(0).interval;
  // The ends of an interval from 1,000 replicates scatter by about a tenth of the standard error.
  CHECK(*interval.low == Approx(mean - 1.96 * error).margin(0.4 * error));
  CHECK(*interval.high == Approx(mean + 1.96 * error).margin(0.4 * error));
  const double share_error = std::sqrt(0.2 * 0.8 / kItems);
  CHECK(*means.estimate(1).interval.low == Approx(0.2 - 1.96 * share_error).margin(0.4 * share_error));
  CHECK(*means.estimate(1).interval.high == Approx(0.2 + 1.96 * share_error).margin(0.4 * share_error));
}

TEST_CASE("bootstrap: the order of the items does not matter") {
  std::vector<Item> items = some_items(200);
  const Means forwards = means_of(items, 4);
  std::reverse(items.begin(), items.end());
  check_equal(means_of(items, 4), forwards, 2);
  std::shuffle(items.begin(), items.end(), std::mt19937(1));
  check_equal(means_of(items, 4), forwards, 2);
}

TEST_CASE("bootstrap: an item in parts is the item") {
  std::vector<Item> items = some_items(50), parts;
  for (Item& item : items) {
    item.cases = 3;
    item.sums[0] = std::floor(item.sums[0]) / 8;  // so that its parts are exact
    parts.push_back({item.number, {item.sums[0] * 0.25, 0}, 1});
    parts.push_back({item.number, {item.sums[0] * 0.75, item.sums[1]}, 2});
  }
  check_equal(means_of(parts), means_of(items), 2);
  std::shuffle(parts.begin(), parts.end(), std::mt19937(1));
  check_equal(means_of(parts), means_of(items), 2);
}

TEST_CASE("bootstrap: one item, in parts or not, gives no interval; none gives no mean") {
  const Means nothing = means_of({});
  CHECK(nothing.count() == 0);
  CHECK_FALSE(nothing.estimate(0).value.has_value());
  CHECK_FALSE(nothing.estimate(0).interval.low.has_value());
  const Means one = means_of({{9, {2}}, {9, {4}}});
  CHECK(one.count() == 2);
  CHECK(*one.estimate(0).value == 3);
  CHECK_FALSE(one.estimate(0).interval.low.has_value());
  CHECK_FALSE(one.estimate(0).interval.high.has_value());
  CHECK(means_of({{9, {2}}, {10, {4}}}).estimate(0).interval.low.has_value());
  CHECK(one.estimate(0).replicates.empty());
}

TEST_CASE("bootstrap: seeds differ, and equal seeds do not") {
  const std::vector<Item> items = some_items(100);
  CHECK(*means_of(items, 1).estimate(0).interval.low == *means_of(items, 1).estimate(0).interval.low);
  CHECK(*means_of(items, 1).estimate(0).interval.low != *means_of(items, 2).estimate(0).interval.low);
  CHECK(*means_of(items, 1).estimate(0).value == *means_of(items, 2).estimate(0).value);
  // Another seed is no other numbering of the items.
  CHECK(weights(1, 0) != weights(0, 1));
  CHECK(weights(2, 3) != weights(3, 2));
}

TEST_CASE("bootstrap: of equal values nothing scatters, however many") {
  Means means(1, 0);
  for (std::uint64_t item = 0; item < 30'000; ++item) means.add({item, {0.1}});
  means.sums.commit();
  CHECK(*means.estimate(0).value == 0.1);
  CHECK(*means.estimate(0).interval.low == 0.1);
  CHECK(*means.estimate(0).interval.high == 0.1);
}

TEST_CASE("bootstrap sums: what was added counts from the end of its part on") {
  BootstrapSums sums(2, 3);
  sums.of(0)[0] = 5;
  sums.of(0)[1] = 1;
  CHECK(sums.sum(0) == 0);
  CHECK_FALSE(sums.ratio(0, 1).value.has_value());
  sums.commit();
  CHECK(sums.sum(0) == 5);
  sums.of(1)[0] = 7;
  sums.of(2)[0] = std::nan("");
  sums.of(2)[1] = 1;
  sums.drop_pending();
  sums.commit();
  CHECK(sums.sum(0) == 5);
  CHECK(sums.count(1) == 1);
  CHECK_FALSE(sums.ratio(0, 1).interval.low.has_value());
  // What is filled in and not yet taken is dropped as well.
  const std::span<double> of = sums.of(3);
  of[0] = 100;
  sums.drop_pending();
  CHECK(sums.of(3)[0] == 0);
  sums.commit();
  CHECK(sums.sum(0) == 5);
}

TEST_CASE("bootstrap sums: items over many parts and objects add up to the last bit, whatever their values") {
  // More sums than fit side by side, items in several groups, values of both signs and all magnitudes.
  constexpr std::size_t kSums = 19, kItems = 300;
  std::mt19937_64 random(8);
  std::vector<std::pair<std::uint64_t, std::vector<double>>> cases;
  for (std::uint64_t item = 0; item < kItems; ++item) {
    for (std::uint64_t c = random() % 3; c < 3; ++c) {
      std::vector<double> values(kSums);
      for (double& value : values) {
        if (random() % 3 == 0) continue;
        value = std::ldexp(static_cast<double>(random() >> 11), static_cast<int>(random() % 60) - 73);
        if (random() % 2 == 0) value = -value;
      }
      values[kSums - 1] = 1;
      cases.push_back({item * 7, values});
    }
  }
  const auto add = [](BootstrapSums& sums, const auto& one) {
    const std::span<double> of = sums.of(one.first);
    std::copy(one.second.begin(), one.second.end(), of.begin());
  };
  BootstrapSums whole(kSums, 2);
  for (const auto& one : cases) add(whole, one);
  whole.commit();

  // From the definition, in 128 bits: a replicate is a whole number of 2^-64.
  __extension__ using Big = __int128;
  std::vector<std::vector<Big>> expected(kSums, std::vector<Big>(1000));
  for (const auto& [item, values] : cases) {
    const std::vector<int> drawn = weights(2, item);
    for (std::size_t i = 0; i < kSums; ++i) {
      const auto fixed = static_cast<Big>(std::nearbyint(static_cast<long double>(values[i]) * 0x1p64L));
      for (std::size_t r = 0; r < 1000; ++r) expected[i][r] += fixed * drawn[r];
    }
  }
  for (std::size_t i = 0; i < kSums - 1; ++i) {
    const Estimate estimate = whole.ratio(i, kSums - 1);
    for (std::size_t r = 0; r < 1000; ++r) {
      const double divisor = static_cast<double>(expected[kSums - 1][r]) * 0x1p-64;
      REQUIRE(estimate.replicates[r] == static_cast<double>(expected[i][r]) * 0x1p-64 / divisor);
    }
  }

  for (int round = 0; round < 4; ++round) {
    std::shuffle(cases.begin(), cases.end(), random);
    std::vector<BootstrapSums> parts(3, BootstrapSums(kSums, 2));
    for (const auto& one : cases) {
      BootstrapSums& part = parts[random() % 3];
      add(part, one);
      if (random() % 50 == 0) part.commit();
    }
    for (BootstrapSums& part : parts) part.commit();
    BootstrapSums merged(kSums, 2);
    for (const BootstrapSums& part : parts) merged.merge(part);
    for (std::size_t i = 0; i < kSums; ++i) {
      CHECK(merged.sum(i) == whole.sum(i));
      check_equal(merged.ratio(i, kSums - 1), whole.ratio(i, kSums - 1));
    }
  }
}

TEST_CASE("bootstrap sums: values that do not fit leave nothing of their sum, and the others as they are") {
  for (const double value : {std::nan(""), HUGE_VAL, -HUGE_VAL, 0x1p52, -1e300}) {
    BootstrapSums sums(3, 0), without(3, 0);
    for (std::uint64_t item = 0; item < 10; ++item) {
      for (BootstrapSums* each : {&sums, &without}) {
        const std::span<double> of = each->of(item);
        of[0] = static_cast<double>(item);
        of[1] = 1;
        of[2] = 1;
      }
    }
    sums.of(3)[1] = value;
    sums.commit();
    without.commit();
    CHECK(std::isnan(sums.sum(1)));
    CHECK_FALSE(sums.ratio(0, 1).value.has_value());
    CHECK_FALSE(sums.ratio(1, 2).value.has_value());
    CHECK(sums.ratio(1, 2).replicates.empty());
    check_equal(sums.ratio(0, 2), without.ratio(0, 2));
    without.merge(sums);
    CHECK(std::isnan(without.sum(1)));
  }
}

TEST_CASE("bootstrap sums: which items had something does not depend on how their cases are dealt out") {
  // One item whose cases cancel: it had something, and is one.
  BootstrapSums a(1, 0), b(1, 0), several(1, 0);
  a.of(4)[0] = 2;
  a.of(4)[0] = -1;
  a.commit();
  b.of(4)[0] = 2;
  b.commit();
  b.of(4)[0] = -1;
  b.commit();
  check_equal(a.ratio(0, 0), b.ratio(0, 0));
  CHECK(a.ratio(0, 0).replicates.empty());
  a.merge(b);
  CHECK(a.ratio(0, 0).replicates.empty());
  several.of(2)[0] = 1;
  several.commit();
  a.merge(several);
  CHECK(a.ratio(0, 0).replicates.size() == 1000);
}
