// How flags and settings files are read: what is refused, and that every message says where. And the first
// Ctrl-C, whatever the program is at.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <limits>
#include <set>
#include <sstream>

#include "checks.hpp"
#include "depthlens/util/json.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

using util::Json;

using Words = std::vector<std::string>;

const Words kCommands = {"analyze",      "show",         "train-lens", "eval-lens", "report",
                         "count-tokens", "convert-lens", "info",       "download"};

/// A flag as `--help` shows it: its name, and the line behind it, which begins with the type of a value.
struct Flag {
  std::string command, name, takes;
};

const std::vector<Flag>& all_flags() {
  static const std::vector<Flag> all = [] {
    std::vector<Flag> flags;
    for (const std::string& command : kCommands) {
      std::istringstream help(check_done({command, "--help"}).out);
      for (std::string line; std::getline(help, line);) {
        const std::size_t begin = line.find("--");
        if (begin == std::string::npos || line.find_first_not_of(' ') + 3 < begin) continue;
        const std::size_t end = line.find(' ', begin);
        const std::string takes = end == std::string::npos ? "" : line.substr(end + 1);
        flags.push_back({command, line.substr(begin, end - begin), takes});
      }
    }
    return flags;
  }();
  return all;
}

/// A small model, a text, and settings for it.
struct Bench {
  SmallModel model;
  std::string input = model.text_file();
  fs::path out = model.beside("out");
  std::string file = model.beside("settings.toml").string();

  Words command(const Words& more = {}) const {
    return Words{"analyze", "--model",    model.path(),   "--input", input,
                 "--out",   out.string(), "--max-length", "16"} +
           more;
  }
  void refuse(const Words& more, const Words& parts) const {
    check_error(command(more), 2, parts);
    check_nothing_written(out);
  }
  /// A file with `text` is refused, with the place and `parts` in the message.
  void refuse_file(const std::string& text, int line, const Words& parts, const Words& more = {}) const {
    INFO(text);
    write_bytes(file, text);
    refuse(Words{"--config", file} + more, Words{file + " line " + std::to_string(line)} + parts);
  }
};

}  // namespace

TEST_CASE("every flag that takes a number checks it") {
  std::set<std::string> seen;  // a name has one meaning in all commands but for its range
  for (const Flag& flag : all_flags()) {
    const bool number = flag.takes.rfind("INT", 0) == 0 || flag.takes.rfind("FLOAT", 0) == 0;
    if (!number || !seen.insert(flag.name).second) continue;
    check_error(
        {flag.command, flag.name, "010"}, 2,
        {"unusable value, " + flag.name + "; expected a", "found '010'", "hint: plain decimal digits"});
  }
  CHECK(seen.size() >= 20);
  for (const std::string value : {"3:0x1", "3:nan", "3: 0.5", "3:"})
    check_error({"train-lens", "--input", "x", "--out", "y", "--damp-frequent", value}, 2,
                {"--damp-frequent", "found '" + value + "'"});
  check_error({"analyze", "--limit", "-1"}, 2, {"expected an integer from 0 to 2^63 - 1, found '-1'"});

  const Bench bench;
  check_done(bench.command({"--seed", "-9223372036854775808", "--limit", "9223372036854775807"}));
  const Json settings = read_json(bench.out / "run.json").at("settings");
  CHECK(settings.at("seed") == std::numeric_limits<std::int64_t>::min());
  CHECK(settings.at("limit") == std::numeric_limits<std::int64_t>::max());
}

TEST_CASE("words are reported in the order given, and an empty one is reported") {
  const Bench bench;
  for (const std::string flag : {"--model", "--config", "--out", "--input", "--lens", "--token-counts"})
    check_error({"analyze", flag, ""}, 2, {"an empty value, " + flag, "hint: an unset variable"});
  check_error({"train-lens", "--init", ""}, 2, {"an empty value, --init"});
  for (const Words& words : {Words{"show", ""}, {"info", ""}, {"report", ""}, {"convert-lens", "a", ""}})
    check_error(words, 2, {"an empty value"});
  check_error({"show", "one", "two", "three"}, 2, {"unexpected arguments, show; found 'two', 'three'"});
  bench.refuse({"--tok-k", "3"}, {"unknown flag '--tok-k', analyze", "hint: did you mean '--top-k'?"});
  check_error(Words{}, 2, {"no command; expected one of analyze", "hint: depthlens --help"});
  check_error({"--quiet", "analyze"}, 2, {"flags stand behind the command: '--quiet'"});
  check_error({""}, 2, {"no command"});

  check_error({"report", "--out=--x", "--compare", "{}", "[a,b]"}, 3, {"{}"});
  check_error({"analyze", "--model", bench.model.path(), "--input=[a,b].txt", "--out", bench.out.string()}, 3,
              {"[a,b].txt"});
  const Words show = {"show", "--model", bench.model.path(), "--json"};
  for (const std::string text : {"--the tide", "[a,b]", "-5 men"})
    CHECK(Json::parse(check_done(show + Words{"--", text}).out).at("text") == text);
  CHECK(Json::parse(check_done(show + Words{"-5 men"}).out).at("text") == "-5 men");
}

TEST_CASE("a flag that has no effect in a run is refused") {
  const Bench bench;
  const auto refused = [&](const Words& words, const std::string& flag, const std::string& needs) {
    check_error(words, 2, {"this flag has no effect in this run, " + flag + "; expected " + needs});
  };
  const auto analyze = [&](const Words& more) { return bench.command(more); };
  for (const Words& flag : {Words{"--keep", "all"},
                            {"--whitespace-retry", "no"},
                            {"--classes", "NOUN"},
                            {"--min-prompt-chars", "3"},
                            {"--per-class", "3"},
                            {"--options", "A,B"}})
    refused(analyze(flag), flag[0], "");
  for (const std::string experiment : {"facts", "choices", "pos", "patching"})
    refused(analyze({"--experiment", experiment, "--positions", "last"}), "--positions", "a corpus");
  for (const std::string flag : {"--classes", "--min-prompt-chars", "--per-class"})
    refused(analyze({"--experiment", "facts", flag, "3"}), flag, "words (pos)");
  refused(analyze({"--experiment", "pos,exit", "--options", "A,B"}), "--options", "questions (choices)");
  refused(analyze({"--experiment", "patching", "--whitespace-retry", "no"}), "--whitespace-retry", "a task");
  for (const Words& flag :
       {Words{"--lens", "logit"}, {"--decode", "fast"}, {"--top-k", "3"}, {"--allow-lens-mismatch"}})
    refused(analyze(Words{"--experiment", "patching"} + flag), flag[0], "an experiment with a lens");
  for (const std::string experiment : {"trajectory", "settling", "facts", "choices,exit"}) {
    refused(analyze({"--experiment", experiment, "--buckets", "3"}), "--buckets",
            "an experiment that counts");
    refused(analyze({"--experiment", experiment, "--token-counts", "x"}), "--token-counts", "an exp");
  }
  refused(analyze({"--records", "none", "--max-records", "3"}), "--max-records", "records");
  const std::string jacobian = "jacobian:" + bench.model.lens("jacobian.pt");
  for (const std::string command : {"analyze", "eval-lens"}) {
    const Words all = {command,     "--model", bench.model.path(), "--input",
                       bench.input, "--out",   bench.out.string()};
    refused(all + Words{"--lens", jacobian, "--lens-alignment", "paper"}, "--lens-alignment", "a tuned lens");
    refused(all + Words{"--allow-lens-mismatch"}, "--allow-lens-mismatch", "a lens from a file");
  }
  refused({"show", "text", "--lens-alignment", "paper"}, "--lens-alignment", "a tuned lens");
  refused({"show", "text", "--top-k", "3"}, "--top-k", "--json");
  for (const Words& flag : {Words{"--value", "rank"}, {"--numbers"}, {"--width", "50"}, {"--color", "never"}})
    refused(Words{"show", "text", "--json"} + flag, flag[0], "the table, found --json");

  const Words train = {"train-lens", "--out", bench.out.string()};
  for (const Words& flag : {Words{"--layers", "0-1"},
                            {"--join", "x"},
                            {"--steps", "3"},
                            {"--bias-only"},
                            {"--keep", "best"},
                            {"--damp-frequent", "3:0.5"},
                            {"--token-counts", "x"},
                            {"--optimizer", "adam"}})
    refused(train + Words{"--type", "jacobian", "--input", "x"} + flag, flag[0], "--type tuned");
  for (const Words& flag : {Words{"--prompts", "3"}, {"--shard", "0/2"}, {"--from-sums", "x"}})
    refused(train + Words{"--input", "x"} + flag, flag[0], "--type jacobian");
  const Words sums = train + Words{"--type", "jacobian", "--from-sums", "x"};
  for (const Words& flag : {Words{"--input", "x"},
                            {"--shard", "0/2"},
                            {"--prompts", "3"},
                            {"--limit", "3"},
                            {"--resume"},
                            {"--max-length", "30"}})
    refused(sums + flag, flag[0], "a fit, found --from-sums");
  for (const Words& flag : {Words{"--input", "x"}, {"--steps", "3"}, {"--model", "x"}, {"--layers", "1"}})
    refused(train + Words{"--join", "x"} + flag, flag[0], "a training, found --join");
  refused(train + Words{"--input", "x", "--damp-mode", "vocabulary"}, "--damp-mode", "--damp-frequent");
  refused(train + Words{"--input", "x", "--token-counts", "x"}, "--token-counts", "--damp-frequent");
  refused(train + Words{"--input", "x", "--optimizer", "adam", "--momentum", "0.5"}, "--momentum",
          "--optimizer sgd or muon");
  refused(train + Words{"--input", "x", "--validation-tokens", "0", "--validate-every", "3"},
          "--validate-every", "--validation-tokens above 0");
  check_nothing_written(bench.out);
  // The default of such a flag asks for nothing that does not happen.
  check_done(analyze(
      {"--keep", "correct", "--lens-alignment", "trained", "--records", "none", "--max-records", "20000"}));
}

TEST_CASE("errors of settings files name file, line and key, wherever they are found") {
  const Bench bench;
  bench.refuse_file("seed = 1\ntop-k = = 3\n", 2, {"not valid TOML", "found 'top-k = = 3'"});
  bench.refuse_file("seed = 1\n\ntopk = 3\n", 3, {"unknown key 'topk'", "did you mean 'top-k'?"});
  bench.refuse_file("help = true\n", 1, {"unknown key 'help'"});
  bench.refuse_file("top-k = \"3\"\n", 1, {": top-k; expected an integer, found the string '3'"});
  bench.refuse_file("limit = -1\n", 1, {"unusable value", ": limit"});
  bench.refuse_file("# edges\nbuckets = [9, 3]\n", 2, {": buckets", "rising"});
  bench.refuse_file("experiment = \"flips,setling\"\n", 1, {"unknown experiment 'setling'", ": experiment"});
  bench.refuse_file("device = \"gpu\"\n", 1, {"unknown device", ": device"});
  bench.refuse_file("device = [\"cuda:3\", \"cuda:3\"]\n", 1, {"a device is named twice", ": device"});
  bench.refuse_file("lens = [\"logit\", \"logits\"]\n", 1, {"unusable lens", ": lens"});
  bench.refuse_file("# a task\nkeep = \"all\"\n", 2, {"this flag has no effect in this run", ": keep;"});
}

TEST_CASE("settings files give every kind of flag its value") {
  const Bench bench;
  const std::string odd = bench.model.beside("-a=b,{}[c] 'd' %% .txt").string();
  write_bytes(odd, "the tide\n");
  write_bytes(bench.file, "input = [" + Json(odd).dump() + ", " + Json(bench.input).dump() +
                              "]\n"
                              "experiment = [\"flips\", \"frequency\"]\nbuckets = [2, 5]\n"
                              "lens = [\"logit\", \"second=logit\"]\nseed = -7\nstream-layers = false\n"
                              "allow-lens-mismatch = false\nquiet = true\noverwrite = true\n");
  const Words command = {"analyze",  "--model", bench.model.path(), "--config",
                         bench.file, "--out",   bench.out.string(), "--max-length=16"};
  CHECK(check_done(command).err.empty());
  const Json run = read_json(bench.out / "run.json");
  CHECK(run.at("settings").at("seed") == -7);
  CHECK(run.at("settings").at("experiments") == Json({"flips", "frequency"}));
  CHECK(run.at("settings").at("buckets") == Json({2, 5}));
  CHECK(run.at("lenses").size() == 2);
  REQUIRE(run.at("inputs").size() == 2);
  CHECK(run.at("inputs")[0].at("path") == odd);
  CHECK_FALSE(check_done(command + Words{"-v"}).err.empty());  // though the file says quiet
  check_error(command + Words{"--overwrite=false"}, 6, {"holds another run"});
}

TEST_CASE("a window that the model does not allow is warned of where it was asked for") {
  const Bench bench;
  const auto warned = [&](const Words& more) {
    const Result result = check_done(Words{"show", "the tide", "--model", bench.model.path()} + more);
    return contains(result.err, "the most this model allows");
  };
  CHECK_FALSE(warned({}));
  CHECK(warned({"--max-length", "512"}));
  write_bytes(bench.file, "max-length = 512\n");
  CHECK(warned({"--config", bench.file}));
  CHECK_FALSE(warned({"--max-length", "8"}));
}

TEST_CASE("texts of files reach no terminal as control characters") {
  const Bench bench;
  check_done(bench.command());
  Json run = read_json(bench.out / "run.json");
  run["inputs"][0]["path"] = "a\x1b[31m \u009b \u202e\x7f";
  run["warnings"] = {"b\x1b[2J"};
  write_bytes(bench.out / "run.json", run.dump());
  for (const Words& words : {Words{"info", bench.out.string()}, Words{"info", bench.out.string(), "--json"},
                             Words{"info", "./no\x1b[31m\u009b"}, Words{"show", "text", "--x\x1b[31m\u009b"},
                             Words{"show", "text", "--value", "\x1b[31m\u009b"}, Words{"\x1b[31m\u009b"}}) {
    const Result result = run_program(words);
    for (const char* raw : {"\x1b", "\u009b", "\u202e", "\x7f"}) {
      CHECK_FALSE(contains(result.out, raw));
      CHECK_FALSE(contains(result.err, raw));
    }
  }
  CHECK(Json::parse(check_done({"info", bench.out.string(), "--json"}).out).at("inputs")[0].at("path") ==
        "a\x1b[31m \u009b \u202e\x7f");
}

TEST_CASE("a flag that stands where a value is missing is not taken for one") {
  const Result result =
      check_error({"report", "--compare", "--out=x.html"}, 2, {"a value is missing", "--compare"});
  CHECK_FALSE(contains(result.err, "hint"));
  check_error({"show", "--watch", "-x"}, 2, {"hint: a value that begins with a dash: --watch=-x"});
}

TEST_CASE("the first Ctrl-C ends what has nothing to save, and leaves everything as it was") {
  // Weights in a pipe that nobody writes to: the model loads for ever.
  const Bench bench;
  bench.model.remove("model.safetensors");
  REQUIRE(::mkfifo((bench.model.folder() / "model.safetensors").c_str(), 0600) == 0);
  const std::string model = bench.model.path(), out = bench.out.string();
  const std::vector<Words> commands = {
      {"show", "the tide", "--model", model},
      {"info", model},
      {"analyze", "--model", model, "--input", bench.input, "--out", out},
      {"analyze", "--model", model, "--input", bench.input, "--out", out + "/deeper/down"},
      {"eval-lens", "--model", model, "--input", bench.input, "--out", out},
      {"train-lens", "--model", model, "--input", bench.input, "--out", out, "--steps", "1",
       "--tokens-per-step", "8", "--max-length", "8", "--validation-tokens", "0"}};
  for (const Words& words : commands) {
    for (const int signal : {SIGINT, SIGTERM}) {
      INFO(words[0] << ", signal " << signal);
      const bool writes = std::find(words.begin(), words.end(), "--out") != words.end();
      Process process(Start{.arguments = words, .seconds = 20});
      while (process.running() && !(process.catches(signal) && (!writes || fs::exists(bench.out))))
        ::usleep(2000);
      REQUIRE(process.running());
      process.send(signal);
      const Result result = process.wait();
      INFO(result.err);
      CHECK_FALSE(result.timed_out);
      CHECK(result.status == 130);
      CHECK(result.out.empty());
      CHECK(contains(result.err, "depthlens: error: interrupted\n"));
      check_nothing_written(bench.out);
    }
  }
}

TEST_CASE("a second Ctrl-C ends the program at once, without remains of files") {
  const Bench bench;
  write_bytes(bench.input, long_text());
  Process process(Start{.arguments = bench.command({"--max-records", "0", "--threads", "1"})});
  await_saved_parts(process, bench.out);
  process.send(SIGTERM);
  process.send(SIGINT);
  const Result result = process.wait();
  INFO(result.err);
  CHECK(result.status == 130);
  // The first of the two may have been heeded before the second came.
  for (const auto& item : fs::recursive_directory_iterator(bench.out)) {
    CHECK(item.path().extension() != ".tmp");
    CHECK(item.path().filename() != "lock");
  }
  CHECK(has_saved_parts(bench.out));
}

TEST_CASE("a SIGTERM that is passed on a second time does not lose what is being saved") {
  const Bench bench;
  write_bytes(bench.input, long_text());
  Process process(Start{.arguments = bench.command({"--max-records", "0", "--threads", "1"})});
  await_saved_parts(process, bench.out);
  process.send(SIGTERM);
  ::usleep(2000);
  process.send(SIGTERM);
  const Result result = process.wait();
  INFO(result.err);
  CHECK(result.status == 130);
  CHECK(read_json(bench.out / "run.json").at("status") == "partial");
}

}  // namespace depthlens::test
