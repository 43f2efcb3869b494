// The registry: which experiments there are, how they are asked for, and which tables they promise.
#include <memory>
#include <string>
#include <vector>

#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;
using experiments::make_experiments;
using experiments::parse_experiment_names;
using Names = std::vector<std::string>;

namespace {

Names tables_made(const std::string& experiments) {
  const ReadoutBuilder builder = some_readouts(2);
  Names names;
  for (const auto& experiment : make_experiments(experiments, {.buckets = some_buckets()})) {
    builder.show(*experiment);
    for (const tables::Table& table : experiment->tables()) names.push_back(table.name);
  }
  return names;
}

}  // namespace

TEST_CASE("registry: the names of the contract") {
  CHECK(experiments::experiment_names() == Names{"trajectory", "frequency", "flips", "settling"});
}

TEST_CASE("registry: names are read with spaces, in the order given, each once") {
  CHECK(parse_experiment_names("flips") == Names{"flips"});
  CHECK(parse_experiment_names(" settling , flips,settling") == Names{"settling", "flips"});
}

TEST_CASE("registry: an unknown name is wrong usage, and the nearest one is named") {
  check_error(util::ErrorCode::kUsage,
              {"unknown experiment 'trajectroy'", "--experiment", "did you mean 'trajectory'?", "settling"},
              [] { parse_experiment_names("flips,trajectroy"); });
  check_error(util::ErrorCode::kUsage, {"unknown experiment 'Flips'", "did you mean 'flips'?"},
              [] { parse_experiment_names("Flips"); });
  for (const char* text : {"", ",", "flips,", "flips settling"})
    check_error(util::ErrorCode::kUsage, {"unknown experiment"}, [&] { parse_experiment_names(text); });
  check_error(util::ErrorCode::kUsage, {"'fllips'"},
              [] { make_experiments("fllips", {.buckets = some_buckets()}); });
  try {
    parse_experiment_names("astrology");
    FAIL("no error");
  } catch (const util::Error& error) {
    CHECK(error.hint().empty());  // nothing is near enough
  }
}

TEST_CASE("registry: lens.quality always comes first, the others in the registry's order") {
  const Names quality = {"lens.quality"}, flips = {"lens.quality", "flips.by_bucket", "flips.changes"};
  CHECK(tables_made("trajectory") == quality);
  CHECK(tables_made("flips") == flips);
  CHECK(tables_made("flips,flips,trajectory") == flips);
  CHECK(tables_made("settling,flips,frequency,trajectory") ==
        Names{"lens.quality", "frequency.corpus", "frequency.top1_share", "frequency.mean_probability",
              "flips.by_bucket", "flips.changes", "settling.depth", "settling.first_hit"});
}

TEST_CASE("registry: the columns of every table are those of the contract, more only behind them") {
  const std::vector<std::pair<std::string, Names>> contract = {
      {"lens.quality",
       {"lens", "layer", "positions", "kl_final", "kl_reverse", "entropy", "cross_entropy", "top1_agreement",
        "top1_accuracy", "final_rank_mean", "final_rank_median"}},
      {"frequency.corpus", {"bucket", "count", "share"}},
      {"frequency.top1_share", {"lens", "layer", "bucket", "count", "share"}},
      {"frequency.mean_probability", {"lens", "layer", "bucket", "probability"}},
      {"flips.by_bucket", {"lens", "layer", "bucket", "count", "flipped", "flip_rate"}},
      {"flips.changes", {"lens", "layer", "changed", "share"}},
      {"settling.depth", {"lens", "layer", "count", "share"}},
      {"settling.first_hit", {"lens", "threshold", "layer", "count", "share"}},
  };
  const ReadoutBuilder builder = some_readouts(3);
  std::size_t next = 0;
  for (const auto& experiment :
       make_experiments("trajectory,frequency,flips,settling", {.buckets = some_buckets()})) {
    builder.show(*experiment);
    for (const tables::Table& table : experiment->tables()) {
      REQUIRE(next < contract.size());
      const auto& [name, columns] = contract[next++];
      CHECK(table.name == name);
      REQUIRE(table.columns.size() >= columns.size());
      for (std::size_t c = 0; c < columns.size(); ++c) CHECK(table.columns[c].name == columns[c]);
      for (const auto& row : table.rows) CHECK(row.size() == table.columns.size());
    }
  }
  CHECK(next == contract.size());
}

TEST_CASE("registry: only frequency needs groups, and they are the buckets") {
  for (const auto& experiment :
       make_experiments("trajectory,frequency,flips,settling", {.buckets = some_buckets()})) {
    const decode::Needs needs = experiment->needs();
    CHECK(needs.top_k >= 1);
    if (needs.num_groups == 0) continue;
    CHECK(needs.num_groups == 4);
    CHECK(needs.token_groups == some_buckets().bucket_of);
  }
  CHECK(make_experiments("frequency", {.buckets = some_buckets()}).back()->needs().num_groups == 4);
}

TEST_CASE("experiments: readouts in several chunks give the same tables as in one") {
  const ReadoutBuilder whole = some_readouts(40, 7);
  for (const char* name : {"trajectory", "frequency", "flips", "settling"}) {
    const auto once = make_experiments(name, {.buckets = some_buckets()});
    const auto again = make_experiments(name, {.buckets = some_buckets()});
    whole.show(*once.back());
    again.back()->begin(whole.shape());
    std::size_t next = 0;
    for (const int size : {1, 15, 24}) {
      ReadoutBuilder chunk({"logit", "tuned"}, kRows, kVocabulary, 3, some_buckets().bucket_of, 4);
      for (int p = 0; p < size; ++p) chunk.add(whole.positions()[next++]);
      chunk.show(*again.back(), false);
    }
    again.back()->end();
    const auto expected = once.back()->tables(), found = again.back()->tables();
    REQUIRE(expected.size() == found.size());
    for (std::size_t t = 0; t < expected.size(); ++t) CHECK((expected[t].rows == found[t].rows));
  }
}
