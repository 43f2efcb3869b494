// depthlens analyze, end to end: the files of a run, their contents, and that they do not depend on chance or
// threads.
#include <set>

#include "checks.hpp"
#include "depthlens/util/files.hpp"
#include "support/finished_run.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

using util::Json;
using util::OrderedJson;

const std::vector<std::string> kDemoInput = {"--input", "data/corpora/harbour.txt", "--limit", "2"};

/// One run of the demo model that several tests look at.
struct DemoRun {
  TemporaryFolder temporary;
  fs::path folder = temporary.path() / "out";
  Result result = check_done(std::vector<std::string>{"analyze", "--out", folder.string(), "--threads", "1"} +
                             kDemoInput);
  FinishedRun finished = FinishedRun::read(folder);
};

const DemoRun& demo_run() {
  static const DemoRun run;
  return run;
}

/// One run of a small model through every kind of lens, with records of the whole vocabulary.
struct SmallRun {
  SmallModel model;
  fs::path folder = model.beside("out");
  Result result = check_done({"analyze",
                              "--model",
                              model.path(),
                              "--input",
                              model.text_file(),
                              "--out",
                              folder.string(),
                              "--lens",
                              "logit",
                              "--lens",
                              "tuned:" + model.lens("tuned"),
                              "--lens",
                              "jacobian:" + model.lens("jacobian.pt"),
                              "--lens",
                              "tuned:" + model.lens("tuned.safetensors"),
                              "--lens",
                              "mine=tuned:" + model.lens("tuned"),
                              "--top-k",
                              "67",
                              "--buckets",
                              "3,10,40"});
  FinishedRun finished = FinishedRun::read(folder);
};

const SmallRun& small_run() {
  static const SmallRun run;
  return run;
}

std::set<std::string> keys_of(const OrderedJson& object) {
  std::set<std::string> keys;
  for (const auto& item : object.items()) keys.insert(item.key());
  return keys;
}

std::string first_bytes(const std::string& text, std::size_t most) {
  return text.substr(0, most);
}

}  // namespace

TEST_CASE("analyze writes the documented files and nothing else") {
  std::set<std::string> names;
  for (const auto& [name, bytes] : lasting_files(demo_run().folder)) names.insert(name);
  const std::set<std::string> expected = {"run.json",
                                          "records.jsonl",
                                          "report.html",
                                          "summary.json",
                                          "tables/lens.quality.csv",
                                          "tables/frequency.corpus.csv",
                                          "tables/frequency.targets.csv",
                                          "tables/frequency.top1_share.csv",
                                          "tables/frequency.mean_probability.csv",
                                          "tables/flips.by_bucket.csv",
                                          "tables/flips.changes.csv",
                                          "tables/settling.depth.csv",
                                          "tables/settling.first_hit.csv",
                                          "replicates/lens.quality.npy",
                                          "replicates/frequency.corpus.npy",
                                          "replicates/frequency.targets.npy",
                                          "replicates/frequency.top1_share.npy",
                                          "replicates/frequency.mean_probability.npy",
                                          "replicates/flips.by_bucket.npy",
                                          "replicates/flips.changes.npy",
                                          "replicates/settling.depth.npy",
                                          "replicates/settling.first_hit.npy"};
  CHECK(names == expected);
  CHECK(demo_run().result.out.empty());
  CHECK(contains(demo_run().result.err, demo_run().folder.string()));
}

TEST_CASE("run.json holds what was run") {
  const OrderedJson& run = demo_run().finished.run;
  CHECK(keys_of(run) == std::set<std::string>{"schema_version", "status", "model", "tokenizer", "lenses",
                                              "inputs", "settings", "counts", "warnings", "self_check",
                                              "depthlens", "volatile"});
  CHECK(run.at("schema_version") == 1);
  CHECK(run.at("status") == "complete");

  const Json config = read_json(fs::path(DEPTHLENS_SOURCE_DIR) / "data/demo/config.json");
  const OrderedJson& model = run.at("model");
  CHECK(keys_of(model) == std::set<std::string>{"path", "architecture", "layers", "hidden_size", "vocab_size",
                                                "rotary", "parameters", "dtype", "digest", "files"});
  const OrderedJson rotary = {{"blocks", nullptr}, {"base", 10000.0}, {"dims", 64}, {"scaling", "none"}};
  CHECK(model.at("rotary") == OrderedJson::array({rotary}));
  CHECK(model.at("path") == "data/demo");
  CHECK(model.at("architecture") == config.at("architectures").at(0));
  CHECK(model.at("layers") == config.at("num_hidden_layers"));
  CHECK(model.at("hidden_size") == config.at("hidden_size"));
  CHECK(model.at("vocab_size") == config.at("vocab_size"));
  CHECK(model.at("parameters") > 7'000'000);
  CHECK(model.at("dtype") == "float32");

  const fs::path demo = fs::path(DEPTHLENS_SOURCE_DIR) / "data/demo";
  std::string lines;
  for (const char* name : {"config.json", "model.safetensors"})
    lines += util::sha256(read_bytes(demo / name)) + "  " + name + "\n";
  CHECK(model.at("digest") == util::sha256(lines));
  CHECK(model.at("files")[1] ==
        OrderedJson({{"name", "model.safetensors"},
                     {"bytes", fs::file_size(demo / "model.safetensors")},
                     {"sha256", util::sha256(read_bytes(demo / "model.safetensors"))}}));

  CHECK(keys_of(run.at("tokenizer")) == std::set<std::string>{"kind", "size", "digest", "files"});
  CHECK(run.at("tokenizer").at("kind") == "SentencePiece");
  CHECK(run.at("tokenizer").at("size") == config.at("vocab_size"));
  CHECK(run.at("lenses") ==
        OrderedJson::array({{{"name", "logit"}, {"type", "logit"}, {"path", nullptr}, {"digest", nullptr}}}));

  REQUIRE(run.at("inputs").size() == 1);
  const OrderedJson& input = run.at("inputs").at(0);
  CHECK(keys_of(input) == std::set<std::string>{"path", "sha256", "documents", "tokens", "bytes"});
  CHECK(input.at("path") == "data/corpora/harbour.txt");
  CHECK(input.at("sha256") ==
        util::sha256(read_bytes(fs::path(DEPTHLENS_SOURCE_DIR) / "data/corpora/harbour.txt")));
  CHECK(input.at("documents") == 2);

  const OrderedJson expected_settings = {{"experiments", {"trajectory", "frequency", "flips", "settling"}},
                                         {"lens_alignment", "trained"},
                                         {"allow_lens_mismatch", false},
                                         {"max_length", 512},
                                         {"add_bos", true},
                                         {"bos", config.at("bos_token_id").get<int>()},
                                         {"top_k", 10},
                                         {"positions", "all"},
                                         {"records", "jsonl"},
                                         {"max_records", 20000},
                                         {"token_counts", "input"},
                                         {"buckets", {10, 100, 1000}},
                                         {"decode", "exact"},
                                         {"dtype", "auto"},
                                         {"device", "cpu"},
                                         {"limit", 2},
                                         {"seed", 0}};
  CHECK(run.at("settings") == expected_settings);

  const OrderedJson& counts = run.at("counts");
  const auto positions = static_cast<std::int64_t>(demo_run().finished.records.size());
  CHECK(keys_of(counts) == std::set<std::string>{"documents", "windows", "tokens", "positions", "records",
                                                 "records_omitted", "dropped"});
  CHECK(counts.at("documents") == 2);
  CHECK(counts.at("windows") == 2);
  CHECK(counts.at("tokens") == positions);
  CHECK(counts.at("positions") == positions);
  CHECK(counts.at("records") == positions);
  CHECK(counts.at("records_omitted") == 0);
  CHECK(counts.at("dropped") == OrderedJson::object());
  CHECK(input.at("tokens") == positions - 2);  // without the BOS of each window

  CHECK(run.at("self_check").at("final_layer_max_abs_error") >= 0);
  CHECK(run.at("self_check").at("final_layer_max_abs_error") < 1e-3);
  CHECK(run.at("self_check").at("positions") >= 2);
  CHECK(run.at("depthlens").at("version").is_string());
  CHECK(contains(run.at("depthlens").at("libtorch").get<std::string>(), "."));
  CHECK(keys_of(run.at("volatile")) == std::set<std::string>{"started", "seconds", "host", "threads",
                                                             "kernel", "decode", "stream_layers", "out"});
  CHECK(run.at("volatile").at("threads") == 1);
  CHECK(run.at("volatile").at("out") == demo_run().folder.string());
}

TEST_CASE("records have the documented fields") {
  check_records(demo_run().finished, {"logit"}, 13, 10);
  check_records(small_run().finished, {"logit", "tuned", "jacobian", "tuned-2", "mine"}, 4, 67);
}

TEST_CASE("tables agree with the records") {
  for (const FinishedRun* run : {&demo_run().finished, &small_run().finished}) {
    const std::vector<std::int64_t> edges = run->run.at("settings").at("buckets");
    check_tables(*run, make_buckets(token_counts(*run), edges));
  }
}

TEST_CASE("CSV files and summary.json hold the same tables") {
  check_csv(demo_run().folder, demo_run().finished);
  check_csv(small_run().folder, small_run().finished);
}

TEST_CASE("a second run, another number of threads and streamed layers give the same bytes") {
  const auto expected = lasting_files(demo_run().folder);
  const std::vector<std::vector<std::string>> ways = {
      {"--threads", "1"}, {"--threads", "2"}, {"--threads", "2", "--stream-layers"}};
  for (std::size_t i = 0; i < ways.size(); ++i) {
    const fs::path out = demo_run().temporary.path() / ("way-" + std::to_string(i));
    check_done(std::vector<std::string>{"analyze", "--out", out.string()} + ways[i] + kDemoInput);
    CHECK(read_json(out / "run.json").at("volatile").at("stream_layers") == (i == 2));
    const auto found = lasting_files(out);
    CHECK(found.size() == expected.size());
    for (const auto& [name, bytes] : expected) {
      INFO(name << ", way " << i);
      CHECK(found.count(name) == 1);
      CHECK((found.count(name) == 1 && found.at(name) == bytes));
    }
  }
}

TEST_CASE("lenses get the documented names, paths and digests") {
  const OrderedJson& lenses = small_run().finished.run.at("lenses");
  REQUIRE(lenses.size() == 5);
  const std::vector<std::string> names = {"logit", "tuned", "jacobian", "tuned-2", "mine"};
  const std::vector<std::string> types = {"logit", "tuned", "jacobian", "tuned", "tuned"};
  for (std::size_t i = 0; i < lenses.size(); ++i) {
    std::set<std::string> keys = {"name", "type", "path", "digest"};
    if (types[i] != "logit") keys.insert("about");  // what the lens's files tell
    CHECK(keys_of(lenses[i]) == keys);
    CHECK(lenses[i].at("name") == names[i]);
    CHECK(lenses[i].at("type") == types[i]);
  }
  CHECK(lenses[0].at("path").is_null());
  CHECK(lenses[0].at("digest").is_null());
  CHECK(lenses[1].at("path") == small_run().model.lens("tuned"));
  CHECK(lenses[1].at("digest").get<std::string>().size() == 64);
  CHECK(lenses[1].at("digest") == lenses[3].at("digest"));  // the same parameters in another file
  CHECK(lenses[1].at("digest") != lenses[2].at("digest"));
}

TEST_CASE("lenses that should agree do, and others do not") {
  for (const Json& record : small_run().finished.records) {
    const Json& readouts = record.at("lenses");
    CHECK(readouts.at("tuned") == readouts.at("tuned-2"));
    CHECK(readouts.at("tuned") == readouts.at("mine"));
    for (const char* name : {"tuned", "jacobian"}) {  // layer L is the model's own output
      CHECK(readouts.at(name).at("top_logprobs").back() == readouts.at("logit").at("top_logprobs").back());
      CHECK(readouts.at(name).at("entropy")[1] != readouts.at("logit").at("entropy")[1]);
    }
    CHECK(readouts.at("jacobian").at("entropy")[0] == readouts.at("logit").at("entropy")[0]);
    CHECK(readouts.at("tuned").at("entropy")[0] != readouts.at("logit").at("entropy")[0]);
  }
}

TEST_CASE("--lens-alignment paper shifts the translators by one layer") {
  const SmallModel& model = small_run().model;
  const fs::path out = model.beside("paper");
  check_done({"analyze", "--model", model.path(), "--input", model.beside("text.txt").string(), "--out",
              out.string(), "--lens", "logit", "--lens", "tuned:" + model.lens("tuned"), "--lens-alignment",
              "paper", "--top-k", "67"});
  const FinishedRun run = FinishedRun::read(out);
  CHECK(run.run.at("settings").at("lens_alignment") == "paper");
  REQUIRE(run.records.size() == small_run().finished.records.size());
  for (std::size_t i = 0; i < run.records.size(); ++i) {
    const Json& readouts = run.records[i].at("lenses");
    const Json& trained = small_run().finished.records[i].at("lenses").at("tuned");
    CHECK(readouts.at("tuned").at("top_logprobs")[0] == readouts.at("logit").at("top_logprobs")[0]);
    CHECK(readouts.at("tuned").at("top_logprobs")[1] != trained.at("top_logprobs")[1]);
    CHECK(readouts.at("tuned").at("top_logprobs")[2] != trained.at("top_logprobs")[2]);
    CHECK(readouts.at("tuned").at("top_logprobs")[3] == trained.at("top_logprobs")[3]);
  }
}

TEST_CASE("a run that is there is refused, and replaced only with --overwrite") {
  SmallModel model;
  const std::vector<std::string> command = {"analyze",
                                            "--model",
                                            model.path(),
                                            "--input",
                                            model.text_file(),
                                            "--out",
                                            model.beside("out").string()};
  check_done(command);
  const auto before = lasting_files(model.beside("out"));
  const std::string run_before = read_bytes(model.beside("out/run.json"));
  check_error(command, 6,
              {"holds another run", model.beside("out/run.json").string(), "hint: ", "--overwrite"});
  CHECK(read_bytes(model.beside("out/run.json")) == run_before);

  // The old run stays where the new one does not get to its end, and no file of it survives the new one.
  check_error(command + std::vector<std::string>{"--overwrite", "--token-counts", "missing.json"}, 3,
              {"missing.json"});
  CHECK(lasting_files(model.beside("out")) == before);
  check_done(command + std::vector<std::string>{"--overwrite", "--records", "none", "--experiment", "flips"});
  const auto after = lasting_files(model.beside("out"));
  CHECK(after.count("records.jsonl") == 0);
  CHECK(after.count("tables/flips.changes.csv") == 1);
  CHECK(after.count("tables/lens.quality.csv") == 1);
  CHECK(after.count("tables/settling.depth.csv") == 0);
}

TEST_CASE("--positions last, --records none and --experiment") {
  SmallModel model;
  const fs::path out = model.beside("out");
  check_done({"analyze", "--model", model.path(), "--input", model.text_file(), "--out", out.string(),
              "--positions", "last", "--experiment", "settling,frequency"});
  const FinishedRun run = FinishedRun::read(out);
  CHECK(run.run.at("settings").at("experiments") == OrderedJson({"settling", "frequency"}));
  CHECK(run.run.at("counts").at("positions") == run.run.at("counts").at("windows"));
  REQUIRE(run.records.size() == run.run.at("counts").at("windows"));
  for (const Json& record : run.records) {
    CHECK(record.at("target").is_null());
    CHECK(record.at("lenses").at("logit").at("target_rank").is_null());
  }
  for (const Json& row : run.rows("lens.quality")) {
    CHECK(row.at("positions") == run.records.size());
    CHECK(row.at("targets") == 0);
    CHECK(row.at("cross_entropy").is_null());
    CHECK(row.at("top1_accuracy").is_null());
  }
  CHECK_FALSE(run.summary.at("tables").contains("flips.changes"));
  CHECK(run.summary.at("tables").contains("settling.depth"));

  const fs::path bare = model.beside("bare");
  check_done({"analyze", "--model", model.path(), "--input", model.text_file(), "--out", bare.string(),
              "--records", "none", "--experiment", "trajectory", "--report", "no"});
  std::set<std::string> names;
  for (const auto& [name, bytes] : lasting_files(bare)) names.insert(name);
  CHECK(names == std::set<std::string>{"run.json", "summary.json", "tables/lens.quality.csv",
                                       "replicates/lens.quality.npy"});
  CHECK(read_json(bare / "run.json").at("counts").at("records") == 0);
}

TEST_CASE("--max-records keeps the first records, and the tables count every position") {
  const SmallModel& model = small_run().model;
  const fs::path out = model.beside("few");
  const std::string text = model.beside("text.txt").string();
  const Result result =
      check_done({"analyze", "--model", model.path(), "--input", text, "--out", out.string(), "--max-records",
                  "5", "--top-k", "67", "--buckets", "3,10,40"});
  const FinishedRun run = FinishedRun::read(out);
  const auto positions = run.run.at("counts").at("positions").get<std::size_t>();
  CHECK(positions == small_run().finished.records.size());
  CHECK(run.records.size() == 5);
  CHECK(run.run.at("counts").at("records") == 5);
  CHECK(run.run.at("counts").at("records_omitted") == positions - 5);
  CHECK(contains(result.err, std::to_string(positions - 5) + " positions beyond --max-records 5"));
  for (const Json& row : run.rows("lens.quality")) CHECK(row.at("positions") == positions);
  for (std::size_t i = 0; i < 5; ++i)
    CHECK(run.records[i].at("lenses").at("logit") ==
          small_run().finished.records[i].at("lenses").at("logit"));

  const fs::path all = model.beside("all");
  check_done(
      {"analyze", "--model", model.path(), "--input", text, "--out", all.string(), "--max-records", "0"});
  CHECK(FinishedRun::read(all).records.size() == positions);
}

TEST_CASE("documents are cut into windows that start afresh") {
  SmallModel model;
  const fs::path out = model.beside("out");
  check_done({"analyze", "--model", model.path(), "--input", model.text_file(), "--out", out.string(),
              "--max-length", "5", "--add-bos", "yes"});
  const FinishedRun run = FinishedRun::read(out);
  CHECK(run.run.at("settings").at("max_length") == 5);
  CHECK(run.run.at("settings").at("add_bos") == true);
  CHECK(run.run.at("settings").at("bos") == 0);
  const auto windows = run.run.at("counts").at("windows").get<std::int64_t>();
  CHECK(run.run.at("inputs")[0].at("tokens").get<std::int64_t>() + windows ==
        run.run.at("counts").at("tokens"));
  check_records(run, {"logit"}, 4, 10);
  std::int64_t starts = 0;
  Json first_readout;
  for (const Json& record : run.records) {
    CHECK(record.at("position") < 5);
    CHECK((record.at("token").at("id") == 0) == (record.at("position") == 0));
    if (record.at("position") != 0) continue;
    ++starts;
    // Every window begins with the same token and sees nothing before it.
    const Json readout = record.at("lenses").at("logit").at("top_ids");
    if (first_readout.is_null()) first_readout = readout;
    CHECK(readout == first_readout);
  }
  CHECK(starts == windows);
  check_tables(run, make_buckets(token_counts(run), {10, 100, 1000}));

  // The same text without BOS, in windows of the same number of text tokens.
  const fs::path plain = model.beside("plain");
  check_done({"analyze", "--model", model.path(), "--input", model.text_file(), "--out", plain.string(),
              "--max-length", "4", "--add-bos", "no"});
  const FinishedRun without = FinishedRun::read(plain);
  CHECK(without.run.at("settings").at("bos").is_null());
  CHECK(without.run.at("counts").at("windows") == windows);
  CHECK(without.run.at("inputs") == run.run.at("inputs"));
  CHECK(token_counts(without) == token_counts(run));
}

TEST_CASE("--max-length beyond the model is shortened with a warning") {
  SmallModel model;
  const Result result = check_done({"analyze", "--model", model.path(), "--input", model.text_file(), "--out",
                                    model.beside("out").string(), "--quiet", "--max-length", "512"});
  CHECK(contains(result.err, "warning"));
  CHECK(contains(result.err, "16"));
  CHECK(read_json(model.beside("out/run.json")).at("settings").at("max_length") == 16);
}

TEST_CASE("inputs of all kinds, several in one run") {
  SmallModel model;
  const std::string text = small_text();
  const std::string plain = model.text_file();
  write_bytes(model.beside("notes.jsonl"),
              "{\"text\": \"the tide\"}\n\n{\"id\": 7, \"text\": \"the rain came in\"}\n");
  const fs::path out = model.beside("out");
  const std::string piped = "bread\n\nand water\n";
  check_done(Start{.arguments = {"analyze", "--model", model.path(), "--input", plain, "--input",
                                 model.beside("notes.jsonl").string(), "--input", "-", "--out", out.string()},
                   .input = piped});
  const FinishedRun run = FinishedRun::read(out);
  const OrderedJson& inputs = run.run.at("inputs");
  REQUIRE(inputs.size() == 3);
  CHECK(inputs[0].at("path") == plain);
  CHECK(inputs[1].at("documents") == 2);
  CHECK(inputs[2].at("path") == "-");
  CHECK(inputs[2].at("sha256") == util::sha256(piped));
  CHECK(inputs[2].at("documents") == 2);
  CHECK(run.run.at("counts").at("documents") == 7);
  CHECK(run.records.back().at("document") == 6);
  check_tables(run, make_buckets(token_counts(run), {10, 100, 1000}));

  const std::string copy = model.beside("copy.txt").string();
  write_bytes(copy, text);
  CHECK(contains(check_done({"analyze", "--model", model.path(), "--input", plain, "--input", copy, "--out",
                             model.beside("twice").string()})
                     .err,
                 copy + " is the same as " + plain + ": its documents count twice"));

  // A byte order mark and Windows line ends make no difference to where documents end.
  std::string windows_text = "\xEF\xBB\xBF";
  for (const char c : text) windows_text += c == '\n' ? std::string("\r\n") : std::string(1, c);
  write_bytes(model.beside("one-line.txt"), "\xEF\xBB\xBFthe tide came in\n");
  check_done({"analyze", "--model", model.path(), "--input", model.beside("one-line.txt").string(), "--out",
              model.beside("bom").string(), "--limit", "1"});
  CHECK(FinishedRun::read(model.beside("bom")).records.front().at("token").at("text") == "the");
}

TEST_CASE("--limit takes the first documents") {
  SmallModel model;
  check_done({"analyze", "--model", model.path(), "--input", model.text_file(), "--input",
              model.text_file("second.txt"), "--out", model.beside("out").string(), "--limit", "2"});
  const FinishedRun run = FinishedRun::read(model.beside("out"));
  CHECK(run.run.at("counts").at("documents") == 2);
  CHECK(run.run.at("inputs")[0].at("documents") == 2);
  CHECK(run.run.at("inputs")[1].at("documents") == 0);
  CHECK(run.run.at("inputs")[1].at("sha256") == util::sha256(small_text()));
  CHECK(run.records.back().at("document") == 1);
}

TEST_CASE("--token-counts takes the frequency table of another corpus") {
  SmallModel model;
  write_bytes(model.beside("corpus.txt"), "and and and the boat of zinc\n");
  const std::vector<std::string> count = {
      "count-tokens", "--model", model.path(), "--input", model.beside("corpus.txt").string(), "--out"};
  std::map<std::string, std::string> tables;
  for (const std::string extension : {"json", "csv"}) {
    const std::string counts = model.beside("counts." + extension).string();
    check_done(count + std::vector<std::string>{counts});
    const fs::path out = model.beside("out-" + extension);
    check_done({"analyze", "--model", model.path(), "--input", model.text_file(), "--out", out.string(),
                "--token-counts", counts, "--buckets", "2,4"});
    tables[extension] = read_bytes(out / "summary.json");
  }
  CHECK(tables.at("json") == tables.at("csv"));
  const FinishedRun run = FinishedRun::read(model.beside("out-json"));
  std::map<std::int64_t, std::int64_t> counts;
  const Json counted = read_json(model.beside("counts.json"));
  for (const auto& item : counted.items()) counts[std::stoll(item.key())] = item.value().at("count");
  const Buckets buckets = make_buckets(counts, {2, 4});
  CHECK(buckets.names == std::vector<std::string>{"top_1_2", "top_3_4", "rest"});
  check_tables(run, buckets);
}

TEST_CASE("documents without text and tokens of part of a character") {
  // Three-byte characters come apart in the byte-level tokens of most models; the demo model's stay whole or
  // fall back to bytes.
  TemporaryFolder folder;
  folder.write("text.txt", "\n \n\t\nThe sign said \xE6\xB0\xB4\xF0\x9F\x8C\x8A.\n\n\n");
  check_done({"analyze", "--input", (folder.path() / "text.txt").string(), "--out",
              (folder.path() / "out").string(), "--limit", "1"});
  const FinishedRun run = FinishedRun::read(folder.path() / "out");
  CHECK(run.run.at("counts").at("documents") == 1);
  bool replaced = false;
  for (const Json& record : run.records)
    replaced |= contains(record.at("token").at("text").get<std::string>(), "\uFFFD");
  CHECK(replaced);
}

TEST_CASE("low-precision arithmetic and --decode fast run too") {
  SmallModel model;
  for (const std::string dtype : {"bfloat16", "float16"}) {
    const fs::path out = model.beside(dtype);
    check_done({"analyze", "--model", model.path(), "--input", model.text_file(), "--out", out.string(),
                "--dtype", dtype, "--decode", "fast", "--records", "none"});
    const Json run = read_json(out / "run.json");
    CHECK(run.at("model").at("dtype") == dtype);
    CHECK(run.at("settings").at("decode") == "fast");
  }
}

TEST_CASE("every committed checkpoint can be analysed") {
  for (const std::string name :
       {"gpt2-bin", "llama-gqa-sharded", "neox-parallel", "mistral", "qwen2", "qwen3"}) {
    INFO(name);
    SmallModel model(name);
    const fs::path out = model.beside("out");
    check_done({"analyze", "--model", model.path(), "--input", model.text_file(), "--out", out.string(),
                "--top-k", "1000", "--max-length", "8"});
    const FinishedRun run = FinishedRun::read(out);
    const Json config = read_json(model.folder() / "config.json");
    CHECK(run.run.at("model").at("architecture") == config.at("architectures")[0]);
    const std::vector<std::int64_t> edges = {10, 100, 1000};
    check_records(run, {"logit"}, run.run.at("model").at("layers").get<std::int64_t>() + 1,
                  config.at("vocab_size"));
    check_tables(run, make_buckets(token_counts(run), edges));
  }
}

TEST_CASE("a model folder's path is reported as it was given") {
  SmallModel model;
  check_done(Start{.arguments = {"analyze", "--model", "model", "--input", model.text_file(), "--out", "out"},
                   .folder = model.beside("")});
  const Json run = read_json(model.beside("out/run.json"));
  CHECK(run.at("model").at("path") == "model");
  CHECK(first_bytes(run.at("volatile").at("started"), 2) == "20");
}

}  // namespace depthlens::test
