// One run done by many: shares, their merge, interruptions, going on.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <map>

#include "desk.hpp"

namespace depthlens::test {
namespace {

using util::Json;
using Words = std::vector<std::string>;

void check_same(const fs::path& a, const fs::path& b) {
  const auto first = lasting_files(a), second = lasting_files(b);
  std::vector<std::string> names, other_names;
  for (const auto& [name, bytes] : first) names.push_back(name);
  for (const auto& [name, bytes] : second) other_names.push_back(name);
  CHECK(names == other_names);
  for (const auto& [name, bytes] : first) {
    INFO(name);
    CHECK((second.count(name) > 0 && second.at(name) == bytes));
  }
}

struct Case {
  std::string name;
  std::vector<std::string> command;
};

/// A model, inputs of every kind, and a command for each.
struct PartsDesk : Desk {
  std::vector<Case> cases() const {
    std::string text, facts, pairs, choices;
    for (int i = 0; i < 12; ++i) text += small_text() + "\n";
    for (int i = 0; i < 30; ++i) {
      const std::string id = std::to_string(i);
      const std::string word(1, static_cast<char>('a' + i % 26));
      facts += R"({"id": ")" + id + R"(", "prompt": "the man )" + word + (i < 26 ? "" : word) +
               R"( sat on", "answer": "the )" + (i % 2 == 0 ? "a" : "the man") + "\"}\n";
      choices += R"({"id": ")" + id + R"(", "prompt": "and )" + word + (i < 26 ? "" : word) +
                 R"( or", "options": ["a", "b", "c"], "answer": )" + std::to_string(i % 3) + "}\n";
    }
    const std::string corpus = file("text.txt", text), fact_file = file("facts.jsonl", facts),
                      choice_file = file("choices.jsonl", choices);
    const auto of = [&](const std::string& input, std::vector<std::string> more) {
      std::vector<std::string> all = {"analyze", "--model", model.path(), "--input", input};
      return all + more;
    };
    std::vector<std::string> eval = of(corpus, {"--max-length", "16"});
    eval[0] = "eval-lens";
    return {
        {"corpus", of(corpus, {"--experiment", "trajectory,frequency,flips,settling,calibration",
                               "--max-length", "16"})},
        {"last", of(corpus, {"--positions", "last", "--max-length", "8", "--watch", "#1"})},
        {"sample", of(corpus, {"--positions", "sample:50", "--max-records", "20", "--max-length", "16"})},
        {"facts", of(fact_file, {"--experiment", "facts,exit", "--keep", "all", "--max-records", "9"})},
        {"asked again", of(fact_file, {"--experiment", "facts", "--whitespace-retry", "yes"})},
        {"choices", of(choice_file, {"--experiment", "choices", "--keep", "all", "--records", "none"})},
        {"compressed", of(corpus, {"--records", "jsonl.zst", "--max-length", "16"})},
        {"few fields", of(fact_file, {"--experiment", "facts", "--keep", "all", "--records", "jsonl.zst",
                                      "--record-fields", "target_rank,entropy"})},
        {"evaluation", eval},
    };
  }
};

/// The shares of `count`, done one after the other.
std::vector<std::string> shares(const Desk& desk, const std::vector<std::string>& command, int count,
                                const std::string& prefix) {
  std::vector<std::string> folders;
  for (int i = 0; i < count; ++i) {
    folders.push_back(desk.model.beside(prefix + std::to_string(i)).string());
    check_done((command +
                Words{"--shard", std::to_string(i) + "/" + std::to_string(count), "--out", folders.back()}));
  }
  return folders;
}

}  // namespace

TEST_CASE("shares of a run, merged in any order, are the run to the last byte") {
  const PartsDesk desk;
  for (const Case& one : desk.cases()) {
    INFO(one.name);
    const fs::path whole = desk.model.beside("whole-" + one.name);
    check_done((one.command + Words{"--out", whole.string()}));
    CHECK_FALSE(fs::exists(whole / "parts"));
    std::vector<std::string> folders = shares(desk, one.command, 3, "share-" + one.name + "-");
    const Json share = read_json(fs::path(folders[1]) / "run.json");
    CHECK(share.at("shard") == Json({{"index", 1}, {"count", 3}}));
    CHECK(share.at("status") == "complete");
    CHECK(has_saved_parts(folders[1]));
    std::rotate(folders.begin(), folders.begin() + 1, folders.end());
    const fs::path merged = desk.model.beside("merged-" + one.name);
    check_done(((Words{"merge"} + folders) + Words{"--out", merged.string()}));
    check_same(whole, merged);
    CHECK_FALSE(fs::exists(merged / "parts"));
  }
}

TEST_CASE("files of other programs are neither replaced nor removed") {
  const PartsDesk desk;
  const std::vector<std::string> command = {"analyze", "--model", desk.model.path(), "--input",
                                            desk.file("short.txt", "the man sat\n")};
  for (const char* name : {"tables/mine.csv", "tables/lens.quality.csv", "replicates/mine.npy", "report.html",
                           "summary.json", "records.jsonl", "parts/chapter/thesis.txt", "parts/notes.txt"}) {
    const fs::path out = desk.model.beside("with") / fs::path(name).filename(), file = out / name;
    fs::create_directories(file.parent_path());
    write_bytes(file, "mine");
    for (const char* flag : {"--quiet", "--resume", "--overwrite"}) {
      INFO(name << " " << flag);
      check_error((command + Words{"--out", out.string(), flag}), 6, {});
      CHECK(read_bytes(file) == "mine");
    }
  }

  // What a run has not made stays when it is replaced.
  const fs::path out = desk.model.beside("out");
  check_done((command + Words{"--out", out.string()}));
  for (const char* name : {"tables/mine.csv", "replicates/mine.npy", ".new-ideas"})
    write_bytes(out / name, "mine");
  check_done((command + Words{"--out", out.string(), "--overwrite", "--experiment", "trajectory"}));
  for (const char* name : {"tables/mine.csv", "replicates/mine.npy", ".new-ideas"})
    CHECK(read_bytes(out / name) == "mine");
  CHECK(fs::exists(out / "tables/lens.quality.csv"));
  CHECK_FALSE(fs::exists(out / "tables/frequency.top1.csv"));
}

TEST_CASE("what was saved stays until something else is") {
  const PartsDesk desk;
  const std::vector<std::string> command = {"analyze", "--model", desk.model.path(), "--input",
                                            desk.file("short.txt", "the man sat\nthe ship\n")};
  const std::vector<std::string> folders = shares(desk, command, 2, "s");
  const auto saved = [](const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder / "parts"))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  };
  const std::vector<std::string> before = saved(folders[0]);
  const Words again = {"--shard", "0/2", "--out", folders[0], "--overwrite"};
  check_error((command + again) + Words{"--input", desk.model.beside("missing.txt").string()}, 3, {});
  check_error((command + again) + Words{"--lens", "tuned:" + desk.model.beside("missing").string()}, 3, {});
  CHECK(saved(folders[0]) == before);
  check_done(command + again);
  CHECK(saved(folders[0]) != before);
  CHECK(has_saved_parts(folders[0]));

  // Merged into the folder of a run that was saved, the result is the run's, and nothing goes on beside it.
  const fs::path whole = desk.model.beside("whole"), merged = desk.model.beside("merged");
  check_done((command + Words{"--out", whole.string()}));
  fs::copy(folders[1], merged, fs::copy_options::recursive);
  check_done((Words{"merge"} + folders) + Words{"--out", merged.string(), "--overwrite"});
  check_same(whole, merged);
  CHECK_FALSE(fs::exists(merged / "parts"));
}

TEST_CASE("more shares than there is to do") {
  const PartsDesk desk;
  const std::string input = desk.file("short.txt", "the man sat\n");
  const std::vector<std::string> command = {"analyze", "--model", desk.model.path(), "--input", input};
  const fs::path whole = desk.model.beside("whole"), merged = desk.model.beside("merged");
  check_done((command + Words{"--out", whole.string()}));
  check_done(((Words{"merge"} + shares(desk, command, 4, "s")) + Words{"--out", merged.string()}));
  check_same(whole, merged);
}

TEST_CASE("a run that was killed goes on, and comes to the same bytes") {
  const PartsDesk desk;
  std::string text;
  for (int i = 0; i < 600; ++i) text += small_text() + "\n";
  const std::string input = desk.file("long.txt", text);
  const std::vector<std::string> command = {"analyze",      "--model", desk.model.path(), "--input", input,
                                            "--max-length", "16",      "--threads",       "1"};
  const fs::path whole = desk.model.beside("whole"), out = desk.model.beside("out");
  check_done((command + Words{"--out", whole.string()}));
  const std::vector<std::string> resumed = (command + Words{"--out", out.string(), "--resume"});
  for (const int signal : {SIGKILL, SIGTERM, SIGKILL}) {
    INFO("signal " << signal);
    fs::path before;  // what was saved last
    for (const auto& entry : fs::directory_iterator(out / "parts", *std::make_unique<std::error_code>())) {
      if (entry.path().extension() == ".state") before = entry.path();
    }
    Process process(Start{.arguments = resumed});
    const auto saved_more = [&] { return has_saved_parts(out) && (before.empty() || !fs::exists(before)); };
    while (process.running() && !saved_more()) ::usleep(1000);
    if (!process.running()) break;  // it was too quick
    process.send(signal);
    const Result result = process.wait();
    INFO(result.err);
    if (signal == SIGTERM) CHECK(result.status == 130);
    check_error((command + Words{"--out", out.string()}), 6, {"was not finished", "--resume"});
  }
  check_done(resumed);
  check_same(whole, out);
  CHECK_FALSE(fs::exists(out / "parts"));

  // A complete run is left as it is.
  const auto time = fs::last_write_time(out / "run.json");
  const Result again = run_program(resumed);
  CHECK(again.status == 0);
  CHECK(contains(again.err, "the run is complete"));
  CHECK(fs::last_write_time(out / "run.json") == time);
  check_same(whole, out);
  check_error((resumed + Words{"--seed", "1"}), 2, {"another run", "settings.seed: 0 and 1"});
}

TEST_CASE("going on with something else is refused by name, and loses nothing") {
  const PartsDesk desk;
  std::string text;
  for (int i = 0; i < 600; ++i) text += small_text() + "\n";
  const std::string input = desk.file("long.txt", text);
  const fs::path out = desk.model.beside("out");
  const std::vector<std::string> command = {"analyze", "--model",    desk.model.path(), "--input", input,
                                            "--out",   out.string(), "--threads",       "1"};
  {
    Process process(Start{.arguments = command});
    while (process.running() && !has_saved_parts(out)) ::usleep(1000);
    REQUIRE(process.running());
    check_error((command + Words{"--resume"}), 6, {"another process is at work"});
    check_error((command + Words{"--overwrite"}), 6, {"another process is at work"});
    process.send(SIGKILL);
    process.wait();
  }
  const auto refused = [&](const std::vector<std::string>& more, const std::string& found) {
    check_error((command + (Words{"--resume"} + more)), 2, {"another run", found});
    CHECK(has_saved_parts(out));
  };
  refused({"--max-length", "7"}, "settings.max_length: ");
  refused({"--positions", "last"}, "settings.positions: \"all\" and \"last\"");
  refused({"--lens", "logit", "--lens", "b=logit"}, "lenses");
  write_bytes(input, text + "\nmore\n");
  refused({}, "inputs[0].sha256: ");
  write_bytes(input, text);
  Words changed = command + Words{"--resume"};
  changed[2] = desk.model.beside("changed").string();
  fs::copy(desk.model.path(), changed[2], fs::copy_options::recursive);
  Safetensors weights = desk.model.weights();
  weights.data.back() ^= 1;
  write_bytes(fs::path(changed[2]) / "model.safetensors", weights.bytes());
  check_error(changed, 2, {"another run", "model: "});
  check_error((command + Words{"--resume", "--overwrite"}), 2, {"--resume and --overwrite"});
  // The same model elsewhere is the same.
  fs::copy(desk.model.path(), desk.model.beside("copy"), fs::copy_options::recursive);
  changed[2] = desk.model.beside("copy").string();
  check_done(changed);
  CHECK(read_json(out / "run.json").at("status") == "complete");
}

TEST_CASE("going on where nothing is starts anew; an interrupted run can be replaced") {
  const PartsDesk desk;
  std::string text;
  for (int i = 0; i < 600; ++i) text += small_text() + "\n";
  const std::string input = desk.file("long.txt", text), other = desk.file("other.txt", small_text());
  const fs::path out = desk.model.beside("out");
  Process process(
      Start{.arguments = desk.command("analyze", {input}, "out", {"--resume", "--threads", "1"})});
  while (process.running() && !has_saved_parts(out)) ::usleep(1000);
  REQUIRE(process.running());
  process.send(SIGKILL);
  process.wait_unasked();  // a parent may never ask: the folder is free
  check_done(desk.command("analyze", {other}, "out", {"--overwrite"}));
  check_done(desk.command("analyze", {other}, "fresh", {"--resume"}));
  check_same(desk.model.beside("fresh"), out);
  CHECK_FALSE(fs::exists(out / "parts"));
}

TEST_CASE("a run of one share is a share, and a share that draws no page belongs to those that do") {
  const PartsDesk desk;
  const Words command = desk.cases()[0].command;
  const std::string whole = desk.model.beside("whole").string(),
                    merged = desk.model.beside("merged").string();
  check_done(command + Words{"--out", whole});
  const std::vector<std::string> one = shares(desk, command, 1, "one");
  CHECK(read_json(fs::path(one[0]) / "run.json").at("shard") == Json({{"index", 0}, {"count", 1}}));
  check_error(command + Words{"--out", one[0], "--resume"}, 2, {"another share", "the whole run"});
  check_done(command + Words{"--out", one[0], "--resume", "--shard", "0/1"});
  check_error(Words{"merge"} + one + Words{"--out", one[0], "--overwrite"}, 2, {"would replace a share"});
  check_done(Words{"merge"} + one + Words{"--out", merged});
  check_same(whole, merged);

  std::vector<std::string> two = shares(desk, command, 2, "two");
  check_done(command + Words{"--out", two[1], "--shard", "1/2", "--report", "no", "--overwrite"});
  check_done(Words{"merge"} + two + Words{"--out", merged, "--overwrite"});
  check_same(whole, merged);
}

TEST_CASE("a complete run is left as it is, also where nothing can be written") {
  const PartsDesk desk;
  const Words command = desk.cases()[0].command + Words{"--out", desk.model.beside("out").string()};
  check_done(command);
  write_bytes(desk.model.beside("out") / "parts", "in the way of a folder");
  const Result result = check_done(command + Words{"--resume"});
  CHECK(contains(result.err, "the run is complete"));
  check_error(command + Words{"--resume", "--seed", "1"}, 2, {"settings.seed"});
}

TEST_CASE("a complete run that another process is to replace is told as complete, and that one is let be") {
  const PartsDesk desk;
  const fs::path out = desk.model.beside("out");
  const auto command = [&](const std::string& input, const std::string& flag) {
    return desk.command("analyze", {input}, "out", {"--threads", "1", flag});
  };
  const std::string small = desk.file("short.txt", small_text());
  check_done(command(small, "--quiet"));
  std::string text;
  for (int i = 0; i < 100; ++i) text += small_text() + "\n";
  Process other(Start{.arguments = command(desk.file("long.txt", text), "--overwrite")});
  while (other.running() && !fs::exists(out / "parts" / "lock")) ::usleep(1000);
  other.send(SIGSTOP);
  REQUIRE(fs::exists(out / "parts" / "lock"));
  const Result result = check_done(command(small, "--resume"));
  CHECK(contains(result.err, "the run is complete"));
  CHECK(fs::exists(out / "parts" / "lock"));
  other.send(SIGCONT);
  CHECK(other.wait().status == 0);
  CHECK(contains(read_bytes(out / "run.json"), "long.txt"));
}

TEST_CASE("merge takes shares whose flags say the same in other words") {
  const PartsDesk desk;
  const std::string input = desk.file("short.txt", small_text() + "\n" + small_text());
  const auto run = [&](const std::string& out, const Words& more) {
    check_done(desk.command("analyze", {input}, out, more));
    return desk.model.beside(out).string();
  };
  const std::string whole = run("whole", {"--experiment", "flips,settling"});
  const std::string first = run("s0", {"--shard", "0/2", "--experiment", "flips,settling"});
  const std::string second =
      run("s1", {"--shard", "1/2", "--experiment", "flips, settling", "--layers", "every:1"});
  check_done({"merge", first, second, "--out", desk.model.beside("merged").string()});
  check_same(whole, desk.model.beside("merged"));
}

TEST_CASE("merge refuses what does not belong together, with the difference") {
  const PartsDesk desk;
  const std::vector<std::string> command = desk.cases()[0].command;
  const std::vector<std::string> folders = shares(desk, command, 3, "s");
  const std::string out = desk.model.beside("out").string();
  const auto refused = [&](const std::vector<std::string>& given, int status,
                           const std::vector<std::string>& parts) {
    check_error(((Words{"merge"} + given) + Words{"--out", out}), status, parts);
    CHECK_FALSE(fs::exists(out));
  };
  refused({folders[0], folders[2]}, 2, {"shares are missing", "missing: 1"});
  refused({folders[0], folders[1], folders[1]}, 2, {"share 1 is there twice"});
  const std::vector<std::string> two = shares(desk, command, 2, "two");
  refused({folders[0], folders[2], two[1]}, 2, {"shares of different runs", "share 1 of 2"});
  const std::vector<std::string> seeded = shares(desk, (command + Words{"--seed", "5"}), 3, "seeded");
  refused({folders[0], seeded[1], folders[2]}, 2, {"shares of different runs", "settings.seed: 0 and 5"});
  const std::string whole = desk.model.beside("whole").string();
  check_done((command + Words{"--out", whole}));
  refused({folders[0], whole, folders[2]}, 2, {"a whole run"});
  refused({folders[0], desk.model.beside("nothing").string()}, 3, {"no such run folder"});
  refused({folders[0], desk.model.path()}, 2, {"holds no run"});
  refused({}, 2, {"no shares"});
  check_error({"merge", folders[0], folders[1], folders[2], "--out", whole}, 6, {"holds another run"});
  check_error({"merge", folders[0], folders[1], folders[2], "--out", folders[0]}, 2,
              {"would replace a share"});
  for (const char* own : {"parts", "tables/merged"}) {
    const std::string out = (fs::path(folders[1]) / own).string();
    check_error({"merge", folders[0], folders[1], folders[2], "--out", out}, 2,
                {"keeps for itself", "--out " + out});
  }

  // A partial share, and damaged ones.
  const fs::path copy = desk.model.beside("copy");
  fs::copy(folders[1], copy, fs::copy_options::recursive);
  const std::string run = read_bytes(copy / "run.json");
  std::string of_other_version = run;
  const std::string key = "\"version\": \"";
  REQUIRE(contains(run, key));
  of_other_version.insert(run.find(key) + key.size(), "0.0.0-");
  write_bytes(copy / "run.json", of_other_version);
  refused({folders[0], copy.string(), folders[2]}, 2,
          {"are of different runs", "depthlens.version", "0.0.0-"});
  std::string partial = run;
  partial.replace(partial.find("\"complete\""), 10, "\"partial\"");
  write_bytes(copy / "run.json", partial);
  refused({folders[0], copy.string(), folders[2]}, 2, {"not finished", "--resume"});
  write_bytes(copy / "run.json", run);
  for (const auto& entry : fs::directory_iterator(copy / "parts")) {
    const std::string bytes = read_bytes(entry.path());
    for (const std::size_t size : {bytes.size() / 2, std::size_t{0}, bytes.size() - 1}) {
      write_bytes(entry.path(), bytes.substr(0, size));
      const Result result =
          run_program((Words{"merge", folders[0], copy.string(), folders[2]} + Words{"--out", out}));
      CHECK(result.status == 4);
      CHECK(contains(result.err, "damaged"));
      CHECK_FALSE(fs::exists(out));
    }
    write_bytes(entry.path(), bytes);
  }
  check_done({"merge", folders[0], copy.string(), folders[2], "--out", out});
  check_same(whole, out);
  fs::remove_all(copy / "parts");
  check_error({"merge", folders[0], copy.string(), folders[2], "--out", desk.model.beside("other").string()},
              3, {"saved state of the share is not there", "parts/"});
}

TEST_CASE("a share is checked before anything is read") {
  const PartsDesk desk;
  const std::string input = desk.file("t.txt", small_text());
  for (const std::string share : {"3/3", "-1/3", "1", "a/b", "0/0", "auto"}) {
    INFO(share);
    check_error(desk.command("analyze", {input}, "out", {"--shard", share}), 2, {"--shard"});
    check_nothing_written(desk.model.beside("out"));
  }
  Start array{.arguments = desk.command("analyze", {input}, "out", {"--shard", "auto"})};
  array.environment = {{"SLURM_ARRAY_TASK_ID", "6"},
                       {"SLURM_ARRAY_TASK_MIN", "5"},
                       {"SLURM_ARRAY_TASK_COUNT", "3"},
                       {"SLURM_ARRAY_TASK_MAX", "7"}};
  CHECK(run_program(array).status == 0);
  CHECK(read_json(desk.model.beside("out") / "run.json").at("shard") == Json({{"index", 1}, {"count", 3}}));
}

}  // namespace depthlens::test
