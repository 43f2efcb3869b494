// lens.bits_per_byte and lens.transfer from numbers written by hand.
#include "depthlens/experiments/evaluation.hpp"

#include <cmath>
#include <limits>

#include "depthlens/tables/bootstrap.hpp"
#include "support/catch.hpp"

namespace depthlens::experiments {
namespace {

using tables::Cell;

double number(const Cell& cell) {
  return std::get<double>(cell);
}

TEST_CASE("bits per byte: nats times tokens over bytes over ln 2") {
  CHECK(bits_per_byte_of_a_nat({.tokens = 10, .bytes = 40}) == Approx(0.25 / std::log(2)));
  tables::Table quality{.name = "lens.quality",
                        .columns = {{"lens"}, {"layer"}, {"positions"}, {"surprise", "nats", true}},
                        .rows = {{"logit", std::int64_t{0}, std::int64_t{7}, 9.0, 2.0, 3.0, 0.0, Cell()},
                                 {"tuned", std::int64_t{5}, std::int64_t{7}, 9.0, 0.5, 1.5, 4.0, 6.0}}};
  for (const char* name : {"kl_final", "kl_reverse", "entropy", "cross_entropy"})
    quality.columns.push_back({name, "nats", true});
  for (const char* name : {"kl_final", "kl_reverse", "entropy", "cross_entropy"}) {
    quality.columns.push_back({std::string(name) + "_low"});
    quality.columns.push_back({std::string(name) + "_high"});
    quality.rows[0].insert(quality.rows[0].end(), {1.0, Cell()});
    quality.rows[1].insert(quality.rows[1].end(), {4.0, 8.0});
  }
  constexpr std::size_t kCount = tables::kReplicates, kColumns = 5;
  quality.replicates.resize(2 * kColumns * kCount);
  for (std::size_t i = 0; i < quality.replicates.size(); ++i) quality.replicates[i] = static_cast<float>(i);
  quality.replicates[kCount] = std::numeric_limits<float>::quiet_NaN();  // of kl_final
  const tables::Table table = bits_per_byte_table(quality, {.tokens = 3, .bytes = 6});
  CHECK(table.name == "lens.bits_per_byte");
  std::vector<std::string> names;
  for (const auto& column : table.columns) names.push_back(column.name);
  CHECK(names == std::vector<std::string>{"lens", "layer", "kl_final", "kl_reverse", "entropy",
                                          "cross_entropy", "kl_final_low", "kl_final_high", "kl_reverse_low",
                                          "kl_reverse_high", "entropy_low", "entropy_high",
                                          "cross_entropy_low", "cross_entropy_high"});
  CHECK(number(table.rows[0][6]) == Approx(0.5 / std::log(2)));
  CHECK(std::holds_alternative<std::monostate>(table.rows[0][7]));
  CHECK(number(table.rows[1][13]) == Approx(8 * 0.5 / std::log(2)));
  CHECK(table.columns[2].unit == "bits per byte");
  REQUIRE(table.rows.size() == 2);
  CHECK(std::get<std::string>(table.rows[1][0]) == "tuned");
  CHECK(std::get<std::int64_t>(table.rows[1][1]) == 5);
  CHECK(number(table.rows[0][2]) == Approx(2 * 0.5 / std::log(2)));
  CHECK(number(table.rows[0][3]) == Approx(3 * 0.5 / std::log(2)));
  CHECK(number(table.rows[0][4]) == 0);
  CHECK(std::holds_alternative<std::monostate>(table.rows[0][5]));  // no position had a target
  CHECK(number(table.rows[1][5]) == Approx(6 * 0.5 / std::log(2)));

  REQUIRE(table.replicates.size() == 2 * 4 * kCount);
  CHECK(std::isnan(table.replicates[0]));
  for (std::size_t row = 0; row < 2; ++row) {
    for (std::size_t column = 0; column < 4; ++column) {
      CHECK(table.columns[2 + column].estimated);
      const std::size_t last = (row * 4 + column) * kCount + kCount - 1,
                        there = (row * kColumns + 1 + column) * kCount + kCount - 1;
      CHECK(table.replicates[last] == Approx(static_cast<double>(there) * 0.5 / std::log(2)));
    }
  }
}

/// Shows `listener` one position of a run with one lens of 3 layers, 0 to 2.
void show(decode::Listener& listener, const decode::ReadoutShape& shape, std::vector<float> kl,
          std::vector<decode::TokenId> top, decode::TokenId final_id) {
  decode::LayerReadout readout;
  readout.num_positions = 1;
  readout.num_watched = 2;
  readout.kl_final = std::move(kl);
  readout.top_ids = std::move(top);
  readout.watched_ids = {final_id, decode::kNoToken};
  decode::Query query;
  query.tokens = {0};
  query.positions = {{.position = 0, .target = decode::kNoToken, .watched = {}}};
  listener.accept(decode::PositionReadout(shape, readout, 0, query, query.positions[0]));
}

TEST_CASE("transfer joins its groups and leaves out the last layer") {
  tables::State state;
  const Context context{.state = &state, .buckets = {}};
  const decode::ReadoutShape shape{.lens_names = {"a"},
                                   .num_rows = 3,
                                   .top_k = 1,
                                   .num_groups = 0,
                                   .vocab_size = 10,
                                   .state_of = {0, 1, 2},
                                   .num_states = 3};
  const auto first = make_transfer_listener(context, {{.lens = "tuned", .translator = 0}});
  const auto second = make_transfer_listener(context, {{.lens = "tuned", .translator = 1}});
  first->begin(shape);
  second->begin(shape);  // and no position: interrupted at once
  show(*first, shape, {1, 2, 0}, {5, 7, 5}, 5);
  show(*first, shape, {3, 5, 0}, {4, 4, 4}, 4);
  state.commit();
  const auto evaluation = make_evaluation(
      context, {.size = {.tokens = 3, .bytes = 6}, .transfer = {{"tuned", 2}}, .num_layers = 2});
  evaluation->begin(shape);
  const std::vector<tables::Table> tables = evaluation->tables();
  CHECK(tables.front().name == "lens.quality");
  CHECK(tables[1].name == "lens.bits_per_byte");
  const tables::Table& table = tables.back();
  CHECK(table.name == "lens.transfer");
  REQUIRE(table.rows.size() == 4);
  const auto row = [&](std::size_t r, std::int64_t translator, std::int64_t layer, std::int64_t positions) {
    CHECK(std::get<std::string>(table.rows[r][0]) == "tuned");
    CHECK(std::get<std::int64_t>(table.rows[r][1]) == translator);
    CHECK(std::get<std::int64_t>(table.rows[r][2]) == layer);
    CHECK(std::get<std::int64_t>(table.rows[r][3]) == positions);
  };
  row(0, 0, 0, 2);
  row(1, 0, 1, 2);
  row(2, 1, 0, 0);
  row(3, 1, 1, 0);
  CHECK(number(table.rows[0][4]) == 2);
  CHECK(number(table.rows[1][4]) == 3.5);
  CHECK(number(table.rows[0][5]) == 1);
  CHECK(number(table.rows[1][5]) == 0.5);
  CHECK(std::holds_alternative<std::monostate>(table.rows[2][4]));
  CHECK(std::holds_alternative<std::monostate>(table.rows[2][5]));
}

}  // namespace
}  // namespace depthlens::experiments
