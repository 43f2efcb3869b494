// Models and lenses of the hub, as a user of the program gets them: from a hub on this machine.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <map>
#include <memory>
#include <thread>

#include "checks.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "support/fake_hub.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

using util::Json;
using Words = std::vector<std::string>;

/// A hub with a small model, its lenses, and room for a cache.
struct Bench {
  SmallModel model;
  FakeHub hub;

  Bench() {
    hub.add_model("org/small", model.folder());
    for (const char* name : {"config.json", "params.pt"}) {
      hub.add("spaces/AlignmentResearch/tuned-lens", std::string("lens/org/small/") + name,
              read_bytes(fs::path(model.lens("tuned")) / name));
    }
    hub.add("models/neuronpedia/jacobian-lens", "small/jlens/corpus/small_jacobian_lens.pt",
            read_bytes(model.lens("jacobian.pt")));
  }

  Start start(const Words& words, std::map<std::string, std::string> more = {}) const {
    return {.arguments = words, .environment = hub.environment(std::move(more))};
  }
  Result done(const Words& words, std::map<std::string, std::string> more = {}) const {
    return check_done(start(words, std::move(more)));
  }
  fs::path snapshot(const std::string& folder = "models--org--small") const {
    return hub.cache() / folder / "snapshots" / FakeHub::kCommit;
  }
  /// Every file of the cache, with its time of change.
  std::map<std::string, fs::file_time_type> files() const {
    std::map<std::string, fs::file_time_type> all;
    for (const auto& entry : fs::recursive_directory_iterator(hub.cache())) {
      if (entry.is_regular_file()) all[entry.path().string()] = entry.last_write_time();
    }
    return all;
  }
  /// Makes the weights many, and slow to come.
  std::string slow_weights(std::size_t size, int rate) const {
    std::string bytes(size, 'a');
    for (std::size_t i = 0; i < size; i += 97) bytes[i] = static_cast<char>('a' + i / 97 % 25);
    hub.add("models/org/large", "config.json", "{}");
    hub.add("models/org/large", "tokenizer.json", "{}");
    hub.add("models/org/large", "model.safetensors", bytes);
    hub.set_rules({{"on", "cdn GET"}, {"rate", rate}});
    return bytes;
  }
  /// Waits until some of the weights are on the disk.
  bool has_begun() const {
    for (int i = 0; i < 1000; ++i) {
      std::error_code absent;
      for (const auto& entry : fs::directory_iterator(hub.cache() / "models--org--large/blobs", absent)) {
        const bool unfinished = entry.path().string().find(".incomplete") != std::string::npos;
        if (unfinished && entry.file_size(absent) > 100000) return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  std::vector<std::string> ranges() const {
    std::vector<std::string> all;
    for (const FakeHub::Request& request : hub.requests()) {
      if (request.server == "cdn" && request.headers.count("range") > 0)
        all.push_back(request.headers.at("range"));
    }
    return all;
  }
};

}  // namespace

TEST_CASE("download fetches models and lenses, prints where they are, and nothing twice") {
  const Bench bench;
  const std::string tuned = "spaces--AlignmentResearch--tuned-lens",
                    jacobian = "models--neuronpedia--jacobian-lens";
  const Words wanted = {"download", "org/small", "tuned:org/small",
                        "jacobian:neuronpedia/jacobian-lens:small/jlens/corpus/small_jacobian_lens.pt"};
  const Result first = bench.done(wanted);
  CHECK(first.out ==
        bench.snapshot().string() + "\n" + (bench.snapshot(tuned) / "lens/org/small").string() + "\n" +
            (bench.snapshot(jacobian) / "small/jlens/corpus/small_jacobian_lens.pt").string() + "\n");
  CHECK(contains(first.err, "org/small: "));
  for (const auto& entry : fs::directory_iterator(bench.model.folder()))
    CHECK(read_bytes(bench.snapshot() / entry.path().filename()) == read_bytes(entry.path()));
  const auto before = bench.files();
  const auto fetched = bench.hub.requests_with("GET").size();
  const Result second = bench.done(wanted);
  CHECK(second.out == first.out);
  CHECK(second.err.empty());
  CHECK(bench.files() == before);
  CHECK(bench.hub.requests_with("cdn GET").size() == 3);
  CHECK(bench.hub.requests_with("GET").size() == fetched + 2);  // the lists, of branches that may have moved
  bench.hub.forget_requests();
  CHECK(bench.done(wanted + Words{"--offline"}).out == first.out);
  CHECK(bench.done(wanted, {{"HF_HUB_OFFLINE", "1"}}).out == first.out);
  CHECK(bench.hub.requests().empty());

  check_error({"download"}, 2, {"nothing to download", "ORG/NAME"});
  check_error({"download", "org/small", "--lenses", "org/small"}, 2, {"fetches nothing"});
  check_error({"download", "../x"}, 3, {"no folder '../x'"});
  check_error({"download", "jacobian:org/small"}, 3, {"no lens at 'org/small'", "ORG/NAME[@REVISION]:FILE"});
  check_error({"download", "jacobian:./none.pt"}, 3, {"no lens at './none.pt'"});
  check_error({"download", "tuned:" + bench.model.folder().string()}, 3, {"no tuned lens in"});
  check_error({"download", "jacobian:"}, 3, {"no lens at ''"});
  check_error({"download", "org/sm all"}, 2, {"neither a folder nor a hub id"});
  check_error(bench.start({"download", "org/none"}), 3, {"no repository 'org/none' on the hub", "HF_TOKEN"});
  check_error(bench.start({"download", "org/small@v2"}), 3, {"'org/small' has no revision 'v2'"});
  check_error(bench.start({"download", "org/none", "--offline"}), 3, {"--offline forbids to fetch it"});
  CHECK(bench.done({"download", "--lenses", "org/small"}).out ==
        "tuned:org/small\njacobian:neuronpedia/jacobian-lens:small/jlens/corpus/small_jacobian_lens.pt\n");
  const Result none = bench.done({"download", "--lenses", "org/none"});
  CHECK(none.out.empty());
  CHECK(contains(none.err, "no lens is published for 'org/none'"));
}

TEST_CASE("analyze fetches the model and lenses that it names, records their commits, and asks no more") {
  const Bench bench;
  const Words words = {"analyze",
                       "--model",
                       "org/small",
                       "--input",
                       bench.model.text_file(),
                       "--lens",
                       "tuned:org/small",
                       "--lens",
                       "jacobian:neuronpedia/jacobian-lens:small/jlens/corpus/small_jacobian_lens.pt",
                       "--out"};
  const std::string out = bench.model.beside("out").string(), again = bench.model.beside("again").string();
  bench.done(words + Words{out});
  const Json run = read_json(out + "/run.json");
  CHECK(run.at("model").at("path") == "org/small");
  CHECK(run.at("model").at("revision") == FakeHub::kCommit);
  CHECK(run.at("lenses")[0].at("path") == "org/small");
  CHECK(run.at("lenses")[0].at("revision") == FakeHub::kCommit);
  CHECK(run.at("lenses")[1].at("type") == "jacobian");
  CHECK(run.at("lenses")[1].at("revision") == FakeHub::kCommit);
  // A folder of the repository: its one file is named.
  const std::string by_folder = bench.model.beside("by_folder").string();
  bench.done({"analyze", "--model", "org/small", "--input", bench.model.text_file(), "--lens",
              "jacobian:neuronpedia/jacobian-lens:small", "--out", by_folder});
  CHECK(read_json(by_folder + "/run.json").at("lenses")[0].at("path") ==
        "neuronpedia/jacobian-lens:small/jlens/corpus/small_jacobian_lens.pt");

  bench.hub.forget_requests();
  const auto before = bench.files();
  bench.done(words + Words{again});
  CHECK(bench.hub.requests().empty());
  CHECK(bench.files() == before);  // as in a cache that cannot be written to
  CHECK(read_bytes(again + "/summary.json") == read_bytes(out + "/summary.json"));
  // Another branch of it, whose hub is down: from the cache all the same.
  bench.done({"info", "org/small"}, {{"HF_ENDPOINT", "http://127.0.0.1:1"}});
  bench.done({"info", "tuned:org/small", "--offline"});
  bench.done({"convert-lens", "org/small", bench.model.beside("lens.safetensors").string(), "--offline"});
  CHECK(bench.hub.requests().empty());
  check_error(bench.start({"show", "--model", "org/other", "a"}, {{"HF_ENDPOINT", "http://127.0.0.1:1"}}), 3,
              {"the hub cannot be reached", "'org/other' is not on this machine"});
  check_error(bench.start({"show", "--model", "org/other", "--offline", "a"}), 3,
              {"the model 'org/other' is not on this machine", "depthlens download org/other"});
  CHECK(bench.hub.requests().empty());
}

TEST_CASE("count-tokens needs the tokenizer only, and fetches nothing else") {
  const Bench bench;
  const Result result =
      bench.done({"count-tokens", "--model", "org/small", "--input", bench.model.text_file()});
  CHECK_FALSE(result.out.empty());
  CHECK(bench.hub.requests_with("cdn GET").empty());
  bench.done({"show", "--model", "org/small", "abc"});
  CHECK(bench.hub.requests_with("cdn GET").size() == 1);
}

TEST_CASE("the token is in no output, whatever is shown, and reaches the hub alone") {
  const Bench bench;
  const std::string secret = "hf_secret_of_mine";
  std::string told;
  const auto add = [&](const Result& result) { told += result.out + result.err; };
  add(bench.done({"download", "org/small", "--verbose"}, {{"HF_TOKEN", secret}}));
  CHECK(contains(told, "HEAD http://127.0.0.1:"));
  CHECK_FALSE(contains(told, "signature"));
  add(check_error(bench.start({"download", "org/none", "--verbose"}, {{"HF_TOKEN", secret}}), 3, {}));
  bench.hub.set_rules({{"on", "hub"}, {"status", 401}, {"headers", {{"X-Error-Message", "bad " + secret}}}});
  add(check_error(bench.start({"download", "org/small", "-v"}, {{"HF_TOKEN", secret}}), 3,
                  {"does not accept the token, HF_TOKEN"}));
  bench.hub.set_rules({{"on", "hub"}, {"status", 403}, {"headers", {{"X-Error-Code", "GatedRepo"}}}});
  add(check_error(bench.start({"download", "org/gated"}, {{"HF_TOKEN", secret}}), 3,
                  {"accepted its terms", "/org/gated", "the account whose token is in HF_TOKEN"}));
  CHECK_FALSE(contains(told, secret));
  CHECK_FALSE(bench.hub.requests_with("hub HEAD").empty());
  CHECK(bench.hub.requests().front().headers.at("authorization") == "Bearer " + secret);
  CHECK_FALSE(bench.hub.cdn_saw_token());
  for (const auto& [file, time] : bench.files()) CHECK_FALSE(contains(read_bytes(file), secret));
}

TEST_CASE("a download that is killed or interrupted goes on from what is there") {
  const int signal = GENERATE(SIGKILL, SIGINT, SIGTERM);
  INFO("signal " << signal);
  const Bench bench;
  const std::string weights = bench.slow_weights(4000000, 1000000);
  {
    Process process(bench.start({"download", "org/large"}));
    REQUIRE(bench.has_begun());
    process.send(signal);
    const Result result = process.wait();
    CHECK(result.out.empty());
    if (signal == SIGKILL) {
      CHECK(result.signal == SIGKILL);
    } else {
      CHECK(result.status == 130);
      CHECK(contains(result.err, "interrupted"));
    }
  }
  const fs::path large = bench.snapshot("models--org--large");
  CHECK_FALSE(fs::exists(large));
  CHECK_FALSE(fs::exists(bench.hub.cache() / "models--org--large/blobs" / util::sha256(weights)));
  check_error(bench.start({"download", "org/large", "--offline"}), 3, {"is not on this machine"});
  bench.hub.set_rules(Json::array());
  const Result second = bench.done({"download", "org/large"});
  CHECK(contains(second.err, "goes on after"));
  REQUIRE(bench.ranges().size() == 1);
  CHECK(read_bytes(large / "model.safetensors") == weights);
  for (const auto& [file, time] : bench.files()) CHECK_FALSE(contains(file, ".incomplete"));
}

TEST_CASE("processes that download the same end with the same, and one of them does the work") {
  const Bench bench;
  const std::string weights = bench.slow_weights(1500000, 1500000);
  Process first(bench.start({"download", "org/large"})), second(bench.start({"download", "org/large"}));
  const Result one = first.wait(), other = second.wait();
  INFO(one.err << other.err);
  CHECK(one.status == 0);
  CHECK(other.status == 0);
  CHECK(one.out == other.out);
  CHECK(read_bytes(bench.snapshot("models--org--large") / "model.safetensors") == weights);
  CHECK(bench.hub.requests_with("cdn GET").size() == 1);
}

TEST_CASE("processes that share a cache do not take each other's files away, with links or without") {
  const Bench bench;
  bench.hub.add("models/org/small", "added_tokens.json", "{}");
  bench.hub.add("models/org/small", "special_tokens_map.json", "{}");  // the same content
  std::vector<std::unique_ptr<Process>> all;
  for (const char* without : {"1", "1", "0", "1"}) {
    all.push_back(std::make_unique<Process>(
        bench.start({"download", "org/small"}, {{"HF_HUB_DISABLE_SYMLINKS", without}})));
  }
  for (const auto& process : all) {
    const Result result = process->wait();
    INFO(result.err);
    CHECK(result.status == 0);
  }
  CHECK(read_bytes(bench.snapshot() / "special_tokens_map.json") == "{}");
  for (const auto& entry : fs::directory_iterator(bench.model.folder()))
    CHECK(read_bytes(bench.snapshot() / entry.path().filename()) == read_bytes(entry.path()));
  for (const auto& [file, time] : bench.files()) CHECK_FALSE(contains(file, ".tmp"));
  bench.done({"show", "--offline", "--model", "org/small", "abc"}, {{"HF_HUB_DISABLE_SYMLINKS", "1"}});
}

TEST_CASE("a full disk ends a download with status 6, and what has come is kept") {
  const Bench bench;
  const std::string weights = bench.slow_weights(1500000, 100000000);
  Start start = bench.start({"download", "org/large"});
  start.largest_file = 1000000;
  check_error(start, 6, {"cannot write 'model.safetensors' into the hub cache", "make room", "HF_HUB_CACHE"});
  const fs::path large = bench.snapshot("models--org--large");
  CHECK_FALSE(fs::exists(large));
  CHECK_FALSE(fs::exists(bench.hub.cache() / "models--org--large/blobs" / util::sha256(weights)));
  bench.done({"download", "org/large"});
  CHECK(bench.ranges() == std::vector<std::string>{"bytes=1000000-"});
  CHECK(read_bytes(large / "model.safetensors") == weights);

  // A cache that is no folder.
  write_bytes(bench.hub.beside("file"), "");
  check_error(bench.start({"download", "org/small"}, {{"HF_HUB_CACHE", bench.hub.beside("file").string()}}),
              6, {"cannot write into the hub cache"});
}

TEST_CASE("progress is on stderr, and can be done without") {
  const Bench bench;
  bench.slow_weights(6000000, 100000000);
  const Result told = bench.done({"download", "org/large"});
  CHECK(contains(told.err, "org/large: 5.7 MiB, "));
  CHECK(contains(told.err, "MiB/s"));
  fs::remove_all(bench.hub.cache());
  CHECK_FALSE(
      contains(bench.done({"download", "org/large"}, {{"HF_HUB_DISABLE_PROGRESS_BARS", "1"}}).err, "MiB/s"));
  fs::remove_all(bench.hub.cache());
  CHECK(bench.done({"download", "org/large", "--quiet"}).err.empty());
}

}  // namespace depthlens::test
