// How runs are cut into parts, sets of parts, shares.
#include "depthlens/run/plan.hpp"

#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "support/catch.hpp"
#include "support/check_error.hpp"

using namespace depthlens;
using run::PartSet;
using run::Place;
using run::Plan;
using run::Planner;

namespace {

/// A document of one window for each weight.
Plan plan_of(const std::vector<std::int64_t>& weights, run::PlanRule rule = {}) {
  Planner planner(rule);
  for (std::size_t i = 0; i < weights.size(); ++i)
    planner.add({.document = static_cast<std::int64_t>(i), .window = 0}, weights[i]);
  return std::move(planner).finish();
}

util::Json parsed(const util::OrderedJson& json) {
  return util::Json::parse(json.dump());
}

}  // namespace

TEST_CASE("plan: parts cover the units in order, and none is much smaller than the rule asks") {
  std::mt19937 random(3);
  for (const std::size_t units : {1U, 2U, 63U, 64U, 500U, 5000U}) {
    INFO(units);
    std::vector<std::int64_t> weights;
    for (std::size_t i = 0; i < units; ++i) weights.push_back(1 + random() % 600);
    const std::int64_t total = std::accumulate(weights.begin(), weights.end(), std::int64_t{0});
    const Plan plan = plan_of(weights);
    REQUIRE(plan.num_parts() >= 1);
    CHECK(plan.total_weight() == total);
    CHECK(plan.begin(0) == Place{0, 0});
    const std::int64_t enough = std::min<std::int64_t>(512, std::max<std::int64_t>(1, total / 64));
    std::int64_t before = 0;
    for (std::int64_t part = 0; part < plan.num_parts(); ++part) {
      CHECK(plan.weight_before(part) == before);
      before += plan.weight(part);
      if (part + 1 == plan.num_parts()) continue;
      CHECK(plan.begin(part).document < plan.begin(part + 1).document);
      CHECK(plan.weight(part) >= enough);
      CHECK(plan.weight(part) < enough + 600);
      std::int64_t sum = 0;
      for (auto i = plan.begin(part).document; i < plan.begin(part + 1).document; ++i)
        sum += weights[static_cast<std::size_t>(i)];
      CHECK(plan.weight(part) == sum);
    }
    CHECK(before == total);
  }
}

TEST_CASE("plan: however many units there are, it stays small") {
  Planner planner;
  constexpr std::int64_t kUnits = 1'000'000;
  for (std::int64_t i = 0; i < kUnits; ++i) planner.add({.document = i / 3, .window = i % 3}, 2000);
  const Plan plan = std::move(planner).finish();
  CHECK(plan.num_parts() <= 1 << 16);
  CHECK(plan.num_parts() > 1 << 15);
  CHECK(plan.total_weight() == 2000 * kUnits);
  for (std::int64_t part = 0; part + 1 < plan.num_parts(); ++part) {
    const std::int64_t unit = plan.begin(part).document * 3 + plan.begin(part).window;
    if (unit * 2000 != plan.weight_before(part)) FAIL("part " << part);
  }
}

TEST_CASE("shares: every part belongs to one, in order, with about equal work") {
  std::vector<std::int64_t> weights(400);
  std::mt19937 random(5);
  for (std::int64_t& weight : weights) weight = 100 + random() % 1000;
  const Plan plan = plan_of(weights);
  for (const std::int64_t count : {1, 2, 3, 7, 64, 1000}) {
    INFO(count);
    PartSet all;
    std::int64_t next = 0;
    for (std::int64_t index = 0; index < count; ++index) {
      const PartSet share = run::share(plan, index, count);
      CHECK_FALSE(all.overlaps(share));
      all.add(share);
      std::int64_t work = 0;
      for (const std::int64_t part : PartSet().missing(share)) {
        CHECK(part == next++);
        work += plan.weight(part);
      }
      const double fair = static_cast<double>(plan.total_weight()) / static_cast<double>(count);
      CHECK(std::abs(static_cast<double>(work) - fair) < 2100);
    }
    CHECK(all.size() == plan.num_parts());
  }
  CHECK(run::share(plan_of({5}), 0, 3).size() + run::share(plan_of({5}), 1, 3).size() +
            run::share(plan_of({5}), 2, 3).size() ==
        1);
}

TEST_CASE("sets of parts: as sets of numbers") {
  std::mt19937 random(8);
  for (int round = 0; round < 200; ++round) {
    PartSet set;
    std::set<std::int64_t> numbers;
    const auto add = [&] {
      const std::int64_t first = random() % 40, last = first + random() % 4;
      if (random() % 2 == 0) {
        set.add(PartSet(first, last));
        for (std::int64_t part = first; part <= last; ++part) numbers.insert(part);
      } else {
        set.add(first);
        numbers.insert(first);
      }
    };
    for (int i = 0; i < 12; ++i) {
      add();
      CHECK(set.size() == static_cast<std::int64_t>(numbers.size()));
      std::vector<std::int64_t> missing;
      for (std::int64_t part = 0; part < 50; ++part) {
        CHECK(set.contains(part) == (numbers.count(part) > 0));
        CHECK(set.overlaps(PartSet(part, part)) == (numbers.count(part) > 0));
        if (numbers.count(part) == 0) missing.push_back(part);
      }
      CHECK(set.missing(PartSet(0, 49)) == missing);
      const util::Json json = parsed(set.json());
      CHECK(PartSet::from_json({json, "x"}).json() == set.json());
    }
  }
}

TEST_CASE("sets of parts: what is none is refused") {
  for (const char* text : {"7", "[[1]]", "[[2, 1]]", "[[-1, 1]]", "[[0, 1], [1, 3]]", "[[0, 1], [2, 3]]",
                           "[[0, \"1\"]]", "{\"a\": 1}"}) {
    INFO(text);
    const util::Json json = util::Json::parse(text);
    test::check_error(util::ErrorCode::kFormat, {"expected"}, [&] { PartSet::from_json({json, "file"}); });
  }
}
