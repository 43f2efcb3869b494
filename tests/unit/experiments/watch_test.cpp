// watch.*: ranks and log-probabilities of followed tokens, by brute force.
#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "depthlens/tables/bootstrap.hpp"
#include "helpers.hpp"
#include "support/means.hpp"

using namespace depthlens;
using namespace depthlens::test;
using decode::TokenId;
using experiments::Watch, experiments::WatchedToken;

namespace {

constexpr std::uint64_t kSeed = 3;

Watch some_watch() {
  return {.tokens = {{.id = 4, .name = "four"},
                     {.kind = WatchedToken::Kind::kTarget, .name = "#target"},
                     {.kind = WatchedToken::Kind::kDistractor, .name = "#distractor"}},
          .pairs = {{.first = 1, .second = 2, .name = "#target,#distractor"},
                    {.first = 0, .second = 1, .name = "four,#target"}}};
}

/// Positions of documents of 1 to 4, each watching a token of its own before those of `watch`; every third
/// has a distractor.
ReadoutBuilder some_positions(const Watch& watch, int documents) {
  ReadoutBuilder builder({"logit", "tuned"}, kRows, kVocabulary, 1);
  std::mt19937 random(11);
  int number = 0;
  for (int document = 0; document < documents; ++document) {
    const int positions = static_cast<int>(1 + random() % 4);
    for (int p = 0; p < positions; ++p, ++number) {
      const TokenId target =
          random() % 4 == 0 ? decode::kNoToken : static_cast<TokenId>(random() % kVocabulary);
      BuiltPosition& position = builder.add(1, target, some_logits(random), document, 0, p);
      decode::Query::Position where{.watched = {9}};
      watch.append_to(where, number % 3 == 0 ? TokenId{7} : decode::kNoToken);
      position.watched = where.watched;
    }
  }
  return builder;
}

TokenId token_of(const BuiltPosition& position, const std::string& name) {
  if (name == "four") return 4;
  return name == "#target" ? position.target : position.watched.back();
}

double logprob(const BuiltRow& row, TokenId id) {
  return std::log(row.probabilities[static_cast<std::size_t>(id)]);
}

double rank(const BuiltRow& row, TokenId id) {
  const double own = row.probabilities[static_cast<std::size_t>(id)];
  return 1 + static_cast<double>(std::count_if(row.probabilities.begin(), row.probabilities.end(),
                                               [&](double p) { return p > own; }));
}

/// The mean over the positions for which `value` is something, with its interval over documents.
struct Expected {
  std::int64_t count = 0;
  tables::Estimate estimate;
  double median = 0;
};
Expected expected(const ReadoutBuilder& builder, std::size_t n, std::size_t layer,
                  const std::function<std::optional<double>(const BuiltPosition&, const BuiltRow&)>& value) {
  Means means(1, kSeed);
  std::vector<double> values;
  for (const BuiltPosition& position : builder.positions()) {
    const std::optional<double> one = value(position, position.lenses[n][layer]);
    if (!one) continue;
    values.push_back(*one);
    means.add(static_cast<std::uint64_t>(position.document), {&*one, 1});
  }
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return {.count = means.count(),
          .estimate = means.estimate(0),
          .median = values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2};
}

void check(const TableReader& table, std::size_t row, const std::string& column, const Expected& expected) {
  INFO(column << " of row " << row);
  CHECK(table.integer(row, "count") == expected.count);
  CHECK(table.number(row, column) == Approx(*expected.estimate.value).epsilon(1e-5).margin(1e-6));
  CHECK(table.number(row, column + "_low") ==
        Approx(*expected.estimate.interval.low).epsilon(1e-5).margin(1e-6));
  CHECK(table.number(row, column + "_high") ==
        Approx(*expected.estimate.interval.high).epsilon(1e-5).margin(1e-6));
}

}  // namespace

TEST_CASE("watch.*: recomputed by brute force") {
  const Watch watch = some_watch();
  const ReadoutBuilder builder = some_positions(watch, 40);
  const experiments::Context context{.buckets = some_buckets(), .seed = kSeed, .watch = &watch};
  Trial trial("trajectory", context);
  trial.show(builder);
  const std::vector<tables::Table> tables = trial.last().tables();
  REQUIRE(tables.size() == 2);
  const TableReader ranks(tables[0]), differences(tables[1]);
  REQUIRE(ranks.num_rows() == 2 * kRows * 3);
  REQUIRE(differences.num_rows() == 2 * kRows * 2);
  for (std::size_t r = 0; r < ranks.num_rows(); ++r) {
    const std::size_t layer = r / 3 % kRows, n = r / 3 / kRows;
    const std::string name = watch.tokens[r % 3].name;
    CHECK(ranks.word(r, "token") == name);
    CHECK(ranks.word(r, "lens") == (n == 0 ? "logit" : "tuned"));
    CHECK(ranks.integer(r, "layer") == static_cast<std::int64_t>(layer));
    const auto of = [&](double (*value)(const BuiltRow&, TokenId)) {
      return expected(builder, n, layer,
                      [&](const BuiltPosition& position, const BuiltRow& row) -> std::optional<double> {
                        const TokenId id = token_of(position, name);
                        if (id == decode::kNoToken) return std::nullopt;
                        return value(row, id);
                      });
    };
    check(ranks, r, "mean_rank", of(rank));
    check(ranks, r, "mean_logprob", of(logprob));
    CHECK(ranks.number(r, "median_rank") == of(rank).median);
    if (name == "four") {
      CHECK(ranks.integer(r, "token_id") == 4);
    } else {
      CHECK(ranks.is_nothing(r, "token_id"));
    }
  }
  for (std::size_t r = 0; r < differences.num_rows(); ++r) {
    const std::size_t layer = r / 2 % kRows, n = r / 2 / kRows;
    const experiments::WatchedPair& pair = watch.pairs[r % 2];
    CHECK(differences.word(r, "pair") == pair.name);
    check(differences, r, "mean_difference",
          expected(builder, n, layer,
                   [&](const BuiltPosition& position, const BuiltRow& row) -> std::optional<double> {
                     const TokenId a = token_of(position, watch.tokens[pair.first].name),
                                   b = token_of(position, watch.tokens[pair.second].name);
                     if (a == decode::kNoToken || b == decode::kNoToken) return std::nullopt;
                     return logprob(row, a) - logprob(row, b);
                   }));
  }
}

TEST_CASE("watch.*: no pairs, no table of them; no positions, no means") {
  const Watch watch{.tokens = {{.id = 4, .name = "four"}}, .pairs = {}};
  const experiments::Context context{.buckets = some_buckets(), .watch = &watch};
  Trial trial("trajectory", context);
  trial.show(ReadoutBuilder({"logit"}, 3, kVocabulary, 1));
  const std::vector<tables::Table> tables = trial.last().tables();
  REQUIRE(tables.size() == 1);
  const TableReader ranks(tables[0]);
  REQUIRE(ranks.num_rows() == 3);
  CHECK(ranks.integer(0, "count") == 0);
  CHECK(ranks.is_nothing(0, "mean_rank"));
  CHECK(ranks.is_nothing(0, "median_rank"));
}
