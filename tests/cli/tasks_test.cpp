// depthlens analyze on tasks, end to end: facts, questions and words, what is kept and dropped, and the facts
// of a small model against transformers in float64 (tools/scripts/make_task_golden.py).
#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "checks.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "support/compressed.hpp"
#include "support/finished_run.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

using util::Json;
using util::OrderedJson;
using Arguments = std::vector<std::string>;
using Dropped = std::map<std::string, std::int64_t>;

/// A run of the demo model, or of the one that `more` names.
struct TaskRun {
  TemporaryFolder temporary;
  fs::path folder = temporary.path() / "out";
  Result result;
  FinishedRun finished;

  TaskRun(const std::string& experiments, const std::string& input, const Arguments& more = {})
      : result(check_done(
            Arguments{"analyze", "--experiment", experiments, "--input", input, "--out", folder.string()} +
            more)),
        finished(FinishedRun::read(folder)) {}

  std::int64_t count(const std::string& key) const {
    return finished.run.at("counts").at(key).get<std::int64_t>();
  }
  Dropped dropped() const { return finished.run.at("counts").at("dropped").get<Dropped>(); }
};

const TaskRun& demo_facts() {
  static const TaskRun run("facts,exit", "data/tasks/facts.jsonl",
                           {"--lens", "logit", "--lens", "tuned:data/demo/lens"});
  return run;
}
const TaskRun& demo_questions() {
  static const TaskRun run("choices,exit", "data/tasks/choices.jsonl", {"--keep", "all"});
  return run;
}
/// Every word once, whatever the model says, and the same with the second question.
const TaskRun& demo_words() {
  static const TaskRun run("pos", "data/tasks/words.conllu",
                           {"--keep", "all", "--whitespace-retry", "no", "--top-k", "1"});
  return run;
}
const TaskRun& demo_words_again() {
  static const TaskRun run("pos,exit", "data/tasks/words.conllu", {"--top-k", "1"});
  return run;
}

std::set<std::string> keys_of(const Json& object) {
  std::set<std::string> keys;
  for (const auto& item : object.items()) keys.insert(item.key());
  return keys;
}

std::set<std::string> names_of_tables(const FinishedRun& run) {
  std::set<std::string> names;
  for (const auto& item : run.summary.at("tables").items()) names.insert(item.key());
  return names;
}

bool is_right(const Json& record) {
  return record.at("final").at("id") == record.at("target").at("id");
}

/// Mean of a value of the records that `counts` takes, by layer, through one lens.
template <typename Counts, typename Value>
double mean_of(const FinishedRun& run, const Counts& counts, const Value& value) {
  double sum = 0;
  std::int64_t count = 0;
  for (const Json& record : run.records) {
    if (!counts(record)) continue;
    sum += value(record);
    ++count;
  }
  return sum / static_cast<double>(count);
}

/// A small model with an input beside it, for what is refused.
struct Bench {
  SmallModel model;
  fs::path out = model.beside("out");

  std::string file(const std::string& bytes, const std::string& name = "task.jsonl") const {
    write_bytes(model.beside(name), bytes);
    return model.beside(name).string();
  }
  Arguments command(const std::string& experiments, const std::string& input,
                    const Arguments& more = {}) const {
    return Arguments{"analyze", "--model", model.path(), "--experiment", experiments,
                     "--input", input,     "--out",      out.string()} +
           more;
  }
  void refuse(int status, const std::vector<std::string>& parts, const std::string& experiments,
              const std::string& input, const Arguments& more = {}) const {
    check_error(command(experiments, input, more), status, parts);
    check_nothing_written(out);
  }
};

const std::string kFact = R"({"id": "tide", "prompt": "the tide is", "answer": "in"})";

}  // namespace

TEST_CASE("facts: tables, records and counts") {
  const FinishedRun& run = demo_facts().finished;
  CHECK(names_of_tables(run) == std::set<std::string>{"lens.quality", "lens.difference", "facts.rank",
                                                      "facts.earliest", "facts.earliest_by_rank",
                                                      "exit.accuracy"});
  for (const std::string& name : names_of_tables(run))
    CHECK(fs::exists(demo_facts().folder / "tables" / (name + ".csv")));
  CHECK(run.run.at("settings").at("experiments") == OrderedJson{"facts", "exit"});
  CHECK(run.run.at("settings").at("keep") == "correct");
  CHECK(run.run.at("settings").at("whitespace_retry") == true);
  CHECK_FALSE(run.run.at("settings").contains("classes"));
  CHECK(demo_facts().count("documents") == 40);
  CHECK(demo_facts().count("records") == static_cast<std::int64_t>(run.records.size()));
  CHECK(run.records.size() > 60);

  std::map<std::string, std::set<std::int64_t>> places;
  for (const Json& record : run.records) {
    INFO(record.at("item"));
    CHECK(keys_of(record) == std::set<std::string>{"document", "window", "input", "input_document",
                                                   "window_start", "position", "item", "answer_position",
                                                   "answer_length", "prompt", "answer", "token", "target",
                                                   "final", "lenses"});
    CHECK(contains(record.at("prompt").get<std::string>(), " "));
    CHECK(record.at("item") == "fact-" + std::to_string(record.at("document").get<int>() + 1));
    const auto place = record.at("answer_position").get<std::int64_t>();
    CHECK(place >= 1);
    CHECK(place <= record.at("answer_length").get<std::int64_t>());
    CHECK(places[record.at("item").get<std::string>()].insert(place).second);
    CHECK(is_right(record));
    CHECK(record.at("lenses").at("logit").at("target_rank").back() == 1);
    CHECK_FALSE(record.at("lenses").at("logit").contains("options"));
  }
  CHECK(run.records[0].at("token").at("text") == " is");
  CHECK(run.records[0].at("prompt") == "The capital of France is");
  CHECK(run.records[0].at("answer") == "Paris");
  CHECK(run.records[0].at("target").at("text") == " Paris");
  // Positions read out are those of the records and those dropped.
  std::int64_t dropped = 0;
  for (const auto& [reason, count] : demo_facts().dropped()) dropped += count;
  CHECK(demo_facts().count("positions") == static_cast<std::int64_t>(run.records.size()) + dropped);
}

TEST_CASE("facts: tables agree with the records") {
  const FinishedRun& run = demo_facts().finished;
  std::int64_t counted = 0;
  for (const Json& row : run.rows("facts.rank")) {
    const auto layer = row.at("layer").get<std::size_t>();
    const std::string lens = row.at("lens");
    const auto in_group = [&](const Json& record) {
      return record.at("answer_length") == row.at("answer_length") &&
             record.at("answer_position") == row.at("answer_position");
    };
    const auto rank = [&](const Json& record) {
      return record.at("lenses").at(lens).at("target_rank")[layer].get<double>();
    };
    const auto count = std::count_if(run.records.begin(), run.records.end(), in_group);
    CHECK(row.at("count") == count);
    CHECK(row.at("mean_rank").get<double>() == Approx(mean_of(run, in_group, rank)).epsilon(1e-12));
    CHECK(row.at("top1_rate").get<double>() ==
          Approx(mean_of(run, in_group, [&](const Json& record) { return rank(record) == 1 ? 1.0 : 0.0; }))
              .epsilon(1e-12)
              .margin(1e-15));
    if (layer == 0 && lens == "logit") counted += count;
    if (count > 1) {
      CHECK(row.at("mean_rank_low") <= row.at("mean_rank").get<double>() + 1e-9);
      CHECK(row.at("mean_rank_high") >= row.at("mean_rank").get<double>() - 1e-9);
    } else {
      CHECK(row.at("mean_rank_low").is_null());
    }
  }
  CHECK(counted == static_cast<std::int64_t>(run.records.size()));
  const auto all = [](const Json&) { return true; };
  for (const Json& row : run.rows("exit.accuracy")) {
    const auto layer = row.at("layer").get<std::size_t>();
    const auto readout = [&](const Json& record) {
      return record.at("lenses").at(row.at("lens").get<std::string>());
    };
    CHECK(row.at("blocks_skipped") == 12 - layer);
    CHECK(row.at("count") == run.records.size());
    CHECK(row.at("accuracy").get<double>() ==
          Approx(mean_of(run, all, [&](const Json& record) {
            return readout(record).at("top_ids")[layer][0] == record.at("target").at("id") ? 1.0 : 0.0;
          })).margin(1e-12));
    CHECK(row.at("answer_logprob").get<double>() ==
          Approx(mean_of(run, all, [&](const Json& record) {
            return double{readout(record).at("target_logprob")[layer].get<float>()};
          })).epsilon(1e-9));
  }
}

TEST_CASE("facts: a small model's ranks are those of transformers in float64") {
  const fs::path golden = fs::path(DEPTHLENS_TEST_DATA) / "tasks";
  const Json expected = read_json(golden / "expected.json");
  const SmallModel model(expected.at("model").get<std::string>());
  model.write("tokenizer.json", read_bytes(golden / "tokenizer.json"));
  const Arguments small = {"--model", model.path(), "--whitespace-retry", "no"};
  const TaskRun every("facts", (golden / "facts.jsonl").string(), small + Arguments{"--keep", "all"});
  const TaskRun correct("facts", (golden / "facts.jsonl").string(), small);
  std::size_t next = 0, right = 0;
  for (std::size_t f = 0; f < expected.at("facts").size(); ++f) {
    const Json& fact = expected.at("facts")[f];
    for (std::size_t k = 0; k < fact.at("answer").size(); ++k) {
      INFO("fact " << f << ", answer token " << k);
      REQUIRE(next < every.finished.records.size());
      const Json& record = every.finished.records[next++];
      CHECK(record.at("item") == "f" + std::to_string(f));
      CHECK(record.at("position") == fact.at("position").get<std::size_t>() + k);
      CHECK(record.at("answer_position") == k + 1);
      CHECK(record.at("answer_length") == fact.at("answer").size());
      CHECK(record.at("target").at("id") == fact.at("answer")[k]);
      CHECK(record.at("final").at("id") == fact.at("final")[k]);
      const Json& logit = record.at("lenses").at("logit");
      CHECK(logit.at("target_rank") == fact.at("rank")[k]);
      for (std::size_t layer = 0; layer < fact.at("logprob")[k].size(); ++layer) {
        CHECK(logit.at("target_logprob")[layer].get<double>() ==
              Approx(fact.at("logprob")[k][layer].get<double>()).margin(5e-5));
      }
      if (fact.at("answer")[k] != fact.at("final")[k]) continue;
      REQUIRE(right < correct.finished.records.size());
      CHECK(correct.finished.records[right++] == record);
    }
  }
  CHECK(next == every.finished.records.size());
  CHECK(right == correct.finished.records.size());
  CHECK(right > 0);
  CHECK(correct.dropped() == Dropped{{"positions_not_predicted", static_cast<std::int64_t>(next - right)}});
  CHECK(every.dropped().empty());
  CHECK(contains(correct.result.err, util::cat(right, " of ", next, " answer tokens count: ", next - right,
                                               " not the model's own; see")));
  CHECK_FALSE(contains(every.result.err, "counts.dropped"));
}

TEST_CASE("facts: an alias counts where the model says all of it") {
  const fs::path golden = fs::path(DEPTHLENS_TEST_DATA) / "tasks";
  const Json expected = read_json(golden / "expected.json");
  const SmallModel model(expected.at("model").get<std::string>());
  model.write("tokenizer.json", read_bytes(golden / "tokenizer.json"));
  const auto write = [&](const std::string& name, const OrderedJson& fact) {
    write_bytes(model.beside(name), fact.dump() + "\n");
    return model.beside(name).string();
  };
  const Arguments small = {"--model", model.path(), "--whitespace-retry", "no"};
  // The model says " st", and does not go on with "one".
  const std::string prompt = "the harbour is made of", wrong = "corn", alias = "st";
  const TaskRun silent("facts", write("wrong.jsonl", {{"id", "f"}, {"prompt", prompt}, {"answer", wrong}}),
                       small);
  CHECK(silent.finished.records.empty());
  CHECK(silent.count("answered_by_alias") == 0);
  const TaskRun all("facts", model.beside("wrong.jsonl").string(), small + Arguments{"--keep", "all"});
  const TaskRun plain("facts", write("plain.jsonl", {{"id", "f"}, {"prompt", prompt}, {"answer", alias}}),
                      small);
  REQUIRE(plain.finished.records.size() == 1);
  REQUIRE(plain.finished.records[0].at("answer_length") == 1);

  const OrderedJson aliases = {"wood", "stone", " st ", "still"};
  const std::vector<std::string> inputs = {
      write("facts.jsonl", {{"id", "f"}, {"prompt", prompt}, {"answer", wrong}, {"aliases", aliases}}),
      write("mquake.json",
            {{"case_id", "f"},
             {"single_hops", {{{"cloze", prompt}, {"answer", wrong}, {"answer_alias", aliases}}}}})};
  for (const std::string& input : inputs) {
    const TaskRun run("facts", input, small);
    CHECK(run.count("answered_by_alias") == 1);
    CHECK(run.dropped() == plain.dropped());
    REQUIRE(run.finished.records.size() == plain.finished.records.size());
    for (std::size_t r = 0; r < run.finished.records.size(); ++r) {
      Json record = run.finished.records[r];
      CHECK(record.at("alias") == alias);
      record.erase("alias");
      record["item"] = "f";
      CHECK(record == plain.finished.records[r]);
    }
    CHECK(run.finished.table("facts.rank") == plain.finished.table("facts.rank"));
    // With all of them the answer stands as it is.
    const TaskRun every("facts", input, small + Arguments{"--keep", "all"});
    CHECK(every.count("answered_by_alias") == 0);
    CHECK(every.finished.table("facts.rank") == all.finished.table("facts.rank"));
    const TaskRun without("facts", input, small + Arguments{"--aliases", "no"});
    CHECK(without.count("answered_by_alias") == 0);
    CHECK(without.dropped() == silent.dropped());
    CHECK(without.finished.run.at("settings").at("aliases") == "no");
  }
  // One that is only begun is none, and the item is as without it.
  const OrderedJson begun = {{"id", "f"}, {"prompt", prompt}, {"answer", wrong}, {"aliases", {"stone"}}};
  const TaskRun only("facts", write("begun.jsonl", begun), small);
  CHECK(only.count("answered_by_alias") == 0);
  CHECK(only.dropped() == silent.dropped());
  CHECK(only.finished.records == silent.finished.records);
}

TEST_CASE("facts: an alias of several tokens takes the answer's place, the first that is said as a whole") {
  // The demo model says " the United States" here, not " the States".
  const Bench bench;
  const TaskRun run(
      "facts",
      bench.file(
          R"({"id": "f", "prompt": "Ellie Kemper lived for many years in", "answer": "United States of America", "aliases": ["the States", "the", "the United", "the U.S.", "the United States", "America"]})"));
  CHECK(run.count("answered_by_alias") == 1);
  CHECK(run.dropped().empty());
  REQUIRE(run.finished.records.size() == 3);
  CHECK(contains(run.result.err, "answers of 3 tokens (1), answers of 4 tokens (none)"));
  for (const Json& record : run.finished.records) {
    CHECK(record.at("alias") == "the United States");
    CHECK(record.at("answer_length") == 3);
    CHECK(record.at("target") == record.at("final"));
  }
}

TEST_CASE("facts: an alias behind white space that the model says") {
  // The demo model says "▁" and then the digits of a year.
  const Bench bench;
  const auto run_with = [&](const std::string& fact, const Arguments& more = {}) {
    return TaskRun("facts", bench.file(fact), more);
  };
  const std::string prompt = R"({"id": "year", "prompt": "He was born in the city of London on 12 May", )";
  const TaskRun plain = run_with(prompt + R"("answer": "1920"})");
  const TaskRun alias = run_with(prompt + R"("answer": "Tuesday", "aliases": ["June", "1900", "1920"]})");
  CHECK(alias.count("asked_again") == 0);
  CHECK(alias.count("answered_by_alias") == 1);
  CHECK(alias.finished.table("facts.rank") == plain.finished.table("facts.rank"));
  // White space alone is no alias that begins with it: the item is asked again as it would be without.
  const TaskRun none = run_with(prompt + R"("answer": "Tuesday"})");
  const TaskRun other = run_with(prompt + R"("answer": "Tuesday", "aliases": ["🇬🇧", "1900"]})");
  CHECK(other.count("answered_by_alias") == 0);
  CHECK(other.count("asked_again") == none.count("asked_again"));
  CHECK(none.count("asked_again") == 1);
  CHECK(other.dropped() == none.dropped());
}

TEST_CASE("choices: records and tables") {
  const FinishedRun& run = demo_questions().finished;
  REQUIRE(run.records.size() == 12);
  CHECK(demo_questions().dropped().empty());
  CHECK(run.run.at("settings").at("options") == "");
  for (const Json& record : run.records) {
    CHECK(keys_of(record) == std::set<std::string>{"document", "window", "input", "input_document",
                                                   "window_start", "position", "item", "prompt", "answer",
                                                   "token", "target", "final", "lenses"});
    CHECK(record.at("target").at("text") == " " + record.at("answer").get<std::string>());
    const Json& options = record.at("lenses").at("logit").at("options");
    REQUIRE(options.size() == 4);
    for (std::size_t o = 0; o < 4; ++o) {
      CHECK(keys_of(options[o]) == std::set<std::string>{"text", "id", "rank", "logprob"});
      CHECK(options[o].at("text") == std::string(1, "ABCD"[o]));
      CHECK(options[o].at("rank").size() == 13);
      CHECK(options[o].at("logprob").size() == 13);
      if (options[o].at("id") != record.at("target").at("id")) continue;
      CHECK(options[o].at("rank") == record.at("lenses").at("logit").at("target_rank"));
      CHECK(options[o].at("logprob") == record.at("lenses").at("logit").at("target_logprob"));
    }
  }
  CHECK(run.records[0].at("target").at("text") == " B");
  const auto all = [](const Json&) { return true; };
  const auto logprob = [](const Json& record, std::size_t option, std::size_t layer) {
    return record.at("lenses").at("logit").at("options")[option].at("logprob")[layer].get<float>();
  };
  const auto leader = [&](const Json& record, std::size_t layer) {
    std::size_t best = 0;
    for (std::size_t o = 1; o < 4; ++o)
      best = logprob(record, o, layer) > logprob(record, best, layer) ? o : best;
    return best;
  };
  for (const Json& row : run.rows("choices.option")) {
    const auto layer = row.at("layer").get<std::size_t>();
    const auto option = static_cast<std::size_t>(row.at("option").get<std::string>().at(0) - 'A');
    CHECK(row.at("count") == 12);
    CHECK(row.at("leads").get<double>() == Approx(mean_of(run, all, [&](const Json& record) {
                                             return leader(record, layer) == option ? 1.0 : 0.0;
                                           })).margin(1e-12));
    CHECK(row.at("mean_probability").get<double>() ==
          Approx(mean_of(run, all, [&](const Json& record) {
            return std::exp(double{logprob(record, option, layer)});
          })).epsilon(1e-9));
  }
  const auto accuracy = run.rows("choices.accuracy"), exits = run.rows("exit.accuracy");
  REQUIRE(accuracy.size() == 13);
  for (std::size_t layer = 0; layer < 13; ++layer) {
    CHECK(accuracy[layer].at("accuracy").get<double>() ==
          Approx(mean_of(run, all, [&](const Json& record) {
            const Json& options = record.at("lenses").at("logit").at("options");
            return options[leader(record, layer)].at("id") == record.at("target").at("id") ? 1.0 : 0.0;
          })).margin(1e-12));
    CHECK(exits[layer].at("accuracy") == accuracy[layer].at("accuracy"));
  }
  // The model was trained on this format: it answers with one of the letters.
  CHECK(accuracy[12].at("options_in_top") == 1);
}

TEST_CASE("choices: options of the file, given options, and logged samples") {
  const Bench bench;
  const std::string array =
      bench.file(R"([{"prompt": "the sea is", "answer": "wide"}, {"prompt": "the boat is", "answer": "on"},
                                          {"prompt": "rain is", "answer": "wide"}])",
                 "paper.json");
  const Arguments small = {"--model", bench.model.path(), "--keep", "all"};
  const auto texts = [](const TaskRun& run) {
    std::vector<std::string> all;
    for (const Json& option : run.finished.records.at(0).at("lenses").at("logit").at("options"))
      all.push_back(option.at("text"));
    return all;
  };
  CHECK(texts(TaskRun("choices", array, small)) == std::vector<std::string>{"on", "wide"});
  const TaskRun given("choices", array, small + Arguments{"--options", "on, in,wide"});
  CHECK(texts(given) == std::vector<std::string>{"on", "in", "wide"});
  CHECK(given.finished.run.at("settings").at("options") == "on, in,wide");
  const std::string logged = bench.file(
      gzip(R"({"doc_id": 9, "target": "1", "arguments": [["the sea is", " on"], ["the sea is", " wide"]]})"
           "\n"),
      "samples.jsonl.gz");
  const TaskRun samples("exit", logged, small);           // the kind is recognised by the file
  CHECK(samples.finished.records.at(0).at("item") == 9);  // a number stays one
  CHECK(samples.finished.run.at("inputs")[0].at("sha256") == util::sha256(read_bytes(logged)));
  CHECK(texts(samples) == std::vector<std::string>{"on", "wide"});
  // Questions without options of their own are such where options are given.
  const TaskRun asked("exit", array, small + Arguments{"--options", "on,wide"});
  CHECK(texts(asked) == std::vector<std::string>{"on", "wide"});
  CHECK(contains(asked.result.err, "read as questions"));
  CHECK(contains(TaskRun("exit", array, small).result.err, "read as facts"));
  CHECK(
      contains(TaskRun("choices", array, small).result.err, "options are the answers of the file: on, wide"));
}

TEST_CASE("choices: logged samples are read as they were scored") {
  const Bench bench;
  const auto sample = [](int id, const std::string& context, const std::string& one, const std::string& two,
                         const std::string& filter = "none") {
    return OrderedJson({{"doc_id", id},
                        {"target", "1"},
                        {"arguments",
                         {{"gen_args_0", {{"arg_0", context}, {"arg_1", one}}},
                          {"gen_args_1", {{"arg_0", context}, {"arg_1", two}}}}},
                        {"filter", filter}})
               .dump() +
           "\n";
  };
  const Arguments small = {"--model", bench.model.path(), "--keep", "all"};
  const auto run_with = [&](const std::string& lines) {
    return TaskRun("choices", bench.file(lines), small);
  };
  // The harness moves a space from the end of the context to the continuation.
  const TaskRun spaced = run_with(sample(0, "the sea is", " a", " t"));
  const TaskRun moved = run_with(sample(0, "the sea is ", "a", "t"));
  CHECK(spaced.finished.records == moved.finished.records);
  CHECK_FALSE(contains(moved.result.err, "end in a space"));
  const TaskRun bare = run_with(sample(0, "the sea is\n", "a", "t"));
  const auto target = [](const TaskRun& run) { return run.finished.records.at(0).at("target").at("text"); };
  CHECK(target(bare) == "t");
  CHECK(bare.finished.records.at(0).at("token").at("text") == "\n");

  // A document that is logged for each filter is one document.
  const std::string first = "the sea is", second = "the boat is";
  const TaskRun once = run_with(sample(0, first, " a", " t") + sample(1, second, " a", " t"));
  const TaskRun twice = run_with(sample(0, first, " a", " t") + sample(1, second, " a", " t") +
                                 sample(0, first, " a", " t", "two") + sample(1, second, " a", " t", "two"));
  CHECK(twice.finished.records == once.finished.records);
  CHECK(twice.finished.summary == once.finished.summary);
  CHECK(twice.count("documents") == 2);
  CHECK(twice.dropped() == Dropped{{"repeated_item", 2}});
  CHECK(contains(twice.result.err, "answers count: 2 repeated; see counts.dropped"));
  CHECK(contains(twice.finished.run.at("warnings").dump(),
                 "repeated items: 2 (first: '0'); each is counted once"));
  CHECK(contains(twice.result.err, "repeated items: 2"));
}

TEST_CASE("pos: words of the classes, with what was dropped") {
  const FinishedRun& run = demo_words().finished;
  CHECK(demo_words().count("documents") == 25);
  CHECK(demo_words().dropped() == Dropped{{"short_prompt", 87}});
  CHECK(demo_words().count("asked_again") == 0);
  CHECK(demo_words().count("positions") == 185);
  // Words of a sentence share its pass through the model.
  CHECK(demo_words().count("windows") < 60);
  REQUIRE(run.records.size() == 185);
  std::map<std::string, std::int64_t> classes;
  std::map<std::tuple<std::string, std::size_t, std::string>, double> rank_sums;
  for (const Json& record : run.records) {
    CHECK(record.size() == 15);
    ++classes[record.at("class").get<std::string>()];
    // What pos follows is told by the record.
    const Json& other = record.at("other_form");
    const bool as_other = !other.is_null() && other.at("id") == record.at("final").at("id");
    for (const auto& [lens, readout] : record.at("lenses").items()) {
      const Json& ranks = readout.at(as_other ? "final_rank" : "target_rank");
      for (std::size_t layer = 0; layer < ranks.size(); ++layer)
        rank_sums[{lens, layer, record.at("class").get<std::string>()}] += ranks[layer].get<double>();
    }
    CHECK(contains(record.at("item").get<std::string>(),
                   "words-" + std::to_string(record.at("document").get<int>() + 1) + "."));
  }
  CHECK(classes.size() == 6);
  const std::vector<std::string> asked = {"DET", "ADP", "PUNCT", "VERB", "NOUN", "ADJ"};
  CHECK(run.run.at("settings").at("classes") == OrderedJson(asked));
  CHECK(run.run.at("settings").at("min_prompt_chars") == 15);
  for (const Json& row : run.rows("pos.rank")) {
    CHECK(row.at("count") == classes.at(row.at("class")));
    const double sum = rank_sums.at({row.at("lens").get<std::string>(), row.at("layer").get<std::size_t>(),
                                     row.at("class").get<std::string>()});
    CHECK(row.at("mean_rank").get<double>() == Approx(sum / row.at("count").get<double>()));
  }
  std::map<std::string, std::int64_t> in_buckets;
  for (const Json& row : run.rows("pos.earliest")) {
    if (row.at("threshold") != 1) continue;
    in_buckets[row.at("class").get<std::string>()] +=
        (row.at("bucket") == "all" ? -1 : 1) * row.at("count").get<std::int64_t>();
  }
  for (const auto& [name, difference] : in_buckets) CHECK(difference == 0);
}

TEST_CASE("pos: where the model says white space it is asked again with a space") {
  std::map<std::string, Json> plain;
  std::set<std::string> white;
  for (const Json& record : demo_words().finished.records) {
    const std::string item = record.at("item"), said = record.at("final").at("text");
    plain[item] = record;
    if (said.find_first_not_of(" \n\t") == std::string::npos) white.insert(item);
  }
  REQUIRE(white.size() > 3);
  const TaskRun& again = demo_words_again();
  CHECK(again.finished.run.at("settings").at("whitespace_retry") == true);
  CHECK(again.count("asked_again") == static_cast<std::int64_t>(white.size()));
  CHECK(again.count("positions") == 185 + static_cast<std::int64_t>(white.size()));
  std::int64_t of_second_question = 0;
  for (const Json& record : again.finished.records) {
    const std::string item = record.at("item");
    INFO(item);
    if (white.count(item) == 0) {
      CHECK(record == plain.at(item));
      continue;
    }
    ++of_second_question;
    CHECK(record.at("token").at("text") == " ");
    CHECK(record.at("position") == plain.at(item).at("position").get<int>() + 1);
    CHECK(record.at("target").at("text").get<std::string>().front() != ' ');
  }
  Dropped dropped = again.dropped();
  CHECK(dropped["short_prompt"] == 87);
  CHECK(static_cast<std::int64_t>(again.finished.records.size()) + dropped["positions_not_predicted"] +
            dropped["positions_white_space"] ==
        185);
  CHECK(of_second_question <= static_cast<std::int64_t>(white.size()));
  // One line tells all of this, the greatest reason first, and one names the rare classes.
  CHECK(contains(again.result.err, util::cat("info: ", again.finished.records.size(),
                                             " of 272 answers count: ", dropped["positions_not_predicted"],
                                             " not the model's own, 87 with too little text before "
                                             "the word (--min-prompt-chars)")));
  CHECK(contains(again.result.err, "see counts.dropped in run.json"));
  std::map<std::string, std::int64_t> of_class;
  for (const Json& record : again.finished.records) ++of_class[record.at("class").get<std::string>()];
  const std::size_t few = again.result.err.find("fewer than 10 answers count for ");
  REQUIRE(few != std::string::npos);
  const std::string named = again.result.err.substr(few, again.result.err.find('\n', few) - few);
  for (const std::string name : {"DET", "ADP", "PUNCT", "VERB", "NOUN", "ADJ"}) {
    const std::string count = of_class[name] == 0 ? "none" : std::to_string(of_class[name]);
    CHECK(contains(named, util::cat(name, " (", count, ")")) == (of_class[name] < 10));
  }
  // With --keep all every word counts once, and nothing is dropped for what the model says.
  const TaskRun all("pos", "data/tasks/words.conllu", {"--keep", "all", "--top-k", "1"});
  CHECK(all.finished.records.size() == 185);
  CHECK(all.dropped() == Dropped{{"short_prompt", 87}});
  CHECK(all.count("asked_again") == static_cast<std::int64_t>(white.size()));
}

TEST_CASE("an answer of white space that the model says is right, and not asked again") {
  // The demo model writes years as "▁" and digits. Here its own guess is such a space.
  const Bench bench;
  const std::string input = bench.file(
      R"({"id": "year", "prompt": "He was born in the city of London on 12 May", "answer": "1900"})");
  const TaskRun first("facts", input, {"--keep", "all", "--whitespace-retry", "no"});
  REQUIRE(first.finished.records.at(0).at("target").at("text") == " ");
  REQUIRE(first.finished.records.at(0).at("final").at("text") == " ");
  const TaskRun run("facts", input);
  CHECK(run.count("asked_again") == 0);
  CHECK(run.finished.records.at(0) == first.finished.records.at(0));
  CHECK(run.finished.records.at(0).at("answer_length") == 5);
}

TEST_CASE("pos: classes, shortest prompt, words a class and the seed") {
  const auto items = [](const Arguments& more) {
    const TaskRun run("pos", "data/tasks/words.conllu",
                      more + Arguments{"--keep", "all", "--whitespace-retry", "no", "--top-k", "1",
                                       "--classes", "NOUN, VERB,NOUN"});
    std::set<std::string> ids;
    std::map<std::string, int> classes;
    for (const Json& record : run.finished.records) {
      ids.insert(record.at("item"));
      ++classes[record.at("class").get<std::string>()];
    }
    CHECK(run.finished.run.at("settings").at("classes") == OrderedJson{"NOUN", "VERB"});
    return std::pair(ids, classes);
  };
  const auto [three, classes] = items({"--per-class", "3"});
  CHECK(classes == std::map<std::string, int>{{"NOUN", 3}, {"VERB", 3}});
  CHECK(items({"--per-class", "3"}).first == three);
  const TaskRun lower(
      "pos", "data/tasks/words.conllu",
      {"--classes", "noun,Verb", "--per-class", "3", "--keep", "all", "--whitespace-retry", "no"});
  CHECK(lower.finished.run.at("settings").at("classes") == OrderedJson{"NOUN", "VERB"});
  CHECK(lower.finished.records.size() == 6);
  const TaskRun absent("pos", "data/tasks/words.conllu", {"--classes", "NOUN,INTJ,X", "--limit", "2"});
  CHECK(contains(absent.result.err, "no word of the classes INTJ, X can be asked"));
  const TaskRun doubled("pos", "data/tasks/words.conllu",
                        {"--input", "data/tasks/words.conllu", "--classes", "ADP", "--limit", "2"});
  CHECK(contains(doubled.result.err, "data/tasks/words.conllu is the same as data/tasks/words.conllu"));
  CHECK(items({"--per-class", "3", "--seed", "1"}).first != three);
  CHECK(items({"--per-class", "3", "--limit", "2"}).first.size() == 2);
  CHECK(items({"--min-prompt-chars", "50"}).first.size() < items({"--min-prompt-chars", "20"}).first.size());
}

TEST_CASE("calibration: tables of a corpus") {
  const TaskRun run("calibration", "data/corpora/letter.txt", {"--limit", "3"});
  CHECK(names_of_tables(run.finished) == std::set<std::string>{"lens.quality", "calibration.early_exit",
                                                               "calibration.rank_mass",
                                                               "calibration.frequency_bias"});
  const auto positions = run.count("positions");
  for (const Json& row : run.finished.rows("calibration.early_exit")) {
    CHECK(row.at("count") == positions);
    CHECK(row.at("speedup_bound").get<double>() ==
          Approx(12 / row.at("mean_layer").get<double>()).epsilon(1e-12));
  }
  std::map<std::int64_t, double> sums;
  for (const Json& row : run.finished.rows("calibration.frequency_bias")) {
    const auto layer = row.at("layer").get<std::int64_t>();
    const double kl = row.at("kl_corpus");
    CHECK(kl >= -1e-9);
    if (row.at("bucket") != "all") {
      sums[layer] -= kl;
      continue;
    }
    sums[layer] += kl;
    CHECK(row.at("predicted_share").get<double>() == Approx(1).margin(1e-5));
    CHECK(row.at("corpus_share") == 1);
  }
  CHECK(sums.size() == 13);
  for (const auto& [layer, sum] : sums) CHECK(sum == Approx(0).margin(1e-9));
  // The mass of the first rank is that of the records' first guesses.
  for (const Json& row : run.finished.rows("calibration.rank_mass")) {
    if (row.at("rank") != 1) continue;
    const auto layer = row.at("layer").get<std::size_t>();
    CHECK(row.at("mean_probability").get<double>() ==
          Approx(mean_of(
                     run.finished, [](const Json&) { return true; },
                     [&](const Json& record) {
                       return std::exp(
                           double{record.at("lenses").at("logit").at("top_logprobs")[layer][0].get<float>()});
                     }))
              .epsilon(1e-9));
  }
}

TEST_CASE("tasks: a second run and another number of threads give the same bytes") {
  const std::vector<std::pair<std::string, Arguments>> runs = {
      {"facts,exit", {"--input", "data/tasks/facts.jsonl", "--limit", "12"}},
      {"choices", {"--input", "data/tasks/choices.jsonl", "--limit", "4"}},
      {"pos", {"--input", "data/tasks/words.conllu", "--per-class", "6"}},
      {"calibration", {"--input", "data/corpora/letter.txt", "--limit", "2"}}};
  const TemporaryFolder temporary;
  for (const auto& [experiments, arguments] : runs) {
    std::map<std::string, std::string> expected;
    for (const std::string threads : {"1", "1", "2"}) {
      const fs::path out = temporary.path() / experiments;
      check_done(Arguments{"analyze", "--experiment", experiments, "--out", out.string(), "--overwrite",
                           "--threads", threads} +
                 arguments);
      const auto found = lasting_files(out);
      if (expected.empty()) expected = found;
      CHECK(found.size() == expected.size());
      for (const auto& [name, bytes] : expected) {
        INFO(experiments << ", " << name << " with --threads " << threads);
        CHECK((found.count(name) == 1 && found.at(name) == bytes));
      }
    }
  }
}

TEST_CASE("tasks: several inputs are one task, stdin and gzip are inputs too") {
  const Bench bench;
  const std::string one = bench.file(kFact + "\n", "one.jsonl"),
                    two = bench.file(gzip(R"([{"prompt": "the rain is", "answer": "on"}])"), "two.json.gz");
  const Arguments small = {"--model", bench.model.path(), "--keep", "all"};
  const TaskRun both("facts", one, small + Arguments{"--input", two});
  CHECK(both.count("documents") == 2);
  CHECK(both.finished.run.at("inputs").size() == 2);
  CHECK(both.finished.run.at("inputs")[1].at("documents") == 1);
  CHECK(both.finished.records.back().at("document") == 1);
  CHECK(both.finished.records.back().at("item") == "0");
  check_done(Start{.arguments = bench.command("facts", "-", {"--keep", "all"}), .input = kFact});
  CHECK(FinishedRun::read(bench.out).records.at(0).at("item") == "tide");
}

TEST_CASE("tasks: what cannot be asked") {
  const Bench bench;
  const std::string fact = bench.file(kFact);
  // Experiments and flags.
  bench.refuse(
      2, {"experiments that need different inputs", "trajectory,facts", "hint: run them one after the other"},
      "trajectory,facts", fact);
  bench.refuse(2, {"experiments that need different inputs"}, "facts,choices", fact);
  bench.refuse(2, {"--keep", "some"}, "facts", fact, {"--keep", "some"});
  bench.refuse(2, {"--whitespace-retry"}, "facts", fact, {"--whitespace-retry", "maybe"});
  bench.refuse(2, {"--per-class"}, "pos", fact, {"--per-class", "-1"});
  bench.refuse(2, {"--min-prompt-chars"}, "pos", fact, {"--min-prompt-chars", "many"});
  const std::string words = bench.file("1\tthe\t_\tDET\t_\t_\t_\t_\t_\t_\n", "words.conllu");
  bench.refuse(2, {"not a word class", "--classes DET,BOGUS", "ADJ, ADP", "found 'BOGUS'"}, "pos", words,
               {"--classes", "DET,BOGUS"});
  bench.refuse(2, {"found 'noum'", "did you mean 'NOUN'?"}, "pos", words, {"--classes", "noum"});
  bench.refuse(2, {"no word class is named", "--classes ,"}, "pos", words, {"--classes", ","});
  const std::string question =
      bench.file(R"({"prompt": "the sea is", "options": ["a", "t"], "answer": 0})", "q.jsonl");
  bench.refuse(2, {"have no effect", "--options on,in"}, "choices", question, {"--options", "on,in"});
  bench.refuse(2, {"stdin", "--input -", "hint: --experiment facts,exit"}, "exit", "-");
  bench.refuse(2, {"stdin", "--input -"}, "facts", "-", {"--input", "-"});
  // Files.
  bench.refuse(3, {"cannot read", "missing.jsonl"}, "facts", "missing.jsonl");
  bench.refuse(3, {"cannot read", "missing.jsonl"}, "exit", "missing.jsonl");
  bench.refuse(3, {"cannot read", "found a folder"}, "facts", bench.model.path());
  bench.refuse(3, {"unusable options", "line 1"}, "choices", fact);  // one answer in the file
}

TEST_CASE("tasks: files that cannot be used end with 3") {
  const Bench bench;
  const auto refused = [&](const std::string& experiments, const std::string& name, const std::string& bytes,
                           const std::vector<std::string>& parts, const Arguments& more = {}) {
    bench.refuse(3, parts, experiments, bench.file(bytes, name), more);
  };
  refused("facts", "a.jsonl", "", {"no item is left to ask", "a.jsonl", "found none in the file"});
  refused("exit", "a.jsonl", "[]", {"no item is left to ask"});
  refused("facts", "a.jsonl", "{\"prompt\": \"a\"}\n", {"missing key 'answer'", "a.jsonl, line 1"});
  refused("facts", "a.jsonl", "{", {"not valid JSON", "a.jsonl, line 1"});
  refused("exit", "a.jsonl", "{", {"not valid JSON", "a.jsonl, line 1"});
  refused("facts", "a.jsonl", "{\"prompt\": \"a\", \"answer\": \"\xff\"}", {"not UTF-8 text", "byte 28"});
  refused("exit", "a.txt", "the sea is wide\n", {"not a task file", "a.txt, line 1", "CoNLL-U"});
  refused("facts", "a.jsonl.gz", gzip(kFact).substr(0, 30), {"damaged gzip file", "a.jsonl.gz"});
  // The small tokenizer has no capital letters.
  refused("facts", "a.jsonl", R"({"prompt": "BIG", "answer": "sea"})",
          {"no item is left to ask", "expected at least one", "dropped: 1 without tokens"},
          {"--add-bos", "no"});
  refused("facts", "a.jsonl",
          R"({"prompt": "the water of the harbour was still, and a boat came in", "answer": "on"})",
          {"no item is left to ask", "1 longer than a window"});
  refused("choices", "a.jsonl",
          R"({"id": "q1", "prompt": "the sea", "options": ["wide", "rude"], "answer": 0})",
          {"the options 'wide' and 'rude' have the same token", "item q1"});
  refused("choices", "a.jsonl", R"({"prompt": "the sea", "options": ["on", "on"], "answer": 0})",
          {"an option stands twice", "line 1", "'on'"});
  refused("choices", "a.jsonl", R"({"prompt": "the sea", "options": ["on", "in"], "answer": "off"})",
          {"the answer is none of the options", "on, in", "'off'"});
  refused("choices", "a.jsonl", R"({"prompt": "the sea", "answer": "off"})",
          {"the answer is none of the options"}, {"--options", "on,in"});
  refused("pos", "a.conllu", "1\tthe\n", {"not a line of CoNLL-U", "a.conllu, line 1", "found 2"});
  refused("pos", "a.conllu", "1\tthe\t_\tDET\t_\t_\t_\t_\t_\t_\n",
          {"no item is left to ask", "1 with too little text before the word"});
  refused("exit", "a.conllu", "1\tthe\n", {"not a line of CoNLL-U"});
  refused("exit", "a.conllu.gz", gzip("1\tthe\n"), {"not a line of CoNLL-U", "a.conllu.gz, line 1"});
}

TEST_CASE("tasks: no answer that the model says leaves empty tables and a warning") {
  const Bench bench;
  const Result result = check_done(bench.command(
      "facts", bench.file(R"({"prompt": "the sea is", "answer": "z"})"), {"--whitespace-retry", "no"}));
  CHECK(contains(result.err, "none of the answers is what the model says itself"));
  CHECK(contains(result.err, "--keep all"));
  const FinishedRun run = FinishedRun::read(bench.out);
  CHECK(run.records.empty());
  CHECK(run.rows("facts.rank").empty());
  CHECK(run.run.at("counts").at("dropped") == OrderedJson{{"positions_not_predicted", 2}});
}

}  // namespace depthlens::test
