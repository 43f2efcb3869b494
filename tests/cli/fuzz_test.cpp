// Small valid files with single bytes changed and ends cut off, at places that are the same in every run:
// whatever the program makes of them, it ends with a documented status, never with a defect or a signal.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "checks.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

using namespace std::string_literals;

/// A plain linear congruential generator: the same numbers everywhere.
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : state_(seed) {}
  std::size_t below(std::size_t limit) {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::size_t>((state_ >> 33) % limit);
  }

 private:
  std::uint64_t state_;
};

/// Copies of `bytes`, each damaged once: cut, a bit flipped, a byte replaced by a sign that means something,
/// or a piece left out or doubled. Only the first `reach` bytes are touched, where a file's structure stands.
std::vector<std::string> damaged_copies(const std::string& bytes, std::size_t reach, std::size_t count,
                                        std::uint64_t seed) {
  Numbers numbers(seed);
  const std::string signs = "{}[]\",:-0129eE.\0\xff\x80\n "s;
  std::vector<std::string> copies;
  for (std::size_t i = 0; i < count; ++i) {
    std::string copy = bytes;
    const std::size_t place = numbers.below(std::min(reach, bytes.size()));
    switch (i % 5) {
      case 0:
        copy[place] = static_cast<char>(copy[place] ^ (1 << numbers.below(8)));
        break;
      case 1:
        copy[place] = signs[numbers.below(signs.size())];
        break;
      case 2:
        copy.resize(i % 2 == 0 ? place : bytes.size() - 1 - place / 2);
        break;
      case 3:
        copy.erase(place, 1 + numbers.below(8));
        break;
      default:
        copy.insert(place, bytes.substr(place, 1 + numbers.below(8)));
        break;
    }
    copies.push_back(std::move(copy));
  }
  return copies;
}

/// One damaged file of a model folder of its own, and the run on it.
struct Trial {
  std::string name;
  SmallModel model;
  fs::path out = model.beside("out");
  std::vector<std::string> command;
  std::unique_ptr<Process> process;

  explicit Trial(std::string what) : name(std::move(what)) {}
  void start(const std::string& damaged_file, const std::string& bytes,
             const std::vector<std::string>& more) {
    write_bytes(model.beside(damaged_file), bytes);
    std::vector<std::string> arguments = {"analyze", "--model",    model.path(), "--input", model.text_file(),
                                          "--out",   out.string(), "--threads",  "1"};
    for (std::string argument : more) {
      const std::size_t place = argument.find("%");
      if (place != std::string::npos) argument.replace(place, 1, model.beside("").string());
      arguments.push_back(argument);
    }
    process = std::make_unique<Process>(Start{.arguments = arguments, .seconds = 20});
  }
  void finish() {
    const Result result = process->wait();
    INFO(name << "\n" << result.err);
    CHECK_FALSE(result.timed_out);
    CHECK(result.signal == 0);
    const bool documented = result.status == 0 || (result.status >= 2 && result.status <= 6);
    CHECK(documented);
    if (result.status != 0) {
      CHECK(contains(result.err, "depthlens: error: "));
      check_nothing_written(out);
    } else {
      CHECK(fs::exists(out / "run.json"));
    }
  }
};

/// Runs the program on every damaged copy, two at a time. `file` is the name beside the model folder.
void fuzz(const std::string& file, const std::string& bytes, std::size_t reach, std::size_t count,
          const std::vector<std::string>& more) {
  const auto copies = damaged_copies(bytes, reach, count, file.size());
  std::vector<std::unique_ptr<Trial>> running;
  for (std::size_t i = 0; i < copies.size(); ++i) {
    running.push_back(std::make_unique<Trial>(file + ", copy " + std::to_string(i)));
    running.back()->start(file, copies[i], more);
    if (running.size() < 2) continue;
    running.front()->finish();
    running.erase(running.begin());
  }
  for (const auto& trial : running) trial->finish();
}

}  // namespace

TEST_CASE("damaged config.json") {
  const std::string bytes = read_bytes(SmallModel().folder() / "config.json");
  fuzz("model/config.json", bytes, bytes.size(), 20, {});
}

TEST_CASE("damaged model.safetensors") {
  const std::string bytes = read_bytes(SmallModel().folder() / "model.safetensors");
  fuzz("model/model.safetensors", bytes, 3000, 20, {});
}

TEST_CASE("damaged tokenizer.json") {
  const std::string bytes = small_tokenizer().dump();
  fuzz("model/tokenizer.json", bytes, bytes.size(), 20, {});
}

TEST_CASE("damaged params.pt of a tuned lens") {
  const fs::path lens = SmallModel().lens("tuned");
  const std::string bytes = read_bytes(lens / "params.pt");
  fuzz("params.pt", bytes, 1500, 15, {"--lens", "tuned:%params.pt"});
}

TEST_CASE("damaged Jacobian lens") {
  const std::string bytes = read_bytes(SmallModel().lens("jacobian.pt"));
  fuzz("jacobian.pt", bytes, 1500, 10, {"--lens", "jacobian:%jacobian.pt"});
}

TEST_CASE("damaged token counts") {
  const std::string json =
      R"({"3": {"token": "c", "count": 5, "ratio": 0.5}, "4": {"token": "d", "count": 5, "ratio": 0.5}})";
  fuzz("counts.json", json, json.size(), 10, {"--token-counts", "%counts.json"});
  const std::string csv = "id,token,count,ratio\n3,c,5,0.5\n4,\",\",5,0.5\n";
  fuzz("counts.csv", csv, csv.size(), 10, {"--token-counts", "%counts.csv"});
}

TEST_CASE("damaged JSON lines and settings") {
  const std::string lines = "{\"text\": \"the tide came in\"}\n{\"text\": \"rain\"}\n";
  fuzz("notes.jsonl", lines, lines.size(), 10, {"--input", "%notes.jsonl"});
  const std::string settings =
      "top-k = 3\nadd-bos = \"yes\"\nlens = [\"logit\", \"second=logit\"]\nquiet = true\n";
  fuzz("settings.toml", settings, settings.size(), 20, {"--config", "%settings.toml"});
}

}  // namespace depthlens::test
