// configs/paper/: every file is run as it is on small inputs of the published data's shape and values, with
// the demo model in place of the real one; and run.sh, which runs them all.
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

#include "checks.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

const fs::path kProject = DEPTHLENS_SOURCE_DIR;
const fs::path kConfigs = kProject / "configs" / "paper";

std::vector<fs::path> sorted_entries(const fs::path& folder, bool folders) {
  std::vector<fs::path> all;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() == folders && (folders || entry.path().extension() == ".toml"))
      all.push_back(entry.path());
  }
  std::sort(all.begin(), all.end());
  return all;
}

/// An array of {"prompt", "answer"}, as the paper's questions are published.
std::string questions(const std::vector<std::pair<std::string, std::string>>& items) {
  util::Json array = util::Json::array();
  for (const auto& [prompt, answer] : items) array.push_back({{"prompt", prompt}, {"answer", answer}});
  return array.dump();
}

std::string conllu(const std::vector<std::pair<std::string, std::string>>& words) {
  std::string text;
  int number = 0;
  for (const auto& [form, tag] : words)
    text += util::cat(++number, "\t", form, "\t_\t", tag, "\t_\t_\t_\t_\t_\t_\n");
  return text + "\n";
}

/// paper-data/ in small, by name in that folder.
std::map<std::string, std::string> paper_data() {
  const std::string choices = "\n(A) a river\n(B) a lake\n(C) a sea\n(D) a well\nAnswer:";
  const std::string pair =
      "Are the sentences paraphrases of each other.\nSentence 1: The boat came in.\nSentence 2: ";
  const auto review = [](const std::string& text) {
    return "Review : a long wait for nothing \nSentiment : negative\nReview :" + text + " \nSentiment :";
  };
  const util::Json hop = {{"question", "What is the capital of France?"},
                          {"cloze", "The capital of France is"},
                          {"answer", "Paris"},
                          {"answer_alias", {"City of Light"}}};
  const util::Json fact = {{"case_id", 1},         {"questions", {"Where is the seat of the government?"}},
                           {"answer", "Paris"},    {"answer_alias", util::Json::array()},
                           {"single_hops", {hop}}, {"new_single_hops", util::Json::array()}};
  const std::string paragraphs =
      "The harbour of the town was built in stone. Boats came in with the tide, and the men of the town sold "
      "fish on "
      "the quay.\n\nIn the winter the river froze, and the road to the north was closed for some weeks.\n";
  return {
      {"dset_MMLU.json", questions({{"Question: Which is salt?" + choices, "C"},
                                    {"Question: Which is dug?" + choices, "D"},
                                    {"Question: Which flows?" + choices, "A"}})},
      {"dset_SST.json",
       questions({{review("a fine film"), "positive"}, {review("two hours of fog"), "negative"}})},
      {"dset_MRPC.json", questions({{pair + "The boat arrived.\nAnswer:", "Yes"},
                                    {pair + "The tide went out.\nAnswer:", "No"}})},
      {"dset_NLI.json", questions({{"The sea is wide. The sea is small. Answer:", "false"},
                                   {"The sea is wide. The sea is not narrow. Answer:", "true"}})},
      {"MQuAKE-CF-3k.json.gz", util::Json::array({fact}).dump()},
      {"wikipedia.txt", paragraphs},
      {"sentences.conllu", conllu({{"In", "ADP"},
                                   {"the", "DET"},
                                   {"winter", "NOUN"},
                                   {"the", "DET"},
                                   {"deep", "ADJ"},
                                   {"river", "NOUN"},
                                   {"froze", "VERB"},
                                   {".", "PUNCT"}})},
      {"pairs.jsonl",
       R"({"id": "p", "source": {"prompt": "The capital of France is", "answer": "Paris"}, "target": {"prompt": "The capital of Poland is", "answer": "Warsaw"}})"
       "\n"},
      {"pile_validation.jsonl",
       util::Json{{"text", paragraphs}, {"meta", {{"pile_set_name", "Wikipedia (en)"}}}}.dump() + "\n"},
  };
}

/// A folder in which `paper-data/` lies.
struct TempDir {
  TemporaryFolder folder;

  TempDir() {
    fs::create_directories(folder.path() / "paper-data" / "token_counts");
    for (const auto& [name, bytes] : paper_data()) folder.write("paper-data/" + name, bytes);
    check_done({"count-tokens", "--input", data("wikipedia.txt"), "--out", data("counts.json"), "--quiet"});
    for (const fs::path& model : sorted_entries(kConfigs, true))
      fs::copy_file(data("counts.json"), data("token_counts/" + model.filename().string() + ".json"));
  }

  std::string data(const std::string& name) const { return (folder.path() / "paper-data" / name).string(); }
};

TEST_CASE("every config of the paper runs on data of the published shape") {
  const TempDir here;
  const std::vector<fs::path> models = sorted_entries(kConfigs, true);
  CHECK(models.size() == 4);
  const std::string lens = (kProject / "data/demo/lens").string();
  for (const fs::path& model : models) {
    const std::vector<fs::path> configs = sorted_entries(model, false);
    CHECK(configs.size() == 12);
    for (const fs::path& config : configs) {
      const std::string name = config.stem().string(), text = read_bytes(config);
      INFO(config.string());
      const bool training = name == "train-damped";
      // What stands for the real model, and what bounds the time. All else is the config's.
      std::vector<std::string> arguments = {training ? "train-lens" : "analyze", "--config", config.string(),
                                            "--model", (kProject / "data/demo").string()};
      if (training) {
        arguments = arguments + std::vector<std::string>{
                                    "--max-length",        "16", "--steps",  "2", "--tokens-per-step", "32",
                                    "--validation-tokens", "16", "--epochs", "9"};
      } else {
        arguments = arguments + std::vector<std::string>{"--limit", "3", "--report", "no"};
        if (name != "patching") arguments = arguments + std::vector<std::string>{"--lens", "tuned:" + lens};
      }
      const Start start{.arguments = arguments, .folder = here.folder.path()};
      const Result result = check_done(start);
      CHECK_FALSE(contains(result.err, "in case only"));
      if (training) continue;

      // The results are those that the config asks for, and they are some.
      const std::string out = util::cat("out/paper/", model.filename().string(), "/", name);
      CHECK(contains(text, "out = \"" + out + "\""));
      const util::Json run = read_json(here.folder.path() / out / "run.json");
      const util::Json summary = read_json(here.folder.path() / out / "summary.json").at("tables");
      CHECK(run.at("status") == "complete");
      CHECK(run.at("counts").at("positions") > 0);
      const bool counts_all = contains(text, "keep = \"all\"");
      for (const util::Json& experiment : run.at("settings").at("experiments")) {
        const std::string of = experiment == "trajectory" ? "lens" : experiment.get<std::string>();
        bool found = false, filled = false;
        for (const auto& [table, value] : summary.items()) {
          if (table.rfind(of + ".", 0) != 0) continue;
          found = true;
          filled = filled || !value.at("rows").empty();
        }
        INFO(of);
        CHECK(found);
        if (counts_all || !contains(text, "keep = ")) CHECK((filled || of == "patching"));
      }
    }
  }
}

TEST_CASE("the configs of the four models differ in what belongs to a model only") {
  const std::set<std::string> of_model = {"model", "lens", "max-length", "token-counts", "out"};
  const auto others = [&](const fs::path& config) {
    std::vector<std::string> lines;
    for (const std::string& line : util::split(read_bytes(config), '\n')) {
      if (line.rfind('#', 0) != 0 && of_model.count(line.substr(0, line.find(' '))) == 0)
        lines.push_back(line);
    }
    return lines;
  };
  const std::vector<fs::path> models = sorted_entries(kConfigs, true);
  for (const fs::path& config : sorted_entries(models.front(), false)) {
    INFO(config.string());
    for (const fs::path& model : models) CHECK(others(model / config.filename()) == others(config));
  }
}

/// run.sh beside configs of a test's own.
struct Script {
  TemporaryFolder folder;
  fs::path configs = folder.path() / "configs/paper";
  int status = -1;
  std::string err;

  Script() {
    fs::create_directories(configs / "small");
    fs::create_directories(folder.path() / "paper-data");
    fs::copy_file(kConfigs / "run.sh", configs / "run.sh");
    folder.write("paper-data/questions.json", questions({{"Is it?", "Yes"}, {"Was it?", "No"}}));
  }
  void add(const std::string& name, const std::string& options, const std::string& input) {
    folder.write("configs/paper/small/" + name + ".toml",
                 util::cat("input = [\"paper-data/", input, "\"]\nexperiment = \"choices\"\n", options,
                           "keep = \"all\"\nrecords = \"none\"\nreport = \"no\"\nout = \"out/paper/small/",
                           name, "\"\n"));
  }
  void run(const std::string& arguments) {
    const std::string log = (folder.path() / "log").string();
    const std::string command =
        util::cat("DEPTHLENS='", DEPTHLENS_PROGRAM, "' bash '", (configs / "run.sh").string(), "' ",
                  arguments, " 2> '", log, "' > /dev/null");
    const int result = std::system(command.c_str());
    status = WIFEXITED(result) ? WEXITSTATUS(result) : -1;
    err = read_bytes(log);
  }
  bool has_run(const std::string& name) const {
    return fs::exists(folder.path() / "out/paper/small" / name / "run.json");
  }
};

TEST_CASE("run.sh goes on after a failure, and names at the end what failed and what was skipped") {
  Script script;
  script.add("a-fails", "options = \"maybe,perhaps\"\n", "questions.json");
  script.add("b-runs", "options = \"Yes,No\"\n", "questions.json");
  script.add("c-skipped", "", "missing.json");
  script.run("small --threads 1");
  INFO(script.err);
  CHECK(script.status == 1);
  CHECK_FALSE(script.has_run("a-fails"));
  CHECK(script.has_run("b-runs"));
  CHECK(contains(script.err, "1 finished, 1 skipped, 1 failed"));
  CHECK(contains(script.err, "\nskipped c-skipped: no paper-data/missing.json\n"));
  const std::size_t last =
      script.err.find("\nfailed a-fails (status 3): depthlens: error: the answer is none of the options");
  REQUIRE(last != std::string::npos);
  CHECK(script.err.find('\n', last + 1) == script.err.size() - 1);

  // A second run does what is left, and says what is there.
  script.add("a-fails", "options = \"Yes,No\"\n", "questions.json");
  script.run("small --threads 1");
  CHECK(script.status == 0);
  CHECK(contains(script.err, "1 finished, 2 skipped, 0 failed"));
  CHECK(contains(script.err, "skipped b-runs: out/paper/small/b-runs holds its results"));

  // What is there was made with other flags: not what was asked for now.
  script.run("small --threads 1 --limit 1");
  CHECK(script.status == 1);
  CHECK(contains(script.err, "0 finished, 1 skipped, 2 failed"));
  CHECK(contains(script.err,
                 "\nfailed b-runs (status 2): depthlens: error: what the folder holds is of another run"));
  CHECK(contains(script.err, "different settings.limit"));

  script.run("no-such-model");
  CHECK(script.status == 2);
  CHECK(contains(script.err, "usage:"));
  CHECK(contains(script.err, "small"));
}

}  // namespace
}  // namespace depthlens::test
