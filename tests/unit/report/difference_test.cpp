// Differences of two runs: from folders that are written as the program does it.
#include "depthlens/report/difference.hpp"

#include <cmath>
#include <fstream>
#include <functional>

#include "depthlens/report/run_folder.hpp"
#include "depthlens/tables/estimates.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/means.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using report::RunDifference;
using tables::EstimateTable, tables::Table;

namespace {

/// One document each: `value(i)` of document i.
tables::Estimate mean_of(std::uint64_t documents, const std::function<double(double)>& value) {
  test::Means means(1, 0);
  for (std::uint64_t i = 0; i < documents; ++i) {
    const double one = value(static_cast<double>(i));
    means.add(i, {&one, 1});
  }
  return means.estimate(0);
}

struct Run {
  std::vector<std::string> lenses = {"logit"};
  util::OrderedJson settings = {{"positions", "all"}, {"limit", 0}, {"seed", 0}, {"token_counts", "input"}};
  util::OrderedJson sha256 = "a";
  std::int64_t documents = 30, bytes = 900;
  util::OrderedJson shard = {};           // null: no key
  util::OrderedJson status = "complete";  // null: no key
  std::int64_t layers = 2;                // up to which the tables go
  std::int64_t depth = 3;                 // of the model
  std::function<double(double)> value = [](double i) { return i; };
  std::vector<std::pair<std::string, std::int64_t>> tokens = {};  ///< watched
  std::vector<std::pair<std::string, double>> pairs = {};         ///< of these, with their mean

  std::filesystem::path write(const test::TemporaryFolder& folder, const std::string& name) const {
    util::OrderedJson all_lenses = util::OrderedJson::array();
    EstimateTable quality("lens.quality", {{"lens"},
                                           {"layer"},
                                           {"positions", "positions"},
                                           {"kl_final", "nats", tables::kEstimated},
                                           {"median", "nats"}}),
        buckets("frequency.top1_share", {{"bucket"}, {"count"}, {"share", "", tables::kEstimated}}),
        changes("flips.changes", {{"lens"}, {"layer"}, {"share", "", tables::kEstimated}}),
        watched("watch.rank", {{"token"}, {"mean_rank", "", tables::kEstimated}, {"token_id"}});
    for (const auto& [token, id] : tokens)
      watched.add({token, mean_of(30, [&](double i) { return value(i) + static_cast<double>(id); }), id});
    for (const std::string& lens : lenses) {
      all_lenses.push_back({{"name", lens}});
      for (std::int64_t layer = 0; layer <= layers; ++layer)
        quality.add({lens, layer, std::int64_t{30}, mean_of(30, value), 1.0});
    }
    buckets.add({"rest", std::int64_t{3}, mean_of(30, value)});
    util::OrderedJson run = {
        {"schema_version", 1},
        {"model", {{"layers", depth}, {"vocab_size", 9}}},
        {"lenses", all_lenses},
        {"inputs", {{{"path", name}, {"sha256", sha256}, {"documents", documents}, {"bytes", bytes}}}},
        {"tokenizer", {{"digest", "t"}}},
        {"settings", settings}};
    if (!status.is_null()) run["status"] = status;
    if (!shard.is_null()) run["shard"] = shard;
    report::RunFolder target(folder.path() / name, report::RunFolder::Mode::kNew);
    std::vector<Table> all = {std::move(quality).finish(), std::move(buckets).finish()};
    if (settings.contains("layers")) {
      changes.add({lenses.front(), std::int64_t{1}, mean_of(30, value)});
      all.push_back(std::move(changes).finish());
    }
    if (!tokens.empty()) all.push_back(std::move(watched).finish());
    EstimateTable of_pairs("watch.difference", {{"pair"}, {"mean_difference", "nats", tables::kEstimated}});
    for (const auto& [pair, mean] : pairs)
      of_pairs.add({pair, mean_of(30, [&, add = mean](double i) { return value(i) + add; })});
    if (!pairs.empty()) all.push_back(std::move(of_pairs).finish());
    target.finish(run, std::move(all));
    return folder.path() / name;
  }
};

}  // namespace

TEST_CASE("difference of runs: paired by document, for the rows that both have") {
  const test::TemporaryFolder folder;
  const auto noise = [](double i) { return 10 * std::sin(i); };
  const auto a = Run{.value = noise}.write(folder, "a");
  const auto b = Run{.layers = 3, .value = [&](double i) { return noise(i) + 2; }}.write(folder, "b");
  const RunDifference difference = report::run_difference(a, b);
  CHECK(difference.unpaired.empty());
  REQUIRE(difference.tables.size() == 2);
  const Table& table = difference.tables[1];  // in order of name
  CHECK(table.name == "lens.quality");
  REQUIRE(table.columns.size() == 5);
  CHECK(table.columns[2].name == "kl_final");
  CHECK(table.columns[2].unit == "nats");
  CHECK(table.columns[4].name == "kl_final_high");
  REQUIRE(table.rows.size() == 3);  // layer 3 is in one of them only
  for (std::int64_t layer = 0; layer < 3; ++layer) {
    const auto& row = table.rows[static_cast<std::size_t>(layer)];
    CHECK(std::get<std::string>(row[0]) == "logit");
    CHECK(std::get<std::int64_t>(row[1]) == layer);
    // The documents scatter, their difference does not: an unpaired interval would be 4 wide.
    for (const std::size_t c : {2U, 3U, 4U}) CHECK(std::get<double>(row[c]) == Approx(2).margin(1e-5));
  }
}

TEST_CASE("difference of runs: a lens against another where each run has one, else by name") {
  const test::TemporaryFolder folder;
  const auto one = Run{}.write(folder, "one"), other = Run{.lenses = {"tuned"}}.write(folder, "other"),
             both = Run{.lenses = {"logit", "tuned"}}.write(folder, "both");
  const auto rows = [](const RunDifference& difference) { return difference.tables[1].rows.size(); };
  CHECK(rows(report::run_difference(one, other)) == 3);
  CHECK(rows(report::run_difference(both, other)) == 3);
  CHECK(rows(report::run_difference(one, both)) == 3);
  CHECK(rows(report::run_difference(both, both)) == 6);
}

TEST_CASE("difference of runs: what keeps them from being paired is named") {
  const test::TemporaryFolder folder;
  const auto a = Run{}.write(folder, "a");
  CHECK(report::run_difference(a, Run{.sha256 = "b"}.write(folder, "input")).unpaired ==
        "their inputs differ");
  Run run;
  run.settings["seed"] = 1;
  CHECK(report::run_difference(a, run.write(folder, "seed")).unpaired == "settings.seed differs: 0 and 1");
  run.settings = {{"positions", "last"}, {"limit", 0}, {"seed", 0}};
  CHECK(
      report::run_difference(a, run.write(folder, "last")).unpaired.rfind("settings.positions differs", 0) ==
      0);
  for (const util::OrderedJson& status : {util::OrderedJson("partial"), util::OrderedJson()}) {
    const auto unfinished = Run{.status = status}.write(folder, "status" + status.dump());
    CHECK(report::run_difference(a, unfinished).unpaired == "one of them is not complete");
  }
  CHECK(report::run_difference(a, Run{.documents = 29}.write(folder, "documents")).unpaired ==
        "their inputs differ");
  // The same bytes as other documents, or a part of them.
  CHECK(report::run_difference(a, Run{.bytes = 800}.write(folder, "bytes")).unpaired ==
        "their inputs differ");
  const auto share = [&](int index) {
    return Run{.shard = {{"index", index}, {"count", 2}}}.write(folder, "share" + std::to_string(index));
  };
  const auto first = share(0), second = share(1);
  const std::string of_shares = "one of them is a share of a run that the other is not";
  CHECK(report::run_difference(a, first).unpaired == of_shares);
  CHECK(report::run_difference(first, second).unpaired == of_shares);
  CHECK(report::run_difference(first, first).unpaired.empty());
  // Contents that are not known are not the same ones.
  const auto unknown = Run{.sha256 = nullptr}.write(folder, "unknown");
  CHECK(report::run_difference(unknown, Run{.sha256 = nullptr}.write(folder, "unknown too")).unpaired ==
        "their inputs differ");
  // Buckets of another frequency table hold other tokens.
  run = {};
  run.settings["token_counts"] = "counts.json";
  const RunDifference counts = report::run_difference(a, run.write(folder, "counts"));
  REQUIRE(counts.tables.size() == 1);
  CHECK(counts.tables[0].name == "lens.quality");
  REQUIRE(counts.left_out.size() == 1);
  CHECK(counts.left_out.begin()->second == std::vector<std::string>{"frequency.top1_share"});
  // What a guess differs from is that of the layer decoded before.
  run = {};
  run.settings["layers"] = {0, 1, 2};
  const auto all_layers = run.write(folder, "all layers");
  run.settings["layers"] = {1, 2};
  const RunDifference layers = report::run_difference(all_layers, run.write(folder, "some layers"));
  REQUIRE(layers.left_out.size() == 1);
  CHECK(layers.left_out.begin()->second == std::vector<std::string>{"flips.changes"});
}

TEST_CASE("difference of runs: layers of models of another depth are no match") {
  const test::TemporaryFolder folder;
  Run run = {.depth = 6};
  run.settings["layers"] = {0, 1, 2};
  const auto deep = run.write(folder, "deep");
  run.depth = 3;
  const RunDifference difference = report::run_difference(deep, run.write(folder, "shallow"));
  CHECK(difference.unpaired.empty());
  REQUIRE(difference.tables.size() == 1);  // which has no layers here
  CHECK(difference.tables[0].name == "frequency.top1_share");
  REQUIRE(difference.left_out.size() == 1);
  CHECK(difference.left_out.begin()->second == std::vector<std::string>{"flips.changes", "lens.quality"});
}

TEST_CASE("difference of runs: watched tokens are compared by their numbers, whatever their names") {
  const test::TemporaryFolder folder;
  const std::string bytes = "\uFFFD";
  Run run;
  const auto watching = [&](const std::string& name,
                            const std::vector<std::pair<std::string, std::int64_t>>& tokens) {
    run.tokens = tokens;
    run.settings["watch"] = util::OrderedJson::array();
    for (const auto& [token, id] : tokens) run.settings["watch"].push_back({{"text", token}, {"id", id}});
    return run.write(folder, name);
  };
  const auto both = watching("both", {{bytes, 200}, {bytes + " (#201)", 201}}),
             second = watching("second", {{bytes, 201}}), other = watching("other", {{bytes, 202}});
  const auto rows = [](const RunDifference& difference) { return difference.tables.back().rows; };
  const auto of_second = rows(report::run_difference(both, second));
  REQUIRE(of_second.size() == 1);
  CHECK(std::get<double>(of_second[0][1]) == Approx(0).margin(1e-5));
  CHECK(rows(report::run_difference(both, other)).empty());
  CHECK(rows(report::run_difference(both, both)).size() == 2);
}

TEST_CASE("difference of runs: pairs of watched tokens are compared by their numbers, whatever their names") {
  const test::TemporaryFolder folder;
  Run run;
  const auto watching = [&](const std::string& name, const std::vector<std::int64_t>& ids,
                            const std::vector<std::pair<std::string, double>>& pairs,
                            const util::OrderedJson& tokens_of_pairs) {
    run.pairs = pairs;
    run.settings["watch"] = util::OrderedJson::array();
    util::OrderedJson names = util::OrderedJson::array();
    for (const std::int64_t id : ids) {
      run.settings["watch"].push_back(id < 0 ? util::OrderedJson{{"text", "#target"}, {"id", nullptr}}
                                             : util::OrderedJson{{"text", "A"}, {"id", id}});
    }
    for (const auto& pair : pairs) names.push_back(pair.first);
    run.settings["watch_pairs"] = names;
    run.settings["watch_pair_tokens"] = tokens_of_pairs;
    return run.write(folder, name);
  };
  const auto a = watching("a", {68, 264, -1}, {{"A, the", 1}, {"A,#target", 2}}, {{0, 1}, {0, 2}}),
             b = watching("b", {8121, 264, 68, -1}, {{"A, the", 10}, {"A (#68), the", 20}, {"x,#target", 30}},
                          {{0, 1}, {2, 1}, {2, 3}});
  const auto rows = report::run_difference(a, b).tables.back().rows;
  REQUIRE(rows.size() == 2);
  CHECK(std::get<std::string>(rows[0][0]) == "A (#68), the");
  CHECK(std::get<double>(rows[0][1]) == Approx(19).margin(1e-5));
  CHECK(std::get<std::string>(rows[1][0]) == "x,#target");
  CHECK(std::get<double>(rows[1][1]) == Approx(28).margin(1e-5));
  CHECK(report::run_difference(a, watching("c", {8121, 264}, {{"A, the", 1}}, {{0, 1}}))
            .tables.back()
            .rows.empty());
}

TEST_CASE("difference of runs: damaged folders") {
  const test::TemporaryFolder folder;
  const auto a = Run{}.write(folder, "a"), b = Run{}.write(folder, "b");
  test::check_error(util::ErrorCode::kInput, {"no such run folder"},
                    [&] { report::run_difference(a, folder.path() / "none"); });
  const auto file = b / "replicates" / "lens.quality.npy";
  const auto whole = std::filesystem::file_size(file);
  std::filesystem::resize_file(file, whole - 4);
  test::check_error(util::ErrorCode::kFormat, {"replicates that do not fit their table", "lens.quality.npy"},
                    [&] { report::run_difference(a, b); });
  std::ofstream(file) << "x";
  test::check_error(util::ErrorCode::kFormat, {"replicates that do not fit their table"},
                    [&] { report::run_difference(a, b); });
}

TEST_CASE("differences of several runs: one table of each name, the run in front") {
  const test::TemporaryFolder folder;
  const auto a = Run{}.write(folder, "a"), b = Run{}.write(folder, "b"),
             c = Run{.layers = 0}.write(folder, "c");
  const auto tables =
      report::joined_tables({"b", "c"}, {report::run_difference(a, b), report::run_difference(a, c)});
  REQUIRE(tables.size() == 2);
  CHECK(tables[1].name == "lens.quality");
  CHECK(tables[1].columns.front().name == "run");
  REQUIRE(tables[1].rows.size() == 4);
  CHECK(std::get<std::string>(tables[1].rows[2].front()) == "b");
  CHECK(std::get<std::string>(tables[1].rows[3].front()) == "c");
  CHECK(std::get<double>(tables[1].rows[3][3]) == 0);
}
