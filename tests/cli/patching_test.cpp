// analyze --experiment patching, end to end: the files of a run, the table computed anew from the records,
// what is left out, and every kind of bad input.
#include <unistd.h>

#include <csignal>
#include <map>
#include <set>

#include "checks.hpp"
#include "support/finished_run.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

using util::Json;
using util::OrderedJson;

const std::vector<std::string> kPatching = {"analyze", "--experiment", "patching"};

std::string pair_line(const std::string& id, const std::string& source, const std::string& source_answer,
                      const std::string& target, const std::string& target_answer) {
  return OrderedJson({{"id", id},
                      {"source", {{"prompt", source}, {"answer", source_answer}}},
                      {"target", {{"prompt", target}, {"answer", target_answer}}}})
             .dump() +
         "\n";
}

/// The mean over records of the mean over a role's positions.
double mean_effect(const FinishedRun& run, const std::string& key, std::size_t layer, const std::string& role,
                   std::int64_t& count) {
  double sum = 0;
  count = 0;
  for (const Json& record : run.records) {
    double item = 0;
    int positions = 0;
    for (std::size_t p = 0; p < record.at("positions").size(); ++p) {
      if (record.at("positions")[p] != role || record.at(key)[layer][p].is_null()) continue;
      item += record.at(key)[layer][p].get<double>();
      ++positions;
    }
    if (positions == 0) continue;
    sum += item / positions;
    ++count;
  }
  return sum / static_cast<double>(count);
}

/// A model of random weights with many pairs of words.
struct Bench {
  SmallModel model;
  fs::path out = model.beside("out");
  std::string input = model.beside("pairs.jsonl").string();

  std::vector<std::string> command(const std::vector<std::string>& more = {}) const {
    return kPatching +
           std::vector<std::string>{"--model", model.path(), "--input", input, "--out", out.string()} + more;
  }
  void refused(const std::string& text, int status, const std::vector<std::string>& parts,
               const std::vector<std::string>& more = {}) const {
    write_bytes(input, text);
    check_error(command(more), status, parts);
    check_nothing_written(out);
  }
};

}  // namespace

TEST_CASE("patching of the bundled pairs: files, table and records agree, whatever the threads") {
  const TemporaryFolder temporary;
  const auto run_in = [&](const std::string& name, const std::vector<std::string>& more) {
    const fs::path folder = temporary.path() / name;
    check_done(kPatching +
               std::vector<std::string>{"--input", "data/tasks/pairs.jsonl", "--out", folder.string()} +
               more);
    return folder;
  };
  const fs::path folder = run_in("one", {"--threads", "1"});
  std::set<std::string> names;
  for (const auto& [name, bytes] : lasting_files(folder)) names.insert(name);
  CHECK(names == std::set<std::string>{"run.json", "records.jsonl", "report.html", "summary.json",
                                       "tables/patching.effect.csv", "replicates/patching.effect.npy"});

  const FinishedRun run = FinishedRun::read(folder);
  const auto pairs = static_cast<std::int64_t>(run.records.size());
  CHECK(pairs >= 12);
  CHECK(run.run.at("status") == "complete");
  CHECK(run.run.at("lenses").empty());
  CHECK(run.run.at("counts").at("documents") == pairs);  // the demo model knows all of them
  CHECK(run.run.at("counts").at("pairs") == pairs);
  CHECK(run.run.at("counts").at("dropped").empty());
  CHECK(run.run.at("settings").at("keep") == "correct");
  CHECK(run.run.at("self_check").at("positions") == 1);
  CHECK(run.run.at("self_check").at("final_layer_max_abs_error") < 1e-3);

  const auto rows = run.rows("patching.effect");
  REQUIRE(rows.size() == 13 * 5);
  for (const Json& row : rows) {
    const std::string role = row.at("position");
    const std::size_t layer = row.at("layer");
    INFO(layer << " " << role);
    for (const std::string key : {"log_probability_difference", "restored", "kl"}) {
      std::int64_t count = 0;
      const double mean = mean_effect(run, key, layer, role, count);
      CHECK(row.at("count") == count);
      CHECK(row.at(key).get<double>() == Approx(mean).margin(1e-5));
      CHECK(row.at(key + "_low").get<double>() <= row.at(key).get<double>() + 1e-9);
      CHECK(row.at(key + "_high").get<double>() >= row.at(key).get<double>() - 1e-9);
    }
    if (role != "last" && layer == 12) CHECK(row.at("kl") == 0);
    if (role == "last" && layer == 12) CHECK(row.at("restored") == 1);
  }
  for (const Json& record : run.records) {
    CHECK(record.at("source").at("final") == record.at("source").at("answer"));
    CHECK(record.at("target").at("final") == record.at("target").at("answer"));
    CHECK(record.at("source").at("log_probability_difference") > 0);
    CHECK(record.at("target").at("log_probability_difference") < 0);
    CHECK(record.at("restored").size() == 13);
  }
  CHECK(lasting_files(run_in("two", {"--threads", "2"})) == lasting_files(folder));

  const FinishedRun some = FinishedRun::read(run_in("some", {"--limit", "3", "--max-records", "2"}));
  CHECK(some.run.at("counts").at("pairs") == 3);
  CHECK(some.records.size() == 2);
  CHECK(some.run.at("counts").at("records_omitted") == 1);
  CHECK_FALSE(fs::exists(run_in("none", {"--records", "none"}) / "records.jsonl"));
}

TEST_CASE("patching: pairs that cannot be used are counted by reason") {
  const Bench bench;
  const std::string pairs = pair_line("lengths", "the tide", "come", "the tide.", "go") +  // longer
                            pair_line("same", "the tide", "come", "the tide", "go") +
                            pair_line("answers", "a man", "sang", "a men", "sang") +
                            pair_line("long", "a man a man a man a man a man", "the", "a", "a") +
                            pair_line("1", "a man", "the", "a men", "a") +
                            pair_line("2", "a b", "the", "a c", "a");
  write_bytes(bench.input, pairs);
  const Result all = check_done(bench.command({"--keep", "all", "--max-length", "9"}));
  CHECK(contains(all.err, "2 of 6 pairs count: 1 "));
  CHECK(contains(all.err, "1 with prompts of different lengths in tokens"));
  CHECK(contains(all.err, "see counts.dropped in run.json"));
  const FinishedRun run = FinishedRun::read(bench.out);
  const OrderedJson& counts = run.run.at("counts");
  CHECK(counts.at("documents") == 6);
  CHECK(counts.at("dropped") ==
        OrderedJson(
            {{"lengths_differ", 1}, {"longer_than_window", 1}, {"same_answer", 1}, {"same_prompt", 1}}));
  CHECK(counts.at("pairs") == 2);
  REQUIRE(run.records.size() == 2);
  CHECK(run.records[0].at("item") == "1");
  CHECK(run.records[0].at("document") == 4);

  // A model of random weights says none of the answers.
  const Result result = check_done(bench.command({"--overwrite", "--max-length", "9"}));
  CHECK(contains(result.err, "--keep all"));
  const FinishedRun strict = FinishedRun::read(bench.out);
  CHECK(strict.run.at("counts").at("dropped").at("not_predicted") == 2);
  CHECK(strict.records.empty());
  for (const Json& row : strict.rows("patching.effect")) {
    CHECK(row.at("count") == 0);
    CHECK(row.at("restored").is_null());
  }
}

TEST_CASE("patching: an array of pairs, and pairs from stdin") {
  const Bench bench;
  const std::string line = pair_line("1", "a man", "the", "a men", "a"),
                    other = pair_line("2", "a b", "the", "a c", "a");
  write_bytes(bench.input, "[" + line + "," + other + "," + line + "]");
  check_done(bench.command({"--keep", "all"}));
  const FinishedRun run = FinishedRun::read(bench.out);
  CHECK(run.records.size() == 2);
  CHECK(run.run.at("counts").at("documents") == 2);
  CHECK(run.run.at("counts").at("dropped") == OrderedJson({{"repeated_pair", 1}}));
  CHECK(contains(run.run.at("warnings").dump(), "repeated pairs: 1"));
  check_done(Start{.arguments = kPatching + std::vector<std::string>{"--model", bench.model.path(), "--input",
                                                                     "-", "--keep", "all", "--out",
                                                                     bench.out.string(), "--overwrite"},
                   .input = line});
  CHECK(FinishedRun::read(bench.out).records.size() == 1);
}

TEST_CASE("patching: bad input and wrong usage are reported in a line") {
  const Bench bench;
  const std::string good = pair_line("1", "a man", "the", "a men", "a");
  bench.refused("", 3, {"no pair is left", bench.input, "none in the file"});
  bench.refused(pair_line("1", "a man", "the", "a man", "a"), 3,
                {"no pair is left", "1 with the same prompt on both sides"});
  bench.refused("{\"prompt\": \"a\", \"answer\": \"b\"}", 3, {"line 1", "source"});
  bench.refused(good + "{\"id\": 2, \"source\": {\"prompt\": \"a\", \"answer\": \"b\"}}", 3,
                {"line 2", "target"});
  bench.refused("{\"source\": {\"prompt\": \"a\"}, \"target\": 3}", 3, {"line 1", "answer"});
  bench.refused("{\"source\": {\"prompt\": \" \", \"answer\": \"b\"}, \"target\": {}}", 3, {"not blank"});
  bench.refused("[" + good, 3, {bench.input});
  bench.refused("\xff\xfe", 3, {"not UTF-8"});
  write_bytes(bench.input, good);
  check_error({"analyze", "--experiment", "patching,facts", "--model", bench.model.path(), "--input",
               bench.input, "--out", bench.out.string()},
              2, {"different inputs", "--experiment patching,facts", "patching alone"});
  bench.refused(good, 2, {"no lens", "--lens"}, {"--lens", "tuned:x"});
  check_error(kPatching + std::vector<std::string>{"--model", bench.model.path(), "--out", bench.out.string(),
                                                   "--input", "/nonexistent"},
              3, {"/nonexistent"});
  check_nothing_written(bench.out);
}

TEST_CASE("patching: an interruption between pairs saves what was finished") {
  const Bench bench;
  std::string pairs;
  for (int i = 0; i < 20000; ++i) {
    std::string word;
    for (int n = i; word.size() < 4; n /= 26) word += static_cast<char>('a' + n % 26);
    pairs += pair_line(std::to_string(i), "and man sat on " + word, "the", "the man sat on " + word, "a");
  }
  write_bytes(bench.input, pairs);
  Process process(Start{.arguments = bench.command({"--keep", "all", "--max-records", "0"})});
  await_saved_parts(process, bench.out);
  process.send(SIGINT);
  const Result result = process.wait();
  INFO(result.err);
  CHECK(result.status == 130);
  const FinishedRun run = FinishedRun::read(bench.out);
  CHECK(run.run.at("status") == "partial");
  const OrderedJson& counts = run.run.at("counts");
  CHECK(counts.at("documents") == 20000);
  CHECK(counts.at("pairs") == run.records.size());
  CHECK(counts.at("pairs") < 20000);
  CHECK(run.rows("patching.effect").front().at("layer") == 0);
}

}  // namespace depthlens::test
