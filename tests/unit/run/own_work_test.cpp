// What a process is told to have before it: of shares, of runs that go on, of ranks.
#include "depthlens/run/own_work.hpp"

#include <cstdlib>
#include <numeric>
#include <vector>

#include "support/catch.hpp"

using namespace depthlens;
using run::own_share;
using run::PartSet;
using run::Plan;
using run::units_of_weight;

namespace {

/// Windows of 1 to 40 positions, whose weight is their number of positions, or twice that.
Plan made_plan(std::int64_t positions_of_weight) {
  run::Planner planner;
  for (std::int64_t i = 0; i < 3000; ++i)
    planner.add({.document = i, .window = 0}, (1 + i * 7 % 40) * positions_of_weight);
  return std::move(planner).finish();
}

PartSet all_of(const Plan& plan) {
  return {0, plan.num_parts() - 1};
}

std::int64_t weight_of(const Plan& plan, const std::vector<std::int64_t>& parts, std::int64_t num_ranks = 1) {
  return own_share(parts, num_ranks, [&](std::int64_t part) { return plan.weight(part); });
}

/// The total of a line of progress.
std::int64_t positions_of(const Plan& plan, const PartSet& done, const PartSet& share, std::int64_t num_ranks,
                          std::int64_t all) {
  return units_of_weight(plan, weight_of(plan, done.missing(share), num_ranks), all);
}

}  // namespace

TEST_CASE("own work: a whole run has all positions, also where their weight is another number") {
  for (const std::int64_t weight : {1, 2}) {
    const Plan plan = made_plan(weight);
    const std::int64_t all = plan.total_weight() / weight;
    CHECK(weight_of(plan, PartSet().missing(all_of(plan))) == plan.total_weight());
    CHECK(positions_of(plan, {}, all_of(plan), 1, all) == all);
  }
}

TEST_CASE("own work: the shares of a run have about its positions between them, each about as many") {
  const Plan plan = made_plan(1);
  const std::int64_t all = plan.total_weight();
  for (const std::int64_t count : {2, 3, 7}) {
    INFO(count);
    std::int64_t sum = 0;
    for (std::int64_t index = 0; index < count; ++index) {
      const std::int64_t own = positions_of(plan, {}, run::share(plan, index, count), 1, all);
      CHECK(std::abs(own - all / count) <= 2 * 512);  // a part more or less at either end
      sum += own;
    }
    CHECK(std::abs(sum - all) <= count);
  }
}

TEST_CASE("own work: a run that goes on has what is missing, and a share of it what its share misses") {
  const Plan plan = made_plan(1);
  const std::int64_t all = plan.total_weight();
  PartSet done(0, 4);
  done.add(PartSet(plan.num_parts() - 2, plan.num_parts() - 1));
  std::int64_t weight_done = 0;
  for (const std::int64_t part : {std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, std::int64_t{3},
                                  std::int64_t{4}, plan.num_parts() - 2, plan.num_parts() - 1})
    weight_done += plan.weight(part);
  CHECK(std::abs(positions_of(plan, done, all_of(plan), 1, all) - (all - weight_done)) <= 1);
  const PartSet first = run::share(plan, 0, 2), second = run::share(plan, 1, 2);
  const std::int64_t left =
      positions_of(plan, done, first, 1, all) + positions_of(plan, done, second, 1, all);
  CHECK(std::abs(left - (all - weight_done)) <= 2);
  CHECK(positions_of(plan, done, first, 1, all) < positions_of(plan, {}, first, 1, all));
  CHECK(positions_of(plan, all_of(plan), all_of(plan), 1, all) == 0);
}

TEST_CASE("own work: ranks share what is to do alike, a rank no more than its part of it") {
  const Plan plan = made_plan(1);
  const std::int64_t all = plan.total_weight();
  const PartSet done(3, 9);
  const std::int64_t alone = positions_of(plan, done, all_of(plan), 1, all);
  for (const std::int64_t ranks : {2, 3, 8}) {
    const std::int64_t own = positions_of(plan, done, all_of(plan), ranks, all);
    CHECK(std::abs(own * ranks - alone) <= ranks * 2);
  }
  // Pairs are counted, not weighed.
  CHECK(own_share({0, 1, 5}, 1, [](std::int64_t part) { return 10 + part; }) == 36);
  CHECK(own_share({0, 1, 5}, 5, [](std::int64_t part) { return 10 + part; }) == 7);
  CHECK(own_share({}, 4, [](std::int64_t) { return 1; }) == 0);
}

TEST_CASE("own work: nothing weighs nothing") {
  CHECK(units_of_weight(Plan(), 0, 0) == 0);
  CHECK(units_of_weight(Plan(), 0, 100) == 0);
}
