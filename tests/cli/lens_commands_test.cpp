// train-lens, eval-lens and convert-lens as a user runs them, one after the other.
#include <algorithm>
#include <csignal>
#include <thread>

#include "checks.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

using util::Json;

/// A small model, a text, and short trainings of it.
struct Bench {
  SmallModel model;
  std::string text = [this] {
    std::string all;
    for (int i = 0; i < 40; ++i) all += small_text() + "\n\n";
    write_bytes(model.beside("long.txt"), all);
    return model.beside("long.txt").string();
  }();

  std::string out(const std::string& name) const { return model.beside(name).string(); }
  /// A short training; a flag in `more` takes the place of its default here.
  std::vector<std::string> train(const std::string& name, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = {"train-lens", "--model", model.path(), "--input",
                                    text,         "--out",   out(name),    "--quiet"};
    const std::vector<std::pair<std::string, std::string>> defaults = {
        {"--steps", "6"},          {"--tokens-per-step", "64"},
        {"--max-length", "16"},    {"--validation-tokens", "32"},
        {"--validate-every", "3"}, {"--checkpoint-every", "2"}};
    for (const auto& [flag, value] : defaults) {
      if (std::find(more.begin(), more.end(), flag) == more.end()) all.insert(all.end(), {flag, value});
    }
    return all + more;
  }
};

std::vector<Json> log_of(const std::string& folder) {
  std::vector<Json> lines;
  std::istringstream log(read_bytes(fs::path(folder) / "training.jsonl"));
  for (std::string line; std::getline(log, line);) lines.push_back(Json::parse(line));
  return lines;
}

/// mean of kl_final over the layers below L, by lens.
std::map<std::string, double> mean_kl(const std::string& run) {
  const Json table = read_json(fs::path(run) / "summary.json").at("tables").at("lens.quality");
  std::map<std::string, double> sums;
  for (const Json& row : table.at("rows")) sums[row[0].get<std::string>()] += row[3].get<double>();
  return sums;
}

}  // namespace

TEST_CASE("a lens is trained, measured, converted and used") {
  const Bench bench;
  check_done(bench.train("lens", {"--lr-scale", "0.3"}));
  const std::vector<Json> log = log_of(bench.out("lens"));
  REQUIRE(log.size() == 7);
  for (std::size_t step = 1; step < log.size(); ++step) {
    CHECK(log[step].at("step") == step);
    CHECK(log[step].at("positions") == 64);
    CHECK(log[step].at("kl").size() == 3);
  }
  CHECK(log[6].at("validation_kl")[0].get<double>() < log[0].at("validation_kl")[0].get<double>());
  const Json config = read_json(fs::path(bench.out("lens")) / "config.json");
  CHECK(config.at("d_model") == 16);
  CHECK(config.at("num_hidden_layers") == 3);
  CHECK(config.at("lens_type") == "linear_tuned_lens");
  CHECK(config.at("unembed_hash").get<std::string>().size() == 64);

  check_done({"convert-lens", bench.out("lens"), bench.out("lens.safetensors"), "--quiet"});
  check_done({"convert-lens", bench.out("lens"), bench.out("a/new/folder/lens.safetensors"), "--quiet"});
  const Result table = check_done({"eval-lens", "--model", bench.model.path(), "--input", bench.text, "--out",
                                   bench.out("eval"), "--max-length", "16", "--lens", "logit", "--lens",
                                   "tuned:" + bench.out("lens"), "--lens",
                                   "converted=tuned:" + bench.out("lens.safetensors"), "--transfer"});
  CHECK(contains(table.out, "converted"));
  auto kl = mean_kl(bench.out("eval"));
  CHECK(kl.at("tuned") < kl.at("logit"));
  CHECK(kl.at("tuned") == kl.at("converted"));
  CHECK(fs::exists(fs::path(bench.out("eval")) / "report.html"));

  check_done({"analyze", "--model", bench.model.path(), "--input", bench.text, "--out", bench.out("run"),
              "--max-length", "16", "--lens", "tuned:" + bench.out("lens"), "--quiet"});
  CHECK(mean_kl(bench.out("run")).at("tuned") == kl.at("tuned"));
}

TEST_CASE("a lens tells what it was trained from, and goes on with the same model only") {
  const Bench bench;
  check_done({"count-tokens", "--model", bench.model.path(), "--input", bench.text, "--out",
              bench.out("counts.json"), "--quiet"});
  check_done(bench.train("first"));
  check_done(bench.train("lens", {"--init", bench.out("first"), "--damp-frequent", "3:0.1", "--token-counts",
                                  bench.out("counts.json")}));
  const Json record = read_json(fs::path(bench.out("lens")) / "training.json");
  CHECK(record.at("inputs")[0].at("sha256") == util::sha256(read_bytes(bench.text)));
  CHECK(record.at("token_counts").at("sha256") == util::sha256(read_bytes(bench.out("counts.json"))));
  CHECK(record.at("settings").at("model_files_digest") == record.at("model").at("digest"));
  CHECK(record.at("tokenizer").at("files")[0].at("name") == "tokenizer.json");
  const auto info = [](const std::string& subject) {
    return Json::parse(check_done({"info", "--json", subject}).out);
  };
  CHECK(record.at("model").at("digest") == info(bench.model.path()).at("digest"));
  CHECK(record.at("settings").at("init_digest") == info(bench.out("first")).at("digest"));
  CHECK(info(bench.out("lens")).at("training").at("inputs") == record.at("inputs"));
  CHECK_FALSE(read_json(fs::path(bench.out("first")) / "training.json").contains("token_counts"));

  Safetensors weights = bench.model.weights();
  weights.data.back() = static_cast<char>(weights.data.back() ^ 1);
  bench.model.write("model.safetensors", weights.bytes());
  check_error(bench.train("first", {"--resume"}), 2, {"other settings", "model_files_digest was"});
}

TEST_CASE("an interrupted training goes on, to the bytes of one that was not") {
  const Bench bench;
  check_done(bench.train("whole"));
  // Many short steps, so that the signal comes in the middle.
  const std::vector<std::string> longer = {"--steps", "400", "--epochs", "400"};
  {
    Process process({.arguments = bench.train("parts", longer)});
    const fs::path checkpoint = fs::path(bench.out("parts")) / "checkpoint.safetensors";
    for (int i = 0; i < 600 && process.running() && !fs::exists(checkpoint); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    process.send(SIGINT);
    const Result result = process.wait();
    INFO(result.err);
    CHECK(result.status == 130);
    CHECK(contains(result.err, bench.out("parts") + " holds what was finished; --resume goes on"));
  }
  CHECK_FALSE(fs::exists(fs::path(bench.out("parts")) / "params.pt"));
  const std::size_t before = log_of(bench.out("parts")).size();
  CHECK(before < 401);
  check_error(bench.train("parts", longer), 6, {"in use", "checkpoint.safetensors"});
  check_error(bench.train("parts", longer + std::vector<std::string>{"--resume", "--optimizer", "adam"}), 2,
              {"other settings", "optimizer was"});
  check_done(bench.train("parts", longer + std::vector<std::string>{"--resume"}));
  CHECK(log_of(bench.out("parts")).size() == 401);
  check_done(bench.train("once", longer));
  for (const char* file : {"training.jsonl", "params.pt", "config.json", "checkpoint.safetensors"}) {
    INFO(file);
    CHECK(read_bytes(fs::path(bench.out("parts")) / file) == read_bytes(fs::path(bench.out("once")) / file));
  }
}

TEST_CASE("every optimizer, loss, damping and start leaves a lens that loads") {
  const Bench bench;
  check_done({"count-tokens", "--model", bench.model.path(), "--input", bench.text, "--out",
              bench.out("counts.json"), "--quiet"});
  check_done(bench.train("first"));
  const std::vector<std::vector<std::string>> ways = {
      {"--optimizer", "adam"},
      {"--optimizer", "muon"},
      {"--loss", "ce"},
      {"--bias-only"},
      {"--init", bench.out("first")},
      {"--keep", "best"},
      {"--dtype", "float32"},
      {"--damp-frequent", "3:0.001"},
      {"--damp-frequent", "3:0.5", "--damp-mode", "vocabulary", "--token-counts", bench.out("counts.json")},
      {"--add-bos", "yes"}};
  for (std::size_t i = 0; i < ways.size(); ++i) {
    INFO(ways[i].front() << " " << ways[i].back());
    const std::string name = "lens-" + std::to_string(i);
    check_done(bench.train(name, ways[i]));
    CHECK(log_of(bench.out(name)).size() == 7);
    check_done({"info", bench.out(name)});
  }
  // More tokens than the text has.
  const Result damped = check_done(bench.train("all", {"--damp-frequent", "10000:0.5"}));
  CHECK(contains(damped.err, "--damp-frequent 10000: the frequency table has only "));
}

TEST_CASE("the lens that --keep best keeps is told, and is the one that is written") {
  const Bench bench;
  const auto kept = [&](const std::string& name) {
    return read_json(fs::path(bench.out(name)) / "training.json").at("kept");
  };
  const auto held_out = [&](const std::string& name, std::size_t step) {
    double sum = 0;
    const Json kl = log_of(bench.out(name))[step].at("validation_kl");
    for (const Json& of_layer : kl) sum += of_layer.get<double>();
    return sum / static_cast<double>(kl.size());
  };
  check_done(bench.train("last"));
  CHECK(kept("last") == Json({{"step", 6}, {"validation_kl", nullptr}}));
  check_done(bench.train("best", {"--keep", "best"}));
  CHECK(kept("best").at("step") == 6);
  CHECK(kept("best").at("validation_kl").get<double>() == Approx(held_out("best", 6)));
  // Steps so long that each makes it worse.
  const Result worse = check_done(bench.train("worse", {"--keep", "best", "--lr-scale", "1e5"}));
  CHECK(contains(worse.err, "no step made the lens better"));
  CHECK(kept("worse").at("step") == 0);
  CHECK(kept("worse").at("validation_kl").get<double>() == Approx(held_out("worse", 0)));
  CHECK(held_out("worse", 6) > held_out("worse", 0));
  // A run is no training that could go on.
  check_done({"analyze", "--model", bench.model.path(), "--input", bench.text, "--out", bench.out("run"),
              "--quiet"});
  check_error(bench.train("run"), 6, {"the folder holds a run", "run.json", "another --out"});
  check_error(bench.train("run", {"--overwrite"}), 6, {"the folder holds a run"});
}

TEST_CASE("layers trained by several processes join to one lens") {
  const Bench bench;
  check_done(bench.train("low", {"--layers", "0-1"}));
  check_done(bench.train("high", {"--layers", "2"}));
  CHECK(log_of(bench.out("low"))[1].at("kl").size() == 2);
  CHECK(log_of(bench.out("high"))[1].at("kl").size() == 1);
  const auto join = [&](const std::vector<std::string>& parts, const std::string& name) {
    std::vector<std::string> all = {"train-lens", "--out", bench.out(name), "--quiet"};
    for (const std::string& part : parts) all.insert(all.end(), {"--join", bench.out(part)});
    return all;
  };
  check_done(join({"high", "low"}, "joined"));
  for (const char* name : {"low", "high", "joined"})
    check_done({"convert-lens", bench.out(name), bench.out(name + std::string(".safetensors")), "--quiet"});
  const auto low = Safetensors::read(bench.out("low.safetensors")),
             high = Safetensors::read(bench.out("high.safetensors")),
             joined = Safetensors::read(bench.out("joined.safetensors"));
  const auto values = [](const Safetensors& file, const std::string& name) {
    const auto& offsets = file.header.at(name).at("data_offsets");
    return file.data.substr(offsets[0].get<std::size_t>(),
                            offsets[1].get<std::size_t>() - offsets[0].get<std::size_t>());
  };
  for (const char* name : {"0.weight", "1.bias"}) {
    CHECK(values(joined, name) == values(low, name));
    CHECK(values(joined, name) != values(high, name));
  }
  CHECK(values(joined, "2.weight") == values(high, "2.weight"));
  const auto record = [&](const char* name) {
    return read_json(fs::path(bench.out(name)) / "training.json");
  };
  CHECK(record("joined").at("settings").at("layers") == Json({0, 2}));
  CHECK(record("joined").at("inputs") == record("low").at("inputs"));
  CHECK(values(low, "2.weight") == std::string(values(low, "2.weight").size(), '\0'));
  check_error(join({"low"}, "x"), 2, {"no part has layer 2", "--layers"});
  check_error(join({"low", "low"}, "x"), 2, {"two parts have layer 0", "--join", "every layer once"});
  check_done(bench.train("other", {"--layers", "2", "--lr-scale", "0.5"}));
  check_error(join({"low", "other"}, "x"), 4, {"not parts of one training"});
  check_error(bench.train("x", {"--layers", "2-3"}), 2, {"--layers", "2"});
  fs::create_directory(bench.out("unfinished"));
  fs::copy(bench.out("low"), bench.out("unfinished"), fs::copy_options::recursive);
  fs::remove(fs::path(bench.out("unfinished")) / "training.json");
  check_error(join({"unfinished", "high"}, "x"), 2, {"an unfinished training", "unfinished", "--resume"});

  // Parts that begin with one lens, wherever it lies; with another one they are none of one training.
  check_done(bench.train("first"));
  fs::copy(bench.out("first"), bench.out("copy"), fs::copy_options::recursive);
  check_done(bench.train("low-init", {"--layers", "0-1", "--init", bench.out("first")}));
  check_done(bench.train("high-init", {"--layers", "2", "--init", bench.out("copy")}));
  check_done(join({"low-init", "high-init"}, "from-init"));
  CHECK_FALSE(record("from-init").contains("kept"));
  check_done(bench.train("low-init", {"--layers", "0-1", "--init", bench.out("copy"), "--resume"}));
  check_error(bench.train("low-init", {"--layers", "0-1", "--init", bench.out("other"), "--resume"}), 2,
              {"other settings", "init_digest was"});
  check_error(bench.train("low-init", {"--layers", "0-1", "--resume"}), 2, {"other settings", "init was"});
  check_done(bench.train("high-other", {"--layers", "2", "--init", bench.out("other")}));
  check_error(join({"low-init", "high-other"}, "x"), 4, {"not parts of one training"});

  // A part is told to be one where it is used, the whole is not.
  const auto use = [&](const std::string& name) {
    return check_done({"analyze", "--model", bench.model.path(), "--input", bench.text, "--lens",
                       "tuned:" + bench.out(name), "--out", bench.out(name + "-run"), "--overwrite"})
        .err;
  };
  CHECK(contains(use("high"), "zeros at layers 0, 1,"));
  CHECK_FALSE(contains(use("joined"), "zeros"));
  // Nothing takes the place of what it is made from, and no other training goes on beside what was joined.
  check_error(join({"low", "high"}, "low") + std::vector<std::string>{"--overwrite"}, 2,
              {"would replace what is read", "--join"});
  check_error(bench.train("low", {"--init", bench.out("low"), "--overwrite"}), 2,
              {"would replace what is read", "--init"});
  // Nor the place of anything else.
  fs::create_directory(bench.out("other-model"));
  fs::copy_file(bench.model.folder() / "config.json", fs::path(bench.out("other-model")) / "config.json");
  fs::create_directory(bench.out("mine"));
  write_bytes(fs::path(bench.out("mine")) / "training.json", R"({"mine": 1})");
  const auto before = files_below(bench.out("other-model")), mine = files_below(bench.out("mine"));
  check_error(join({"low", "high"}, "other-model"), 6, {"config.json", "is no lens"});
  check_error(join({"low", "high"}, "other-model") + std::vector<std::string>{"--overwrite"}, 6,
              {"is no lens"});
  check_error(join({"low", "high"}, "mine"), 6, {"holds a lens or a training", "training.json"});
  CHECK(files_below(bench.out("other-model")) == before);
  CHECK(files_below(bench.out("mine")) == mine);
  check_done(join({"low", "high"}, "other") + std::vector<std::string>{"--overwrite"});
  CHECK_FALSE(fs::exists(fs::path(bench.out("other")) / "checkpoint.safetensors"));
  CHECK(files_below(bench.out("other")).at("params.pt") == files_below(bench.out("joined")).at("params.pt"));
}

TEST_CASE("a Jacobian lens is fitted in shards, whose sums join to the whole") {
  const Bench bench;
  const auto fit = [&](const std::string& name, const std::vector<std::string>& more) {
    return std::vector<std::string>{"train-lens",       "--type", "jacobian",      "--model",
                                    bench.model.path(), "--out",  bench.out(name), "--quiet"} +
           more;
  };
  // The model allows 16 positions, of which the first 16 do not count.
  check_error(fit("none", {"--input", bench.text, "--prompts", "2"}), 3,
              {"no window is long enough", "18 tokens or more", "found windows of 16 tokens"});
  const std::vector<std::string> of_demo = {
      "train-lens",   "--type", "jacobian",  "--input", "data/corpora/bread.txt",
      "--max-length", "24",     "--prompts", "2",       "--quiet"};
  for (const char* name : {"convergence.jsonl", "jacobian_training.json"}) {
    const fs::path mine = bench.out(std::string("mine-") + name);
    fs::create_directory(mine);
    write_bytes(mine / name, R"({"mine": 1})");
    check_error(of_demo + std::vector<std::string>{"--out", mine.string()}, 6,
                {"holds a lens or a training", name});
    CHECK(read_bytes(mine / name) == R"({"mine": 1})");
  }
  check_done(of_demo + std::vector<std::string>{"--out", bench.out("whole")});
  const Json record = read_json(fs::path(bench.out("whole")) / "jacobian_training.json");
  CHECK(record.at("inputs")[0].at("sha256") ==
        util::sha256(read_bytes(fs::path(DEPTHLENS_SOURCE_DIR) / "data/corpora/bread.txt")));
  CHECK(record.at("settings").at("prompts") == 2);
  CHECK(record.at("model").at("digest").get<std::string>().size() == 64);
  const fs::path whole = bench.out("whole");
  const auto files = files_below(whole);
  const auto resume = [&] {
    check_done(of_demo + std::vector<std::string>{"--out", whole.string(), "--resume"});
    return files_below(whole);
  };
  CHECK(resume() == files);
  fs::remove(whole / "jacobian_lens.pt");
  write_bytes(whole / "convergence.jsonl", "cut");
  for (const auto& [name, bytes] : resume()) {
    INFO(name);
    if (name != "jacobian_training.json") CHECK(bytes == files.at(name));
  }
  CHECK(resume().size() == files.size());
  check_error(of_demo + std::vector<std::string>{"--shard", "0/3", "--out", bench.out("none")}, 2,
              {"more shards than prompts", "--shard 0/3", "at most 2 shards"});
  for (const char* shard : {"0", "1"}) {
    check_done(of_demo + std::vector<std::string>{"--shard", shard + std::string("/2"), "--out",
                                                  bench.out("part") + shard});
    // A share of the prompts makes no lens.
    CHECK_FALSE(fs::exists(fs::path(bench.out("part") + shard) / "jacobian_lens.pt"));
  }
  const auto sums = [&](const std::string& name) {
    return std::vector<std::string>{"--from-sums", bench.out(name) + "/jacobian_sums.safetensors"};
  };
  const auto join = [&](const std::vector<std::string>& parts) {
    return std::vector<std::string>{"train-lens", "--type",          "jacobian",
                                    "--out",      bench.out("none"), "--quiet"} +
           parts;
  };
  check_error(join(sums("part1")), 2, {"1 of 2 shards are missing", "0/2 too"});
  check_error(join(sums("part0") + sums("part0")), 2, {"shard 0 of 2 twice", "part0"});
  check_error(join(sums("part0") + sums("whole")), 2, {"different fits", "whole", "number of shards"});
  check_done({"train-lens", "--type", "jacobian", "--input", "data/corpora/bread.txt", "--max-length", "23",
              "--prompts", "2", "--shard", "1/2", "--out", bench.out("foreign"), "--quiet"});
  check_error(join(sums("part0") + sums("foreign")), 2, {"different fits", "foreign", "list of prompts"});
  // A model that differs in one weight of a block is another, of which neither sums nor checkpoints are
  // taken.
  const fs::path demo = fs::path(DEPTHLENS_SOURCE_DIR) / "data/demo", changed = bench.out("changed");
  fs::create_directory(changed);
  for (const fs::directory_entry& file : fs::directory_iterator(demo))
    if (file.is_regular_file()) fs::copy_file(file.path(), changed / file.path().filename());
  Safetensors weights = Safetensors::read(demo / "model.safetensors");
  for (const auto& [name, entry] : weights.header.items()) {
    if (name.find("layers.1.") == std::string::npos || name.find("down_proj") == std::string::npos) continue;
    weights.data[entry.at("data_offsets")[0].get<std::size_t>()] ^= 1;
  }
  write_bytes(changed / "model.safetensors", weights.bytes());
  const std::vector<std::string> by_changed = {"--model", changed.string()};
  check_done(of_demo + by_changed +
             std::vector<std::string>{"--shard", "1/2", "--out", bench.out("of-changed")});
  check_error(join(sums("part0") + sums("of-changed")), 2, {"different fits", "of-changed", "model files"});
  check_error(join(sums("part0") + sums("part1")) + by_changed, 2, {"another model"});
  check_error(join(sums("part0") + sums("part1")) + std::vector<std::string>{"--dtype", "bfloat16"}, 2,
              {"another arithmetic", "expected BFloat16, found Float"});
  check_error(of_demo + by_changed + std::vector<std::string>{"--out", bench.out("whole"), "--resume"}, 2,
              {"another fit", "model files"});
  check_error(of_demo + std::vector<std::string>{"--shard", "2/3", "--out", bench.out("none")}, 2,
              {"more shards than prompts", "--shard 2/3"});
  CHECK_FALSE(fs::exists(bench.out("none")));
  check_done({"train-lens", "--type", "jacobian", "--from-sums",
              bench.out("part0") + "/jacobian_sums.safetensors", "--from-sums",
              bench.out("part1") + "/jacobian_sums.safetensors", "--out", bench.out("joined"), "--quiet"});
  for (const char* name : {"whole", "joined"}) {
    check_done(
        {"convert-lens", bench.out(name) + "/jacobian_lens.pt", bench.out(name) + ".safetensors", "--quiet"});
  }
  CHECK(Safetensors::read(bench.out("whole.safetensors")).data ==
        Safetensors::read(bench.out("joined.safetensors")).data);
  check_done({"analyze", "--input", "data/corpora/bread.txt", "--limit", "1", "--out", bench.out("run"),
              "--lens", "jacobian:" + bench.out("joined") + "/jacobian_lens.pt", "--quiet"});
}

TEST_CASE(
    "--resume begins a training, leaves a complete one, and writes a lens that was lost from its "
    "checkpoint") {
  const Bench bench;
  const fs::path lens = bench.out("lens");
  check_done(bench.train("lens", {"--resume", "--quiet"}));
  const auto before = files_below(lens);
  check_done(bench.train("lens", {"--resume"}));
  CHECK(files_below(lens) == before);
  // What writers that were killed have left goes; what only looks like that stays.
  const std::vector<std::string> left = {"params.pt.0123456789abcdef.tmp", ".new-0123456789abcdef",
                                         "training.jsonl.fedcba9876543210.tmp"};
  for (const std::string& name : left) write_bytes(lens / name, "left");
  write_bytes(lens / "mine.tmp", "kept");
  check_done(bench.train("lens", {"--resume"}));
  for (const std::string& name : left) CHECK_FALSE(fs::exists(lens / name));
  CHECK(read_bytes(lens / "mine.tmp") == "kept");
  fs::remove(lens / "mine.tmp");
  // As a full disk or a kill between checkpoint and lens leaves it.
  for (const char* name : {"params.pt", "config.json", "training.json"}) fs::remove(lens / name);
  check_done(bench.train("lens", {"--resume", "--quiet"}));
  for (const auto& [name, bytes] : before) {
    INFO(name);
    if (name != "training.json") CHECK(read_bytes(lens / name) == bytes);
  }
  Json record = read_json(lens / "training.json"), old = Json::parse(before.at("training.json"));
  record.erase("volatile");
  old.erase("volatile");
  CHECK(record == old);
  check_error(bench.train("lens", {"--resume", "--seed", "9"}), 2, {"begun with other settings", "seed"});
}

TEST_CASE("one training at a time in a folder, and a model's folder is none for a lens") {
  const Bench bench;
  Process first(Start{.arguments = bench.train("lens", {"--steps", "2000", "--epochs", "2000"})});
  while (first.running() && !fs::exists(fs::path(bench.out("lens")) / "lock")) ::usleep(2000);
  REQUIRE(first.running());
  for (const char* flag : {"--resume", "--overwrite"})
    check_error(bench.train("lens", {flag}), 6, {"another process is at work", bench.out("lens")});
  first.send(SIGINT);
  const Result result = first.wait();
  INFO(result.err);
  CHECK(result.status == 130);
  CHECK_FALSE(fs::exists(fs::path(bench.out("lens")) / "lock"));

  const std::string config = read_bytes(bench.model.folder() / "config.json");
  const std::vector<std::string> model = {"train-lens",  "--model", bench.model.path(), "--input", bench.text,
                                          "--overwrite", "--out",   bench.model.path()};
  check_error(model, 6, {"config.json' is no lens"});
  check_error({"convert-lens", bench.model.lens("tuned"), bench.model.path(), "--overwrite"}, 6,
              {"config.json' is no lens"});
  check_error({"convert-lens", bench.model.lens("tuned"),
               (bench.model.folder() / "model.safetensors").string(), "--overwrite"},
              6, {"model.safetensors' is no lens"});
  CHECK(read_bytes(bench.model.folder() / "config.json") == config);
}

TEST_CASE("a lens that was put where another was trained is not taken for that one") {
  const Bench bench;
  check_done(bench.train("a", {}));
  check_done(bench.train("b", {"--lr-scale", "0.1"}));
  const auto before = files_below(bench.out("a"));
  check_error({"convert-lens", bench.out("b"), bench.out("a"), "--overwrite"}, 6,
              {"a lens was trained there", "training.json"});
  CHECK(files_below(bench.out("a")) == before);
  check_done(bench.train("a", {"--resume"}));  // is complete
  fs::copy_file(fs::path(bench.out("b")) / "params.pt", fs::path(bench.out("a")) / "params.pt",
                fs::copy_options::overwrite_existing);
  const auto put = files_below(bench.out("a"));
  check_error(bench.train("a", {"--resume"}), 4, {"not the one that was trained there", bench.out("a")});
  check_error({"train-lens", "--join", bench.out("a"), "--out", bench.out("joined")}, 4,
              {"not the one that was trained there"});
  CHECK(files_below(bench.out("a")) == put);
}

TEST_CASE("a training without validation holds no text back") {
  const Bench bench;
  const auto train = [&](const std::string& name, const std::vector<std::string>& more) {
    return std::vector<std::string>{"train-lens",        "--model", bench.model.path(), "--input",
                                    bench.text,          "--out",   bench.out(name),    "--quiet",
                                    "--steps",           "2",       "--max-length",     "16",
                                    "--tokens-per-step", "64"} +
           more;
  };
  check_error(train("x", {}), 3, {"too short"});  // for as much as is held back
  check_done(train("x", {"--validate-every", "0"}));
  CHECK(read_json(fs::path(bench.out("x")) / "training.json").at("settings").at("validation_tokens") == 0);
}

TEST_CASE("mistakes with train-lens, eval-lens and convert-lens are reported") {
  const Bench bench;
  const std::string none = bench.out("none");
  check_error({"train-lens", "--out", none}, 2, {"--input"});
  check_error({"train-lens", "--input", bench.text}, 2, {"--out"});
  check_error(bench.train("x", {"--steps", "100000"}), 3, {"too short", "expected", "--epochs"});
  check_error(bench.train("x", {"--tokens-per-step", "4"}), 2, {"no room for a window", "16"});
  // Told before the text is read, which is too short here.
  const auto train_long = [&bench](const std::string& flag, const std::string& value) {
    return bench.train("x", {"--steps", "100000", flag, value});
  };
  check_error(train_long("--layers", "3-9"), 2, {"--layers", "0 ≤ A ≤ B ≤ 2"});
  check_error(train_long("--init", none), 3, {"none"});
  check_error(bench.train("x", {"--damp-frequent", "10"}), 2, {"--damp-frequent", "K:FACTOR"});
  check_error(bench.train("x", {"--damp-frequent", "10:2"}), 2, {"K:FACTOR"});
  check_error(bench.train("x", {"--optimizer", "lion"}), 2, {"--optimizer"});
  check_error(bench.train("x", {"--lr-scale", "1e300"}), 2, {"--lr-scale", "above 0 to 1e6"});
  check_error(bench.train("x", {"--weight-decay", "1e39"}), 2, {"--weight-decay", "from 0 to 1e6"});
  check_error(bench.train("x", {"--resume", "--overwrite"}), 2, {"contradict"});
  check_error({"train-lens", "--input", bench.text, "--out", none, "--keep", "best", "--validate-every", "0"},
              2, {"--keep best"});
  check_error(bench.train("x", {"--validate-every", "0"}), 2,
              {"--validation-tokens", "--validate-every above 0"});
  check_error(bench.train("x", {"--prompts", "5"}), 2, {"--prompts"});
  check_error({"train-lens", "--type", "jacobian", "--input", bench.text, "--out", none, "--loss", "ce"}, 2,
              {"--loss"});
  check_error(bench.train("x", {"--init", none}), 3, {"none"});
  check_error({"eval-lens", "--input", bench.text, "--out", none, "--transfer"}, 2, {"--transfer"});
  check_error({"convert-lens", none, bench.out("y")}, 3, {"none"});
  check_error(
      {"convert-lens", "jacobian:" + bench.model.lens("tuned.safetensors"), bench.out("y.safetensors")}, 2,
      {"another type", "expected a Jacobian lens, found a tuned lens"});
  check_error({"convert-lens", bench.text, bench.out("y")}, 4, {"long.txt"});
  check_error({"convert-lens", bench.model.lens("tuned"), bench.model.lens("tuned")}, 2, {});

  // What stands between documents need not be in any of them. The model has 67 tokens, the tokenizer 64.
  util::OrderedJson tokenizer = small_tokenizer();
  for (const char* content : {"<a>", "<b>", "<c>", "</s>"}) {
    util::OrderedJson added = tokenizer["added_tokens"][0];
    added["id"] = 63 + tokenizer["added_tokens"].size();
    added["content"] = content;
    tokenizer["added_tokens"].push_back(added);
  }
  bench.model.write("tokenizer.json", tokenizer.dump());
  bench.model.write("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>"})");
  check_error(bench.train("x"), 4, {"the tokenizer does not fit the model", "67 for '</s>'"});
}

TEST_CASE("a lens that the disk does not take leaves nothing and tells why") {
  const Bench bench;
  const auto too_small = [](std::vector<std::string> arguments, const std::string& name) {
    check_error({.arguments = std::move(arguments), .largest_file = 1000}, 6,
                {"cannot write", name, "File too large"});
  };
  too_small({"convert-lens", bench.model.lens("tuned.safetensors"), bench.out("x"), "--quiet"}, "params.pt");
  too_small({"convert-lens", bench.model.lens("tuned"), bench.out("x.safetensors"), "--quiet"},
            "x.safetensors");
  too_small({"convert-lens", bench.model.lens("jacobian.pt"), bench.out("x.pt"), "--quiet"}, "x.pt");
  for (const auto& item : fs::directory_iterator(bench.model.beside("")))
    CHECK(item.path().filename().string().rfind("x", 0) != 0);
}

TEST_CASE("a changed byte of a lens is found by its checksum") {
  const Bench bench;
  fs::copy(bench.model.lens("tuned"), bench.out("lens"));
  const fs::path params = fs::path(bench.out("lens")) / "params.pt";
  std::string bytes = read_bytes(params);
  bytes[bytes.size() / 2] ^= 0x04;
  write_bytes(params, bytes);
  const std::string lens = "tuned:" + bench.out("lens");
  check_error({"analyze", "--model", bench.model.path(), "--input", bench.text, "--out", bench.out("run"),
               "--lens", lens},
              4, {"damaged torch.save archive", params.string() + ": params/data/", "CRC-32"});
  check_error({"convert-lens", bench.out("lens"), bench.out("y.safetensors")}, 4, {"params.pt"});
  check_error({"info", bench.out("lens")}, 4, {"params.pt"});
}

TEST_CASE("a lens of another model of the same shape is refused by its unembed_hash") {
  const Bench bench;
  fs::copy(bench.model.lens("tuned"), bench.out("lens"));
  Json config = read_json(fs::path(bench.out("lens")) / "config.json");
  const std::string right = config.at("unembed_hash"), other(64, 'e');
  config["unembed_hash"] = other;
  write_bytes(fs::path(bench.out("lens")) / "config.json", config.dump());
  const auto analyze = [&](const std::string& out, const std::vector<std::string>& more) {
    return std::vector<std::string>{
               "analyze",      "--model", bench.model.path(),           "--input", bench.text, "--out",
               bench.out(out), "--lens",  "tuned:" + bench.out("lens"), "--quiet"} +
           more;
  };
  for (const char* dtype : {"float32", "bfloat16"})
    check_error(analyze("run", {"--dtype", dtype}), 4, {"another model", "unembed_hash", right, other});
  check_error(analyze("run", {"--stream-layers"}), 4, {"unembed_hash"});
  check_done(analyze("run", {"--allow-lens-mismatch"}));
  const Json warnings = read_json(fs::path(bench.out("run")) / "run.json").at("warnings");
  REQUIRE(warnings.size() == 1);
  CHECK(contains(warnings[0].get<std::string>(), other));
  const Result result = check_done(bench.train("more", {"--init", bench.out("lens")}));
  CHECK(contains(result.err, other));
}

TEST_CASE("probabilities of calibration add up to 1, exact and fast") {
  const Bench bench;
  for (const char* decode : {"exact", "fast"}) {
    const std::string out = bench.out(decode);
    check_done({"analyze", "--input", "data/corpora/bread.txt", "--limit", "1", "--out", out, "--experiment",
                "calibration", "--lens", "logit", "--records", "none", "--decode", decode, "--quiet"});
    const Json table =
        read_json(fs::path(out) / "summary.json").at("tables").at("calibration.frequency_bias");
    int rows = 0;
    for (const Json& row : table.at("rows")) {
      CHECK(row[5].is_number());  // kl_corpus
      if (row[2] != "all") continue;
      ++rows;
      CHECK(row[4].get<double>() == Approx(1).margin(1e-6));
    }
    CHECK(rows == 13);
  }
}

TEST_CASE("a training that the disk does not take keeps its last checkpoint") {
  const Bench bench;
  check_done(bench.train("lens", {"--steps", "2"}));
  const auto size = fs::file_size(fs::path(bench.out("lens")) / "checkpoint.safetensors");
  check_error({.arguments = bench.train("full"), .largest_file = size / 2}, 6, {"full"});
  CHECK_FALSE(fs::exists(fs::path(bench.out("full")) / "params.pt"));
  CHECK_FALSE(fs::exists(fs::path(bench.out("full")) / "checkpoint.safetensors"));
}

}  // namespace depthlens::test
