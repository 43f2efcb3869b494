// The registry: which experiments there are, how they are asked for, and which tables they promise.
#include <memory>
#include <string>
#include <vector>

#include "depthlens/util/text.hpp"
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
  const Trial trial(experiments, {.buckets = some_buckets()});
  for (const auto& experiment : trial.experiments) {
    builder.show(*experiment);
    for (const tables::Table& table : experiment->tables()) names.push_back(table.name);
  }
  return names;
}

}  // namespace

TEST_CASE("registry: the names of the contract") {
  CHECK(experiments::experiment_names() == Names{"trajectory", "frequency", "flips", "settling",
                                                 "calibration", "pos", "facts", "choices", "exit",
                                                 "patching"});
}

TEST_CASE("registry: experiments that read the same kind of input go together, others do not") {
  using data::InputKind;
  using Inputs = std::vector<InputKind>;
  const std::vector<std::pair<std::string, Inputs>> possible = {
      {"trajectory,frequency,flips,settling,calibration", {InputKind::kCorpus}},
      {"pos", {InputKind::kWords}},
      {"facts,exit", {InputKind::kFacts}},
      {"exit,choices", {InputKind::kQuestions}},
      {"exit,exit", {InputKind::kWords, InputKind::kFacts, InputKind::kQuestions}}};
  for (const auto& [names, inputs] : possible) {
    INFO(names);
    CHECK((experiments::possible_inputs(names) == inputs));
  }
  for (const char* names : {"pos,facts", "trajectory,facts", "calibration,exit", "exit,facts,choices"}) {
    check_error(util::ErrorCode::kUsage,
                {"experiments that need different inputs", names, "one after the other"},
                [&] { experiments::possible_inputs(names); });
  }
  check_error(util::ErrorCode::kUsage, {"unknown experiment 'fact'", "did you mean 'facts'?"},
              [] { experiments::possible_inputs("fact"); });
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
  const Names quality = {"lens.quality", "lens.difference"},
              flips = {"lens.quality", "lens.difference", "flips.by_bucket", "flips.changes"};
  CHECK(tables_made("trajectory") == quality);
  CHECK(tables_made("flips") == flips);
  CHECK(tables_made("flips,flips,trajectory") == flips);
  CHECK(tables_made("settling,flips,frequency,trajectory") ==
        Names{"lens.quality", "lens.difference", "frequency.corpus", "frequency.targets",
              "frequency.top1_share", "frequency.mean_probability", "flips.by_bucket", "flips.changes",
              "settling.depth", "settling.first_hit"});
}

TEST_CASE("registry: the columns of every table are those of the contract in their order, and more") {
  const std::vector<std::pair<std::string, Names>> contract = {
      {"lens.quality",
       {"lens", "layer", "positions", "kl_final", "kl_reverse", "entropy", "cross_entropy", "top1_agreement",
        "top1_accuracy", "final_rank_mean", "final_rank_median"}},
      {"lens.difference", {"lens", "baseline", "layer"}},
      {"frequency.corpus", {"bucket", "count", "share"}},
      {"frequency.targets", {"bucket", "count", "share"}},
      {"frequency.top1_share", {"lens", "layer", "bucket", "count", "share"}},
      {"frequency.mean_probability", {"lens", "layer", "bucket", "probability"}},
      {"flips.by_bucket", {"lens", "layer", "bucket", "count", "flipped", "flip_rate"}},
      {"flips.changes", {"lens", "layer", "changed", "share"}},
      {"settling.depth", {"lens", "layer", "count", "share"}},
      {"settling.first_hit", {"lens", "threshold", "layer", "count", "share"}},
      {"calibration.early_exit",
       {"lens", "criterion", "threshold", "mean_layer", "agreement", "speedup_bound"}},
      {"calibration.rank_mass", {"lens", "layer", "rank"}},
      {"calibration.frequency_bias", {"lens", "layer", "bucket"}},
      {"pos.rank",
       {"lens", "layer", "class", "count", "mean_rank", "median_rank", "mean_reciprocal_rank", "top1_rate"}},
      {"pos.earliest", {"lens", "class", "bucket", "threshold", "count", "mean_layer", "median_layer"}},
      {"pos.earliest_by_rank", {"lens", "class", "threshold", "count", "mean_layer", "median_layer"}},
      {"facts.rank",
       {"lens", "layer", "answer_length", "answer_position", "count", "mean_rank", "median_rank",
        "top1_rate"}},
      {"facts.earliest",
       {"lens", "answer_length", "answer_position", "threshold", "count", "mean_layer", "median_layer"}},
      {"facts.earliest_by_rank",
       {"lens", "answer_length", "answer_position", "threshold", "count", "mean_layer", "median_layer"}},
      {"choices.option",
       {"lens", "layer", "option", "count", "mean_rank", "median_rank", "mean_probability", "leads"}},
      {"choices.accuracy", {"lens", "layer", "count", "accuracy", "options_in_top"}},
      {"exit.accuracy", {"lens", "layer"}},
      {"watch.rank", {"lens", "layer", "token", "count", "mean_rank", "median_rank", "mean_logprob"}},
      {"watch.difference", {"lens", "layer", "pair", "count", "mean_difference"}},
  };
  ReadoutBuilder builder = some_readouts(0);
  BuiltPosition position = some_readouts(1).positions().front();
  position.item = 0;
  position.watched = {3, 4, 5, 6};  // the options, then what is followed
  builder.add(position);
  data::TaskItem item{.id = "i", .context = {1}, .answer = {3}, .word_class = "NOUN"};
  item.options = {{.text = "A", .id = 3}, {.text = "B", .id = 4}};
  const data::Task task{.kind = data::InputKind::kQuestions,
                        .items = {item},
                        .classes = {"NOUN"},
                        .option_labels = {"A", "B"},
                        .dropped = {}};
  const data::TokenCounts counts({1, 2, 3});
  const experiments::Watch watch{.tokens = {{.id = 5, .name = "five"}, {.id = 6, .name = "six"}},
                                 .pairs = {{.first = 0, .second = 1, .name = "five,six"}}};
  const experiments::Context context{
      .buckets = some_buckets(), .counts = &counts, .task = &task, .watch = &watch};
  std::size_t next = 0;
  Trial trial(util::join(experiments::experiment_names(), ","), context);
  for (const auto& experiment : trial.experiments) {
    builder.show(*experiment);
    trial.state.commit();
    for (const tables::Table& table : experiment->tables()) {
      REQUIRE(next < contract.size());
      const auto& [name, columns] = contract[next++];
      CHECK(table.name == name);
      REQUIRE(table.columns.size() >= columns.size());
      std::size_t c = 0;  // others may stand between
      for (const tables::Column& column : table.columns)
        c += c < columns.size() && column.name == columns[c] ? 1 : 0;
      CHECK(c == columns.size());
      for (const tables::Column& column : table.columns) {
        const bool fixed = name == "calibration.frequency_bias";
        const bool is_mean = column.name.rfind("mean_", 0) == 0 || column.name == "share";
        const bool is_end = column.name.ends_with("_low") || column.name.ends_with("_high");
        if (is_mean && !is_end && !fixed) CHECK(column.estimated);
      }
      CHECK_FALSE(table.rows.empty());
      for (const auto& row : table.rows) CHECK(row.size() == table.columns.size());
    }
  }
  CHECK(next == contract.size());
}

TEST_CASE("registry: only frequency needs groups, and they are the buckets") {
  const Trial trial("trajectory,frequency,flips,settling", {.buckets = some_buckets()});
  for (const auto& experiment : trial.experiments) {
    const decode::Needs needs = experiment->needs();
    CHECK(needs.top_k >= 1);
    if (needs.num_groups == 0) continue;
    CHECK(needs.num_groups == 4);
    CHECK(needs.token_groups == some_buckets().bucket_of);
  }
  CHECK(Trial("frequency", {.buckets = some_buckets()}).last().needs().num_groups == 4);
}

TEST_CASE("experiments: readouts in several chunks give the same tables as in one") {
  const ReadoutBuilder whole = some_readouts(40, 7);
  for (const char* name : {"trajectory", "frequency", "flips", "settling"}) {
    Trial once(name, {.buckets = some_buckets()}), again(name, {.buckets = some_buckets()});
    once.show(whole);
    again.last().begin(whole.shape());
    std::size_t next = 0;
    for (const int size : {1, 15, 24}) {
      ReadoutBuilder chunk({"logit", "tuned"}, kRows, kVocabulary, 3, some_buckets().bucket_of, 4);
      for (int p = 0; p < size; ++p) chunk.add(whole.positions()[next++]);
      chunk.show(again.last(), false);
      if (size == 15) again.state.commit();
    }
    again.state.commit();
    const auto expected = once.last().tables(), found = again.last().tables();
    REQUIRE(expected.size() == found.size());
    for (std::size_t t = 0; t < expected.size(); ++t) CHECK((expected[t].rows == found[t].rows));
  }
}
