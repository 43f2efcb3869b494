// What a run says of what made it, in what two runs differ, and the list of the runs below a folder.
#include <algorithm>

#include "checks.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "support/finished_run.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

using util::Json;
using util::OrderedJson;
using Words = std::vector<std::string>;

/// Runs of one small model, side by side.
struct Bench {
  SmallModel model;
  std::string text = model.text_file();

  std::string at(const std::string& name) const { return model.beside(name).string(); }
  /// A run in the folder `name`; its run.json.
  Json run(const std::string& name, const Words& more = {}) const {
    return run_of(name, model.path(), text, more);
  }
  Json run_of(const std::string& name, const std::string& folder, const std::string& input,
              const Words& more = {}) const {
    check_done(Words{"analyze", "--model", folder, "--input", input, "--out", at(name), "--quiet", "--report",
                     "no"} +
               more);
    return read_json(model.beside(name) / "run.json");
  }
  Json info(const Words& words) const { return Json::parse(check_done(Words{"info", "--json"} + words).out); }
  Json compared(const std::string& a, const std::string& b) const { return info({at(a), at(b)}); }
};

/// The values of a list of differences, by key.
std::map<std::string, Json> by_key(const Json& differences) {
  std::map<std::string, Json> found;
  for (const Json& one : differences) found[one.at("key")] = one.at("values");
  return found;
}

std::string digest(const Json& run, const std::string& part) {
  return run.at(part).at("digest");
}

Json in_settings(const std::string& key, const std::map<std::string, Json>& found) {
  INFO(key);
  REQUIRE(found.size() == 1);
  REQUIRE(found.count("settings." + key) == 1);
  return found.at("settings." + key);
}

}  // namespace

TEST_CASE("weights, tokenizer and counts changed at the same path change run.json") {
  const Bench bench;
  check_done({"count-tokens", "--model", bench.model.path(), "--input", bench.text, "--out",
              bench.at("n.json"), "--quiet"});
  const Words counted = {"--token-counts", bench.at("n.json")};
  const Json before = bench.run("before", counted);
  CHECK(before.at("token_counts").at("sha256") == util::sha256(read_bytes(bench.at("n.json"))));
  CHECK(before.at("token_counts").at("path") == bench.at("n.json"));
  CHECK_FALSE(bench.run("plain").contains("token_counts"));

  Safetensors weights = bench.model.weights();
  weights.data.back() = static_cast<char>(weights.data.back() ^ 1);
  bench.model.write("model.safetensors", weights.bytes());
  const Json weighed = bench.run("weights", counted);
  CHECK(digest(weighed, "model") != digest(before, "model"));
  CHECK(digest(weighed, "tokenizer") == digest(before, "tokenizer"));
  const auto changed = by_key(bench.compared("before", "weights").at("different"));
  for (const auto& [key, values] : changed) CHECK(key.rfind("model.", 0) == 0);
  CHECK(changed.count("model.digest") == 1);
  CHECK(changed.count("model.files.model.safetensors.sha256") == 1);

  bench.model.write("tokenizer_config.json", R"({"model_max_length": 7})");
  const Json worded = bench.run("tokens", counted);
  CHECK(digest(worded, "tokenizer") != digest(before, "tokenizer"));
  CHECK(digest(worded, "model") == digest(weighed, "model"));

  write_bytes(bench.at("n.json"), read_bytes(bench.at("n.json")) + "\n");
  bench.run("counts", counted);
  const auto other = by_key(bench.compared("tokens", "counts").at("different"));
  CHECK(other.size() == 1);
  CHECK(other.count("token_counts.sha256") == 1);
}

TEST_CASE("a model of the hub cache and a copy of it have the same digests") {
  const Bench bench;
  const std::string commit(40, '7');
  const fs::path repository = bench.model.beside("hub/models--org--small"),
                 snapshot = repository / "snapshots" / commit;
  fs::create_directories(repository / "refs");
  fs::create_directories(repository / "blobs");
  fs::create_directories(snapshot);
  write_bytes(repository / "refs/main", commit);
  for (const auto& file : fs::directory_iterator(bench.model.folder())) {
    const std::string bytes = read_bytes(file.path());
    const bool weights = file.path().extension() == ".safetensors";
    const std::string name = util::sha256(bytes).substr(0, weights ? 64 : 40);
    write_bytes(repository / "blobs" / name, bytes);
    fs::create_symlink(fs::path("../../blobs") / name, snapshot / file.path().filename());
  }
  const Json copy = bench.run("copy");
  check_done(Start{.arguments = {"analyze", "--model", "org/small", "--input", bench.text, "--out",
                                 bench.at("hub-run"), "--quiet", "--report", "no"},
                   .environment = {{"HF_HUB_CACHE", bench.at("hub")}}});
  const Json cached = read_json(bench.model.beside("hub-run/run.json"));
  CHECK(cached.at("model").at("revision") == commit);
  CHECK_FALSE(copy.at("model").contains("revision"));
  for (const char* part : {"model", "tokenizer"}) {
    CHECK(digest(copy, part) == digest(cached, part));
    CHECK(copy.at(part).at("files") == cached.at(part).at("files"));
  }
  const Json compared = bench.compared("copy", "hub-run");
  CHECK(compared.at("different").empty());
  const auto places = by_key(compared.at("other_path"));
  CHECK(places.at("model.path") == Json({bench.model.path(), "org/small"}));
  CHECK(places.at("model.revision") == Json({nullptr, commit}));
  CHECK(contains(check_done({"info", bench.at("copy"), bench.at("hub-run")}).out,
                 "no difference\nsame contents, other path: model.path: "));
}

TEST_CASE("two runs differ in one setting each, and say whether documents can be paired") {
  const Bench bench;
  bench.run("plain");
  const std::vector<std::tuple<std::string, Words, Json, bool>> ways = {
      {"top_k", {"--top-k", "5"}, Json({10, 5}), true},
      {"max_records", {"--max-records", "0"}, Json({20000, 0}), true},
      {"decode", {"--decode", "fast"}, Json({"exact", "fast"}), true},
      {"buckets", {"--buckets", "3,7"}, Json({{10, 100, 1000}, {3, 7}}), true},
      {"seed", {"--seed", "3"}, Json({0, 3}), false},
      {"limit", {"--limit", "1000"}, Json({0, 1000}), false}};
  for (const auto& [key, words, values, paired] : ways) {
    bench.run(key, words);
    const Json found = bench.compared("plain", key);
    CHECK(found.at("kind") == "comparison");
    CHECK(found.at("of") == "run");
    CHECK(in_settings(key, by_key(found.at("different"))) == values);
    CHECK(found.at("paired").at("possible") == paired);
    CHECK(found.at("paired").at("why") == (paired ? Json::array() : Json({"settings." + key})));
    const Json same = found.at("same");
    for (const char* part : {"model", "tokenizer", "lenses", "inputs", "counts", "depthlens"})
      CHECK(std::find(same.begin(), same.end(), part) != same.end());
    CHECK(std::find(same.begin(), same.end(), "settings") == same.end());
  }
  const std::string lines = check_done({"info", bench.at("plain"), bench.at("top_k")}).out;
  CHECK(contains(lines, "\nsettings.top_k: 10 | 5\n"));
  CHECK(contains(lines, "\nsame: model, tokenizer, lenses, inputs, counts, warnings, depthlens\n"));
  CHECK(contains(lines, "\ncomparable document by document"));
  CHECK(contains(check_done({"info", bench.at("plain"), bench.at("seed")}).out,
                 "\nnot comparable document by document, for these differ: settings.seed\n"));
  const Json itself = bench.compared("plain", "plain");
  CHECK(itself.at("different").empty());
  CHECK(itself.at("other_path").empty());
}

TEST_CASE("two runs differ in inputs, lenses and warnings") {
  const Bench bench;
  bench.run("a");
  const std::string copy = bench.model.text_file("copy.txt"), other = bench.at("other.txt");
  bench.run_of("b", bench.model.path(), copy);
  CHECK(bench.compared("a", "b").at("different").empty());
  CHECK(by_key(bench.compared("a", "b").at("other_path")).at("inputs[0].path") == Json({bench.text, copy}));

  write_bytes(other, "the boat\n\nof the men\n");
  bench.run_of("c", bench.model.path(), other,
               {"--lens", "tuned:" + bench.model.lens("tuned"), "--max-length", "100000"});
  const Json found = bench.compared("a", "c");
  const auto different = by_key(found.at("different"));
  CHECK(different.at("inputs[0].sha256")[1] == util::sha256(read_bytes(other)));
  CHECK(different.at("lenses.logit")[1].is_null());
  CHECK(different.at("lenses.tuned")[0].is_null());
  CHECK(different.at("warnings")[0] == Json::array());
  CHECK(different.at("warnings")[1].size() == 1);
  CHECK(found.at("paired").at("why") == Json({"inputs"}));
  const std::string lines = check_done({"info", bench.at("a"), bench.at("c")}).out;
  CHECK(contains(lines, "\nwarning of B only: windows of "));
  CHECK(contains(lines, "\nlenses.logit: "));
}

TEST_CASE("runs whose run.json lacks what makes them comparable are not, whoever compares them") {
  const Bench bench;
  const Json run = bench.run("a");
  bench.run("b");
  const auto path = bench.model.beside("b") / "run.json";
  const auto check = [&](const Json& changed, const std::string& why) {
    write_bytes(path, changed.dump());
    CHECK(bench.compared("a", "b").at("paired").at("why") == Json({why}));
    check_done(
        {"report", "--compare", bench.at("a"), bench.at("b"), "--out", bench.at("page.html"), "--quiet"});
    CHECK(contains(read_bytes(bench.at("page.html")), "\"paired\":false"));
  };
  Json changed = run;
  changed.erase("status");
  check(changed, "status");
  changed = run;
  changed.at("inputs")[0].at("documents") = 1000;
  check(changed, "inputs");
  changed = run;
  changed.at("inputs")[0].erase("sha256");
  check(changed, "inputs");
}

TEST_CASE("info reads a run.json of any size that the program reads") {
  const Bench bench;
  bench.run("a");
  const auto path = bench.model.beside("a") / "run.json";
  write_bytes(path, read_bytes(path) + std::string(std::size_t{65} << 20, ' '));
  CHECK(bench.info({bench.at("a")}).at("status") == "complete");
  CHECK(bench.info({bench.model.beside("").string()})[0].at("status") == "complete");
}

TEST_CASE("two models and two lenses are compared, other things are not") {
  const Bench bench;
  const SmallModel other;
  CHECK(bench.info({bench.model.path(), other.path()}).at("different").empty());
  other.configure({{"layer_norm_epsilon", 1e-6}});
  const auto models = by_key(bench.info({bench.model.path(), other.path()}).at("different"));
  CHECK(models.count("digest") == 1);
  CHECK(models.count("files.config.json.sha256") == 1);
  CHECK(models.count("files.model.safetensors.sha256") == 0);

  const std::string folder = bench.model.lens("tuned"), file = bench.model.lens("tuned.safetensors");
  const Json lenses = bench.info({folder, "tuned:" + file});
  CHECK(lenses.at("of") == "lens");
  CHECK(by_key(lenses.at("different")).count("digest") == 0);
  CHECK(by_key(bench.info({folder, bench.model.lens("jacobian.pt")}).at("different")).count("type") == 1);
  CHECK_FALSE(lenses.contains("paired"));

  const Json run = bench.run("run", {"--lens", "tuned:" + file});
  CHECK(bench.info({folder}).at("digest") == run.at("lenses")[0].at("digest"));
  CHECK(bench.info({bench.model.path()}).at("digest") == run.at("model").at("digest"));
  CHECK(bench.info({bench.model.path()}).at("tokenizer").at("digest") == run.at("tokenizer").at("digest"));
  check_error({"info", bench.at("run"), bench.model.path()}, 2,
              {"cannot be compared", "two runs, two models or two lenses", "a run (", "a model ("});
  check_error({"info", bench.at("run"), bench.at("missing")}, 3, {"missing"});
  check_error({"info", bench.at(""), bench.at("run")}, 2, {"no run, model or lens", "lists the runs below"});
  check_error({"info", "a", "b", "c"}, 2, {"unexpected argument"});
}

TEST_CASE("info and run.json tell for which model a published lens was made, and how") {
  const Bench bench;
  // neuronpedia's layout: the lens, and config.yaml beside it.
  const std::string folder = bench.at("hub/tiny/jlens/corpus");
  fs::create_directories(folder);
  fs::copy_file(bench.model.lens("jacobian.pt"), folder + "/tiny_jacobian_lens.pt");
  util::write_file(folder + "/config.yaml",
                   "hf_model_name: \"org/tiny\"\nfit:\n  target_layer: -1\n  max_seq_len: 128\n");
  for (const std::string& subject :
       {folder + "/tiny_jacobian_lens.pt", folder, bench.at("hub"), "jacobian:" + bench.at("hub")}) {
    INFO(subject);
    const Json lens = bench.info({subject});
    CHECK(lens.at("kind") == "lens");
    CHECK(lens.at("type") == "jacobian");
    CHECK(lens.at("path") == folder + "/tiny_jacobian_lens.pt");
    CHECK(lens.at("model") == "org/tiny");
    CHECK(lens.at("target_layer") == -1);
    CHECK(lens.at("layers").size() == lens.at("blocks").size());
    CHECK(lens.at("layers")[0].get<int>() == lens.at("blocks")[0].get<int>() + 1);
    CHECK(lens.at("told_by") == Json::array({folder + "/config.yaml"}));
  }
  const Json run = bench.run("run", {"--lens", "jacobian:" + bench.at("hub")}).at("lenses")[0];
  CHECK(run.at("about").at("model") == "org/tiny");
  CHECK(run.at("about").at("target_layer") == -1);
  CHECK_FALSE(run.at("about").at("layers").empty());
  CHECK(run.at("digest") == bench.info({folder}).at("digest"));
  util::write_file(folder + "/config.yaml", "fit:\n  target_layer: 0\n");
  check_error({"analyze", "--model", bench.model.path(), "--input", bench.text, "--out", bench.at("none"),
               "--lens", "jacobian:" + folder},
              4, {"config.yaml: fit.target_layer", "expected the last residual state", "found 0"});
  CHECK(bench.info({folder}).at("target_layer") == 0);
  fs::copy_file(bench.model.lens("jacobian.pt"), folder + "/second.pt");
  check_error({"info", bench.at("hub")}, 3, {"several lenses", "second.pt", "tiny_jacobian_lens.pt"});
}

TEST_CASE("info of a folder lists the runs below it with what sets them apart") {
  const Bench bench;
  bench.run("runs/plain");
  bench.run("runs/deep/er/k5", {"--top-k", "5"});
  bench.run("runs/tuned", {"--lens", "tuned:" + bench.model.lens("tuned")});
  bench.run("runs/broken");
  bench.run("runs/short");
  bench.run("runs/.hidden");
  write_bytes(bench.at("runs/broken/run.json"), "{\"status\": ");
  fs::remove(bench.at("runs/short/summary.json"));
  fs::create_directories(bench.at("runs/begun/parts"));
  Json partial = read_json(bench.at("runs/plain/run.json"));
  partial["status"] = "partial";
  write_bytes(bench.at("runs/plain/run.json"), partial.dump());

  const Json list = bench.info({bench.at("runs")});
  REQUIRE(list.is_array());
  std::vector<std::pair<std::string, std::string>> found;
  for (const Json& one : list) found.emplace_back(one.at("path"), one.at("status"));
  CHECK(found == std::vector<std::pair<std::string, std::string>>{{"begun", "unfinished"},
                                                                  {"broken", "damaged"},
                                                                  {"deep/er/k5", "complete"},
                                                                  {"plain", "partial"},
                                                                  {"short", "damaged"},
                                                                  {"tuned", "complete"}});
  CHECK(contains(list[1].at("problem"), "not valid JSON"));
  CHECK(contains(list[4].at("problem"), "summary.json"));
  CHECK(list[2].at("apart") == Json({{"lenses", "logit"}, {"top_k", "5"}}));
  CHECK(list[3].at("apart") == Json({{"lenses", "logit"}, {"top_k", "10"}}));
  CHECK(list[5].at("apart").at("lenses") == "tuned=" + bench.model.lens("tuned"));
  CHECK(list[2].at("settings").at("top_k") == 5);

  const std::vector<std::string> lines = util::split(check_done({"info", bench.at("runs")}).out, '\n');
  CHECK(contains(lines[0], "run "));
  CHECK(contains(lines[0], "top_k"));
  CHECK_FALSE(contains(lines[0], "seed"));
  CHECK(contains(lines[6], bench.model.lens("tuned")));  // whole in a pipe
  const Result narrow = check_done(Start{.arguments = {"info", bench.at("runs")}, .terminal = true});
  const std::vector<std::string> cut = util::split(narrow.out, '\n');
  for (std::size_t i = 0; i < 7; ++i) {
    INFO(cut[i]);
    const auto characters =
        std::count_if(cut[i].begin(), cut[i].end(), [](char c) { return (c & 0xc0) != 0x80 && c != '\r'; });
    CHECK(characters <= 80);
  }
  CHECK(contains(narrow.out, "…"));

  // Under one path, other weights.
  Safetensors weights = bench.model.weights();
  weights.data.back() = static_cast<char>(weights.data.back() ^ 1);
  bench.model.write("model.safetensors", weights.bytes());
  bench.run("runs/new-weights");
  const Json both = bench.info({bench.at("runs")});
  CHECK(contains(both[4].at("apart").at("model"), bench.model.path() + "#"));
  CHECK(both[4].at("apart").at("model") != both[3].at("apart").at("model"));

  fs::create_directories(bench.at("empty"));
  check_error({"info", bench.at("empty")}, 3, {"no run, model or lens in the folder"});
  const Json alone = bench.info({bench.at("runs/deep")});
  CHECK(alone[0].at("apart") == Json::object());
}

TEST_CASE("info of a run is in groups, with a line for each file, input and warning") {
  const Bench bench;
  bench.run("run", {"--max-length", "100000", "--lens", "tuned:" + bench.model.lens("tuned")});
  const std::string lines = check_done({"info", bench.at("run")}).out;
  CHECK(contains(lines, "\n\nmodel.path "));
  CHECK(contains(lines, "\n\nlenses.tuned.name "));
  CHECK(contains(lines, "\nmodel.files.model.safetensors "));
  CHECK(contains(lines, " bytes, SHA-256 "));
  CHECK(contains(lines, "\n\ninputs[0].path "));
  CHECK(contains(lines, "\nwarnings[0] "));
  CHECK(contains(lines, "\ncounts.dropped               none\n"));
}

TEST_CASE("several unnamed lenses of one type are called by their folders") {
  const Bench bench;
  const Words copies = {bench.at("lens/first"), bench.at("lens/second")};
  for (const std::string& copy : copies) {
    fs::create_directories(fs::path(copy).parent_path());
    fs::copy(bench.model.lens("tuned"), copy, fs::copy_options::recursive);
  }
  const Json run = bench.run("run", {"--lens", "tuned:" + copies[0], "--lens", "tuned:" + copies[1]});
  CHECK(run.at("lenses")[0].at("name") == "tuned-first");
  CHECK(run.at("lenses")[1].at("name") == "tuned-second");
  const FinishedRun finished = FinishedRun::read(bench.at("run"));
  CHECK(finished.rows("lens.quality").front().at("lens") == "tuned-first");
  CHECK(finished.records.front().at("lenses").contains("tuned-second"));
}

}  // namespace depthlens::test
