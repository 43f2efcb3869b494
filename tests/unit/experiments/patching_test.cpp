// patching.effect, from results written by hand.
#include "depthlens/experiments/patching.hpp"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"

using namespace depthlens;

namespace {

constexpr std::int64_t kRows = 2;  // L = 1

/// A pair whose tokens have these roles, and whose difference at (layer, position) is given; the clean
/// target's is −1, the clean source's `source`.
void add(experiments::PatchingEffect& effect, std::int64_t document, std::vector<data::TokenRole> roles,
         const std::vector<std::vector<double>>& differences, double source = 3) {
  decode::PatchingResult result{.source = {.top1 = 0, .log_probability_difference = source, .kl = 2},
                                .target = {.top1 = 0, .log_probability_difference = -1, .kl = 0},
                                .num_rows = kRows,
                                .length = static_cast<std::int64_t>(roles.size()),
                                .patched = {}};
  for (const auto& layer : differences) {
    for (const double difference : layer)
      result.patched.push_back({.top1 = 0, .log_probability_difference = difference, .kl = difference + 1});
  }
  effect.add({.id = "x", .document = document, .pair = {}, .roles = std::move(roles)}, result);
}

/// Column → value of the row of a layer and role.
std::map<std::string, tables::Cell> row(const tables::Table& table, std::int64_t layer,
                                        const std::string& role) {
  for (const auto& cells : table.rows) {
    if (cells[0] != tables::Cell(layer) || cells[1] != tables::Cell(role)) continue;
    std::map<std::string, tables::Cell> found;
    for (std::size_t c = 0; c < cells.size(); ++c) found[table.columns[c].name] = cells[c];
    return found;
  }
  FAIL("no row");
  return {};
}

double number(const tables::Cell& cell) {
  return std::get<double>(cell);
}

using enum data::TokenRole;

}  // namespace

TEST_CASE("patching: an item counts once for each of its roles, with their mean") {
  tables::State state;
  experiments::PatchingEffect effect(state, kRows, 0);
  add(effect, 0, {kBefore, kFirstDifferent, kMiddleDifferent, kMiddleDifferent, kLastDifferent, kLast},
      {{-1, 0, 1, 3, 2, -1}, {-1, -1, -1, -1, -1, 3}});
  add(effect, 1, {kBefore, kLastDifferent, kAfter, kAfter, kAfter, kLast},
      {{-1, 3, 1, 2, 3, -1}, {-1, -1, -1, -1, -1, 3}});
  state.commit();
  const tables::Table table = effect.table();
  CHECK(table.name == "patching.effect");
  CHECK(table.rows.size() == kRows * 5);
  for (const auto& cells : table.rows) CHECK(cells.size() == table.columns.size());

  auto found = row(table, 0, "middle_different");
  CHECK(std::get<std::int64_t>(found["count"]) == 1);
  CHECK(number(found["log_probability_difference"]) == Approx(2));
  CHECK(number(found["restored"]) == Approx(0.75));
  CHECK(number(found["kl"]) == Approx(3));
  CHECK(found["kl_low"] == tables::Cell());  // one item has no interval
  found = row(table, 0, "last_different");
  CHECK(std::get<std::int64_t>(found["count"]) == 2);
  CHECK(number(found["log_probability_difference"]) == Approx(2.5));
  CHECK(number(found["restored"]) == Approx((0.75 + 1) / 2));
  CHECK(number(found["restored_low"]) == Approx(0.75));
  CHECK(number(found["restored_high"]) == Approx(1));
  found = row(table, 0, "after");
  CHECK(std::get<std::int64_t>(found["count"]) == 1);
  CHECK(number(found["restored"]) == Approx(0.75));
  CHECK(number(row(table, 0, "last")["restored"]) == 0);
  CHECK(number(row(table, 1, "last")["restored"]) == 1);
  CHECK(number(row(table, 1, "after")["kl"]) == 0);
  // What the last layer shows: a patch there changes nothing, or everything.
  for (const char* role : {"last_different", "after"}) {
    auto last = row(table, 1, role);
    CHECK(number(last["clean_target"]) == Approx(number(last["log_probability_difference"])));
  }
  found = row(table, 1, "last");
  CHECK(number(found["clean_source"]) == Approx(number(found["log_probability_difference"])));
}

TEST_CASE("patching: where there is nothing to restore, restored does not exist") {
  tables::State state;
  experiments::PatchingEffect effect(state, kRows, 0);
  add(effect, 0, {kLastDifferent, kLast}, {{1, -1}, {-1, 3}});
  add(effect, 1, {kLastDifferent, kLast}, {{5, -1}, {-1, -1}}, -1);
  state.commit();
  auto found = row(effect.table(), 0, "last_different");
  CHECK(std::get<std::int64_t>(found["count"]) == 2);
  CHECK(std::get<std::int64_t>(found["restored_count"]) == 1);
  CHECK(number(found["log_probability_difference"]) == Approx(3));
  CHECK(number(found["restored"]) == Approx(0.5));
  CHECK(found["restored_low"] == tables::Cell());
}

TEST_CASE("patching: no item leaves every row, without values") {
  tables::State state;
  const tables::Table table = experiments::PatchingEffect(state, kRows, 0).table();
  CHECK(table.rows.size() == kRows * 5);
  for (const char* role : {"first_different", "middle_different", "last_different", "after", "last"}) {
    auto found = row(table, 1, role);
    CHECK(std::get<std::int64_t>(found["count"]) == 0);
    CHECK(found["restored"] == tables::Cell());
    CHECK(found["kl_high"] == tables::Cell());
  }
}
