// configs/paper/: every file is run as it is, on a tiny checkpoint of its model's architecture and on small
// inputs that take the place of the paper's.
#include <algorithm>

#include "checks.hpp"
#include "depthlens/util/json.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

const fs::path kConfigs = fs::path(DEPTHLENS_SOURCE_DIR) / "configs" / "paper";

std::vector<fs::path> sorted_entries(const fs::path& folder, bool folders) {
  std::vector<fs::path> all;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() == folders && (folders || entry.path().extension() == ".toml"))
      all.push_back(entry.path());
  }
  std::sort(all.begin(), all.end());
  return all;
}

std::string checkpoint_for(const std::string& model) {
  if (model == "gpt2-xl") return "gpt2";
  if (model == "pythia-6.9b-deduped") return "neox-parallel";
  return "llama-gqa-sharded";
}

/// The inputs of the experiments, in the alphabet of the small tokenizer.
struct Inputs {
  explicit Inputs(const SmallModel& model) : model_(model) {
    write("corpus.txt", small_text() + "\n" + small_text());
    write("facts.jsonl", R"({"id": 1, "prompt": "the water of the", "answer": "harbour"})"
                         "\n"
                         R"({"id": 2, "prompt": "a boat came in on the", "answer": "tide"})"
                         "\n");
    write("choices.json",
          R"([{"prompt": "was it the water", "answer": "a"}, {"prompt": "was it rain", "answer": "b"}])");
    write(
        "pairs.jsonl",
        R"({"id": "p", "source": {"prompt": "a s d", "answer": "b"}, "target": {"prompt": "a s f", "answer": "c"}})"
        "\n");
    std::string conllu;
    const std::pair<const char*, const char*> words[] = {{"the", "DET"},   {"water", "NOUN"}, {"was", "VERB"},
                                                         {"still", "ADJ"}, {"in", "ADP"},     {"the", "DET"},
                                                         {"tide", "NOUN"}, {".", "PUNCT"}};
    int number = 0;
    for (const auto& [form, tag] : words)
      conllu += std::to_string(++number) + "\t" + form + "\t_\t" + tag + "\t_\t_\t_\t_\t_\t_\n";
    write("words.conllu", conllu + "\n");
    check_done({"count-tokens", "--model", model.path(), "--input", path("corpus.txt"), "--out",
                path("counts.json")});
  }

  std::string path(const std::string& name) const { return model_.beside(name).string(); }

 private:
  void write(const std::string& name, const std::string& text) const {
    write_bytes(model_.beside(name), text);
  }
  const SmallModel& model_;
};

std::string input_for(const std::string& config) {
  if (config == "pos") return "words.conllu";
  if (config == "facts" || config == "exit") return "facts.jsonl";
  if (config == "patching") return "pairs.jsonl";
  return config.rfind("choices-", 0) == 0 ? "choices.json" : "corpus.txt";
}

bool is_task(const std::string& config) {
  return input_for(config) != "corpus.txt";
}

}  // namespace

TEST_CASE("every config of the paper runs on a tiny checkpoint of its architecture") {
  const std::vector<fs::path> models = sorted_entries(kConfigs, true);
  CHECK(models.size() == 4);
  for (const fs::path& folder : models) {
    const SmallModel model(checkpoint_for(folder.filename().string()));
    const Inputs inputs(model);
    const std::vector<fs::path> configs = sorted_entries(folder, false);
    CHECK(configs.size() == 12);
    for (const fs::path& config : configs) {
      const std::string name = config.stem().string(), text = read_bytes(config),
                        out = inputs.path("out-" + name);
      INFO(config.string());
      const bool training = name == "train-damped";
      std::vector<std::string> arguments = {training ? "train-lens" : "analyze",
                                            "--config",
                                            config.string(),
                                            "--model",
                                            model.path(),
                                            "--input",
                                            inputs.path(input_for(name)),
                                            "--out",
                                            out,
                                            "--max-length",
                                            "16"};
      const auto add = [&](const std::string& flag, const std::string& value) {
        arguments.insert(arguments.end(), {flag, value});
      };
      if (training) {
        for (const auto& [flag, value] : {std::pair("--steps", "2"),
                                          {"--tokens-per-step", "32"},
                                          {"--validation-tokens", "16"},
                                          {"--epochs", "9"}})
          add(flag, value);
      } else {
        if (name != "patching") add("--lens", "tuned:" + model.lens("tuned"));
        if (is_task(name)) add("--keep", "all");
      }
      if (text.find("token-counts") != std::string::npos) add("--token-counts", inputs.path("counts.json"));
      if (name == "pos") add("--min-prompt-chars", "3");
      if (name.rfind("choices-", 0) == 0) add("--options", "a,b");
      check_done(arguments);
      if (training) continue;
      // The results are those that the config asks for.
      const util::Json summary = read_json(fs::path(out) / "summary.json").at("tables");
      const std::size_t begin = text.find("experiment = \"") + 14;
      const std::string first_experiment = text.substr(begin, text.find_first_of(",\"", begin) - begin);
      const std::string prefix = first_experiment == "trajectory" ? "lens." : first_experiment + ".";
      bool found = false;
      for (const auto& [table, value] : summary.items())
        found = found || (table.rfind(prefix, 0) == 0 && !value.at("rows").empty());
      CHECK(found);
      CHECK(read_json(fs::path(out) / "run.json").at("status") == "complete");
    }
  }
}

}  // namespace depthlens::test
