// What is asked of a hub, and what becomes of its answers: fetched, whole, checked, and in the cache's
// layout.
#include "depthlens/io/hub.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "depthlens/io/http.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/clean_environment.hpp"
#include "support/fake_hub.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens::test {
namespace {

namespace fs = std::filesystem;
using util::ErrorCode;
using util::Json;

const std::string kOther = "89abcdef0123456789abcdef0123456789abcdef";
const std::string kModel = "models/org/name";

/// Bytes that are no other file's and no other position's.
std::string content(std::size_t size, int seed = 0) {
  std::string bytes(size, '\0');
  std::uint64_t state = static_cast<std::uint64_t>(seed) * 7919 + 12345;
  for (char& c : bytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    c = static_cast<char>(state >> 56);
  }
  return bytes;
}

/// A hub with one small model, and an empty cache.
struct Bench {
  CleanEnvironment environment;
  FakeHub hub;
  std::string weights = content(300000);

  Bench() {
    environment.set("HF_ENDPOINT", hub.endpoint());
    environment.set("HF_HUB_CACHE", hub.cache().string());
    environment.set("HF_HUB_ETAG_TIMEOUT", "60");  // for a machine that has much else to do
    environment.set("HF_HUB_DOWNLOAD_TIMEOUT", "60");
    hub.add(kModel, "config.json", "{\"model_type\": \"gpt2\"}");
    hub.add(kModel, "tokenizer.json", "{}");
    hub.add(kModel, "tokenizer_config.json", "{\"a\": 1}");
    hub.add(kModel, "README.md", "of no use here");
    hub.add(kModel, "model.safetensors", weights);
  }

  io::Hub asking(bool refresh = false) const {
    return io::Hub({.refresh = refresh, .pause = std::chrono::milliseconds(1)});
  }
  fs::path folder(const std::string& name = "models--org--name") const { return hub.cache() / name; }
  fs::path snapshot(const std::string& commit = FakeHub::kCommit) const {
    return folder() / "snapshots" / commit;
  }
  /// Nothing half-made, and nothing under the name of a blob that is not that blob.
  void check_blobs() const {
    std::error_code absent;
    for (const auto& entry : fs::recursive_directory_iterator(hub.cache(), absent)) {
      if (!entry.is_regular_file() || entry.path().parent_path().filename() != "blobs") continue;
      const std::string name = entry.path().filename().string();
      INFO(name);
      if (name.find('.') != std::string::npos) continue;
      const std::string bytes = util::read_file(entry.path());
      util::Sha1 git;
      const std::string head = "blob " + std::to_string(bytes.size()) + std::string(1, '\0');
      git.update(head.data(), head.size());
      git.update(bytes.data(), bytes.size());
      CHECK(name == (name.size() == 64 ? util::sha256(bytes) : git.hex_digest()));
    }
  }
  std::vector<std::string> unfinished() const {
    std::vector<std::string> names;
    std::error_code absent;
    for (const auto& entry : fs::recursive_directory_iterator(hub.cache(), absent)) {
      const std::string name = entry.path().filename().string();
      if (name.find(".incomplete") != std::string::npos || name.find(".tmp") != std::string::npos)
        names.push_back(name);
    }
    return names;
  }
};

void check_whole(const Bench& bench) {
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  CHECK(util::read_file(bench.snapshot() / "model.safetensors") == bench.weights);
  CHECK(util::read_file(bench.snapshot() / "config.json") == "{\"model_type\": \"gpt2\"}");
  bench.check_blobs();
  CHECK(bench.unfinished().empty());
  CHECK_FALSE(bench.hub.cdn_saw_token());
}

}  // namespace

TEST_CASE("hub: a model is fetched into the layout of the cache, and then found without a request") {
  Bench bench;
  bench.environment.set("HF_TOKEN", " hf_secret\r\n");
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  check_whole(bench);
  const fs::path weights = bench.snapshot() / "model.safetensors";
  REQUIRE(fs::is_symlink(weights));
  CHECK(fs::read_symlink(weights) == "../../blobs/" + util::sha256(bench.weights));
  CHECK(util::read_file(bench.folder() / "refs/main") == FakeHub::kCommit);
  CHECK(fs::exists(bench.folder() / ".no_exist" / FakeHub::kCommit / "tokenizer.model"));
  CHECK(fs::exists(bench.snapshot() / "tokenizer_config.json"));
  CHECK_FALSE(fs::exists(bench.snapshot() / "README.md"));
  CHECK(fs::exists(bench.hub.cache() / ".locks/models--org--name"));

  for (const FakeHub::Request& request : bench.hub.requests()) {
    CHECK(request.headers.at("accept-encoding") == "identity");
    CHECK(request.headers.at("user-agent").rfind("depthlens/", 0) == 0);
    const auto token = request.headers.find("authorization");
    CHECK((request.server == "hub") == (token != request.headers.end()));
    if (token != request.headers.end()) CHECK(token->second == "Bearer hf_secret");
  }
  bench.hub.forget_requests();
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  CHECK(bench.asking().model("org/name@main") == bench.snapshot());
  CHECK(bench.asking().model("org/name@" + FakeHub::kCommit) == bench.snapshot());
  CHECK(bench.hub.requests().empty());
}

TEST_CASE("hub: a revision is a commit, a tag or a branch, with slashes too; one commit for all files") {
  Bench bench;
  bench.hub.add(kModel, "config.json", "{\"other\": 1}", kOther);
  bench.hub.add(kModel, "tokenizer.json", "{}", kOther);
  bench.hub.add(kModel, "model.safetensors", content(1000, 2), kOther);
  bench.hub.refer(kModel, "main", FakeHub::kCommit);
  bench.hub.refer(kModel, "refs/pr/3", kOther);
  CHECK(bench.asking().model("org/name@refs/pr/3") == bench.snapshot(kOther));
  CHECK_FALSE(bench.hub.requests_with("resolve/refs%2Fpr%2F3/config.json").empty());
  CHECK(util::read_file(bench.folder() / "refs/refs/pr/3") == kOther);
  for (const std::string& line : bench.hub.requests_with("GET /org/name/resolve")) {
    INFO(line);
    CHECK(line.find(kOther) != std::string::npos);
  }
  CHECK(bench.asking().model("org/name@" + FakeHub::kCommit) == bench.snapshot());
  CHECK_FALSE(fs::exists(bench.folder() / "refs" / FakeHub::kCommit));
  // A branch that has moved: the cache is good enough, unless asked for the present commit.
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  bench.hub.refer(kModel, "main", kOther);
  bench.hub.forget_requests();
  if (fs::exists(bench.folder() / "refs/main")) CHECK(bench.asking().model("org/name") == bench.snapshot());
  CHECK(bench.asking(/*refresh=*/true).model("org/name") == bench.snapshot(kOther));
  CHECK(util::read_file(bench.folder() / "refs/main") == kOther);
  CHECK(bench.asking().model("org/name") == bench.snapshot(kOther));
}

TEST_CASE("hub: repositories that were renamed, here and with their whole address") {
  Bench bench;
  bench.environment.set("HF_TOKEN", "hf_secret");
  const std::string whole = GENERATE("", "whole");
  const std::string target =
      (whole.empty() ? "" : bench.hub.endpoint()) + "/org/name/resolve/main/config.json";
  bench.hub.set_rules(
      {{{"on", "HEAD /gpt2/resolve/main/config.json"}, {"status", 307}, {"headers", {{"Location", target}}}},
       {{"on", "/gpt2/resolve/[0-9a-f]+/config.json"},
        {"status", 307},
        {"headers", {{"Location", "/org/name/resolve/main/config.json"}}}},
       {{"on", "/gpt2/resolve/[0-9a-f]+/tokenizer.json"},
        {"status", 308},
        {"headers", {{"Location", "/org/name/resolve/main/tokenizer.json"}}}},
       {{"on", "/gpt2/resolve/[0-9a-f]+/tokenizer_config.json"},
        {"status", 308},
        {"headers", {{"Location", "/org/name/resolve/main/tokenizer_config.json"}}}},
       {{"on", "/gpt2/resolve/[0-9a-f]+/model.safetensors"},
        {"status", 302},
        {"headers", {{"Location", "/org/name/resolve/main/model.safetensors"}}}},
       {{"on", "/api/models/gpt2/"}, {"status", 404}},
       {{"on", "/gpt2/resolve/"}, {"status", 404}, {"headers", {{"X-Error-Code", "EntryNotFound"}}}}});
  const fs::path snapshot = bench.asking().model("gpt2");
  CHECK(snapshot == bench.folder("models--gpt2") / "snapshots" / FakeHub::kCommit);
  CHECK(util::read_file(snapshot / "model.safetensors") == bench.weights);
  CHECK_FALSE(bench.hub.cdn_saw_token());
  bench.check_blobs();
  bench.hub.set_rules({{{"on", "hub"}, {"status", 307}, {"headers", {{"Location", "/org/name"}}}}});
  check_error(ErrorCode::kInput, {"more than 20 redirects"}, [&] { bench.asking().model("org/other"); });
}

TEST_CASE("hub: a connection that breaks goes on where it was, whatever the server makes of a range") {
  Bench bench;
  const std::string data = "cdn GET";
  SECTION("with a range") {
    bench.hub.set_rules({{{"on", data}, {"times", 2}, {"drop_after", 100000}}});
    check_whole(bench);
    std::vector<std::string> ranges;
    for (const FakeHub::Request& request : bench.hub.requests()) {
      if (request.server == "cdn" && request.headers.count("range") > 0)
        ranges.push_back(request.headers.at("range"));
    }
    CHECK(ranges == std::vector<std::string>{"bytes=100000-", "bytes=200000-"});
  }
  SECTION("ranges that are not understood") {
    bench.hub.set_rules(
        {{{"on", data}, {"times", 1}, {"drop_after", 100000}}, {{"on", data}, {"no_range", true}}});
    check_whole(bench);
  }
  SECTION("another range than asked for") {
    bench.hub.set_rules(
        {{{"on", data}, {"times", 1}, {"drop_after", 100000}},
         {{"on", data}, {"times", 1}, {"set", {{"Content-Range", "bytes 7-299999/300000"}}}}});
    check_whole(bench);
  }
  SECTION("without Content-Range and Content-Length") {
    bench.hub.set_rules({{{"on", data}, {"times", 1}, {"drop_after", 100000}},
                         {{"on", data}, {"unset", {"Content-Range", "Content-Length"}}}});
    check_whole(bench);
  }
  SECTION("no such range, once") {
    bench.hub.set_rules({{{"on", data}, {"times", 1}, {"drop_after", 100000}},
                         {{"on", data}, {"times", 1}, {"status", 416}}});
    check_whole(bench);
  }
  SECTION("damaged on the way, once") {
    bench.hub.set_rules({{{"on", data}, {"times", 1}, {"corrupt", true}}});
    check_whole(bench);
  }
  SECTION("compressed, though that was not asked for") {
    bench.hub.set_rules({{{"on", "GET"}, {"gzip", true}}});
    check_whole(bench);
  }
  SECTION("compressed and broken off") {
    bench.hub.set_rules({{{"on", data}, {"times", 1}, {"gzip", true}, {"drop_after", 100000}},
                         {{"on", data}, {"gzip", true}}});
    check_whole(bench);
  }
  SECTION("statuses that pass") {
    bench.hub.set_rules(
        {{{"on", "GET"}, {"times", 2}, {"status", 503}},
         {{"on", data}, {"times", 1}, {"status", 500}},
         {{"on", "HEAD"}, {"times", 1}, {"status", 429}, {"headers", {{"Retry-After", "1"}}}},
         {{"on", data}, {"times", 1}, {"status", 429}, {"headers", {{"ratelimit", "\"api\";r=0;t=2"}}}}});
    check_whole(bench);
  }
}

TEST_CASE("hub: what cannot be had leaves nothing under a final name") {
  Bench bench;
  const auto refused = [&](ErrorCode code, const std::vector<std::string>& parts) {
    check_error(code, parts, [&] { bench.asking().model("org/name"); });
    CHECK_FALSE(fs::exists(bench.snapshot() / "model.safetensors"));
    CHECK_FALSE(fs::exists(bench.folder() / "refs/main"));
    bench.check_blobs();
  };
  SECTION("another content") {
    bench.hub.set_rules({{{"on", "cdn GET"}, {"corrupt", true}}});
    refused(ErrorCode::kFormat, {"another content than it has announced", "'model.safetensors'", "SHA-256"});
    // Small files, named by a git SHA-1, that were under way meanwhile may be left to be gone on with.
    for (const std::string& name : bench.unfinished()) CHECK(name.find('.') == 40);
  }
  SECTION("another content of a small file") {
    bench.hub.set_rules({{{"on", "hub GET .*tokenizer.json"}, {"corrupt", true}}});
    refused(ErrorCode::kFormat, {"another content than it has announced", "'tokenizer.json'", "git SHA-1"});
  }
  SECTION("always too short") {
    bench.hub.set_rules({{{"on", "cdn GET"}, {"cut_to", 200000}, {"no_range", true}}});
    refused(ErrorCode::kInput, {"does not give 'model.safetensors' whole", "200000 of 300000 bytes"});
  }
  SECTION("never a byte") {
    bench.hub.set_rules({{{"on", "cdn GET"}, {"drop_after", 0}}});
    refused(ErrorCode::kInput, {"does not give 'model.safetensors' whole", "after 5 tries"});
    CHECK(bench.hub.requests_with("cdn GET").size() == 5);
  }
  SECTION("more than announced") {
    bench.hub.set_rules(
        {{{"on", "(HEAD|GET) /org/name/resolve/.*safetensors"}, {"set", {{"X-Linked-Size", "10"}}}},
         {{"on", "/api/"}, {"status", 404}}});
    refused(ErrorCode::kInput, {"more than the 10 bytes that the hub has announced"});
  }
  SECTION("no room") {
    bench.hub.set_rules({{{"on", "(HEAD|GET) /org/name/resolve/.*safetensors"},
                          {"set", {{"X-Linked-Size", "1000000000000000000"}}}},
                         {{"on", "/api/"}, {"status", 404}}});
    refused(ErrorCode::kOutput, {"no room for 'org/name'", "GiB left", "HF_HUB_CACHE"});
    CHECK(bench.hub.requests_with("cdn GET").empty());
  }
  SECTION("a shard that leads out of the repository") {
    for (const std::string shard : {"../x", "/etc/passwd", "a/../../x", "..\\x", ""}) {
      bench.hub.add("models/org/sharded", "config.json", "{}");
      bench.hub.add("models/org/sharded", "tokenizer.json", "{}");
      bench.hub.add("models/org/sharded", "model.safetensors.index.json",
                    Json{{"weight_map", {{"a", shard}}}}.dump());
      check_error(ErrorCode::kFormat, {"model.safetensors.index.json", "weight_map"},
                  [&] { bench.asking().model("org/sharded"); });
    }
    CHECK_FALSE(fs::exists(bench.hub.cache() / "x"));
  }
}

TEST_CASE("hub: each refusal has its own words, and none of them has the token") {
  Bench bench;
  const auto refused = [&](int status, const Json& headers, std::vector<std::string> parts,
                           const std::string& revision = "main") {
    bench.hub.set_rules({{{"on", "hub"}, {"status", status}, {"headers", headers}}});
    check_error(ErrorCode::kInput, parts, [&] {
      try {
        bench.asking().model("org/name@" + revision);
      } catch (const util::Error& error) {
        CHECK((std::string(error.what()) + error.hint()).find("hf_secret") == std::string::npos);
        throw;
      }
    });
  };
  const Json gated = {{"X-Error-Code", "GatedRepo"}, {"X-Error-Message", "Access to it is restricted."}};
  refused(401, gated, {"given to those who have accepted its terms", "/org/name", "HF_TOKEN", "restricted"});
  refused(401, {{"X-Error-Code", "RepoNotFound"}},
          {"no repository 'org/name' on the hub, or a private one", "set HF_TOKEN"});
  refused(401, Json::object(), {"no repository 'org/name' on the hub, or a private one"});
  refused(404, {{"X-Error-Code", "RevisionNotFound"}}, {"'org/name' has no revision 'v9'"}, "v9");
  refused(404, {{"X-Error-Code", "EntryNotFound"}, {"X-Repo-Commit", FakeHub::kCommit}},
          {"'org/name' has no config.json", "Hugging Face layout"});
  refused(403, {{"X-Error-Message", "Access to this resource is disabled."}},
          {"the hub has disabled 'org/name'"});
  refused(418, {{"X-Request-Id", "Root=7"}}, {"does not give 'config.json'", "418", "Root=7"});
  refused(503, Json::object(), {"does not give 'config.json'", "status 503"});
  refused(429, {{"Retry-After", "4000"}}, {"asks for a long pause", "4000 s", "HF_TOKEN"});

  bench.environment.set("HF_TOKEN", "hf_secret");
  refused(403, gated, {"accept them on that page, as the account whose token is in HF_TOKEN"});
  refused(401, {{"X-Error-Message", "Invalid credentials in hf_secret"}},
          {"the hub does not accept the token, HF_TOKEN", "Invalid credentials in …"});
  refused(404, {{"X-Error-Code", "RepoNotFound"}},
          {"or a private one", "what the token in HF_TOKEN has access to"});
}

TEST_CASE("hub: the token is from a variable, or a file, or none") {
  Bench bench;
  const auto sent = [&] {
    bench.hub.forget_requests();
    fs::remove_all(bench.hub.cache());
    bench.asking().model("org/name");
    const auto headers = bench.hub.requests().front().headers;
    const auto found = headers.find("authorization");
    CHECK_FALSE(bench.hub.cdn_saw_token());
    return found == headers.end() ? std::string("none") : found->second;
  };
  const fs::path home = bench.hub.beside("home");
  fs::create_directories(home);
  CHECK(sent() == "none");
  bench.environment.set("HF_HOME", home.string());
  CHECK(sent() == "none");
  std::ofstream(home / "token") << "of_home\n";
  CHECK(sent() == "Bearer of_home");
  std::ofstream(home / "mine") << "  mine\r\n";
  bench.environment.set("HF_TOKEN_PATH", (home / "mine").string());
  CHECK(sent() == "Bearer mine");
  bench.environment.set("HUGGING_FACE_HUB_TOKEN", "old");
  CHECK(sent() == "Bearer old");
  bench.environment.set("HF_TOKEN", "new");
  CHECK(sent() == "Bearer new");
  bench.environment.set("HF_HUB_DISABLE_IMPLICIT_TOKEN", "yes");
  CHECK(sent() == "none");
  bench.environment.set("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0");
  bench.environment.set("HF_TOKEN", "two\nlines");
  fs::remove_all(bench.hub.cache());
  check_error(ErrorCode::kUsage, {"no token of the hub", "HF_TOKEN"},
              [&] { bench.asking().model("org/name"); });
}

TEST_CASE("hub: answers that are no hub's are told as such") {
  Bench bench;
  const auto refused = [&](const Json& rule, const std::vector<std::string>& parts) {
    bench.hub.set_rules({rule});
    check_error(ErrorCode::kInput, parts, [&] { bench.asking().model("org/name"); });
    CHECK_FALSE(fs::exists(bench.snapshot()));
  };
  refused({{"on", "hub"}, {"status", 200}, {"body", "<html>"}, {"headers", {{"Content-Type", "text/html"}}}},
          {"no answer of a Hugging Face hub", "X-Repo-Commit", "text/html", "proxy"});
  refused({{"on", "HEAD"}, {"unset", {"X-Repo-Commit"}}}, {"X-Repo-Commit"});
  refused({{"on", "HEAD"}, {"unset", {"ETag"}}}, {"an ETag that is a SHA-256 or a git SHA-1", "none"});
  refused({{"on", "HEAD"}, {"set", {{"ETag", "\"../../x\""}}}}, {"an ETag", "'../../x'"});
  bench.hub.set_rules({{{"on", "HEAD"}, {"set", {{"X-Repo-Commit", kOther}}}}});
  check_error(ErrorCode::kInput, {"expected commit " + FakeHub::kCommit, kOther},
              [&] { bench.asking().model("org/name@" + FakeHub::kCommit); });

  // Weak tags, and no sizes, are good enough.
  bench.hub.set_rules({{{"on", "HEAD .*config.json"}, {"unset", {"Content-Length"}}},
                       {{"on", "HEAD .*safetensors"}, {"unset", {"X-Linked-Size"}}},
                       {{"on", "/api/"}, {"status", 404}}});
  check_whole(bench);
  fs::remove_all(bench.hub.cache());
  util::Sha1 git;
  git.update("blob 2\0{}", 9);
  bench.hub.set_rules(
      {{{"on", "HEAD .*tokenizer.json"}, {"set", {{"ETag", "W/\"" + git.hex_digest() + "\""}}}},
       {{"on", "/api/"}, {"status", 404}}});
  check_whole(bench);
}

TEST_CASE("hub: mirrors without an API, and one that redirects to another host with an ETag") {
  Bench bench;
  bench.environment.set("HF_TOKEN", "hf_secret");
  bench.hub.set_rules({{{"on", "/api/"}, {"status", 404}, {"body", "<html>no API here</html>"}}});
  check_whole(bench);
  CHECK(fs::exists(bench.folder() / ".no_exist" / FakeHub::kCommit / "vocab.json"));
  CHECK_FALSE(bench.hub.requests_with("HEAD /org/name/resolve/" + FakeHub::kCommit + "/merges.txt").empty());
  fs::remove_all(bench.hub.cache());
  bench.hub.set_rules({{{"on", "/api/"}, {"status", 200}, {"body", "<html>no API here</html>"}}});
  check_whole(bench);

  // Nobody else gets the token: a stranger that the hub points to without telling anything itself.
  fs::remove_all(bench.hub.cache());
  FakeHub stranger;
  stranger.add(kModel, "config.json", "{\"model_type\": \"gpt2\"}");
  bench.hub.forget_requests();
  bench.hub.set_rules(
      {{{"on", "HEAD .*config.json"},
        {"status", 302},
        {"headers", {{"Location", stranger.endpoint() + "/org/name/resolve/main/config.json"}}}}});
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  REQUIRE(stranger.requests().size() == 1);
  CHECK(stranger.requests().front().headers.count("authorization") == 0);
}

TEST_CASE("hub: a list of files over two pages; shards, each once; .bin where there is nothing else") {
  Bench bench;
  const std::string name = "models/org/large";
  bench.hub.add(name, "config.json", "{}");
  bench.hub.add(name, "tokenizer.model", "x");
  bench.hub.add(name, "pytorch_model.bin", "not wanted");
  for (int i = 0; i < 1001; ++i) bench.hub.add(name, "a" + std::to_string(10000 + i), "");
  bench.hub.add(
      name, "model.safetensors.index.json",
      R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}})");
  bench.hub.add(name, "one.safetensors", content(5000, 3));
  bench.hub.add(name, "two.safetensors", content(6000, 4));
  const fs::path folder = bench.asking().model("org/large");
  CHECK(util::read_file(folder / "two.safetensors") == content(6000, 4));
  CHECK(bench.hub.requests_with("/api/").size() == 2);
  CHECK(bench.hub.requests_with("GET /models/org/large").size() == 2 + 1);  // and tokenizer.model
  CHECK_FALSE(fs::exists(folder / "pytorch_model.bin"));

  // A shard that is missing is fetched from the same commit, whatever the branch is by now.
  fs::remove(folder / "one.safetensors");
  bench.hub.refer(name, "main", kOther);
  CHECK(bench.asking().model("org/large") == folder);
  CHECK(util::read_file(folder / "one.safetensors") == content(5000, 3));
  fs::remove(bench.folder("models--org--large") / "blobs" / util::sha256(content(6000, 4)));  // a dead link
  bench.hub.forget_requests();
  CHECK(bench.asking().model("org/large") == folder);
  CHECK(util::read_file(folder / "two.safetensors") == content(6000, 4));
  CHECK(bench.hub.requests_with("cdn GET").size() == 1);
  check_error(ErrorCode::kInput, {"has no revision"}, [&] { bench.asking(true).model("org/large"); });

  bench.hub.add("models/org/old", "config.json", "{}");
  bench.hub.add("models/org/old", "vocab.json", "{}");
  bench.hub.add("models/org/old", "merges.txt", "");
  bench.hub.add("models/org/old", "pytorch_model.bin.index.json", R"({"weight_map": {"a": "a.bin"}})");
  bench.hub.add("models/org/old", "a.bin", "abc");
  CHECK(util::read_file(bench.asking().model("org/old") / "a.bin") == "abc");
  bench.hub.add("models/org/gguf", "config.json", "{}");
  bench.hub.add("models/org/gguf", "model.gguf", "{}");
  check_error(ErrorCode::kInput,
              {"'org/gguf' has no weights that depthlens reads", "config.json, model.gguf"},
              [&] { bench.asking().model("org/gguf"); });
  check_error(ErrorCode::kInput, {"no repository 'org/nothing'"},
              [&] { bench.asking().model("org/nothing"); });
  CHECK(bench.asking().model("org/gguf", io::ModelParts::kTokenizer).filename() == FakeHub::kCommit);
  bench.check_blobs();
}

TEST_CASE("hub: several at once end with right files, and one of them does the work") {
  Bench bench;
  bench.hub.set_rules({{{"on", "cdn GET"}, {"rate", 600000}}});
  std::vector<std::thread> threads;
  std::vector<fs::path> found(3);
  for (fs::path& path : found) threads.emplace_back([&] { path = bench.asking().model("org/name"); });
  for (std::thread& thread : threads) thread.join();
  for (const fs::path& path : found) CHECK(path == bench.snapshot());
  check_whole(bench);
  CHECK(bench.hub.requests_with("cdn GET").size() == 1);
}

TEST_CASE("hub: what an earlier process has left is gone on with, where it is a beginning") {
  Bench bench;
  const bool good = GENERATE(true, false);
  const fs::path blobs = bench.folder() / "blobs";
  fs::create_directories(blobs);
  const std::string etag = util::sha256(bench.weights);
  const std::string boot = util::read_file("/proc/sys/kernel/random/boot_id");
  const fs::path left = blobs / (etag + "." + util::sha256(boot).substr(0, 4) + "ab12.dl.incomplete");
  std::ofstream(left, std::ios::binary)
      << (good ? bench.weights.substr(0, 120000) : std::string(120000, 'x'));
  // That of another machine may still be growing.
  const fs::path foreign = blobs / (etag + ".zzzzab12.dl.incomplete");
  std::ofstream(foreign, std::ios::binary) << bench.weights.substr(0, 150000);
  // Those of other programs are not ours.
  const fs::path python = blobs / (etag + ".0a1b2c3d.incomplete");
  std::ofstream(python) << "x";
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  CHECK(util::read_file(bench.snapshot() / "model.safetensors") == bench.weights);
  bench.check_blobs();
  CHECK_FALSE(fs::exists(left));
  CHECK(fs::exists(foreign));
  CHECK(fs::exists(python));
  std::vector<std::string> ranges;
  for (const FakeHub::Request& request : bench.hub.requests()) {
    if (request.server == "cdn")
      ranges.push_back(request.headers.count("range") > 0 ? request.headers.at("range") : "");
  }
  CHECK(ranges ==
        (good ? std::vector<std::string>{"bytes=120000-"} : std::vector<std::string>{"bytes=120000-", ""}));
}

TEST_CASE("hub: what another machine has left is copied: who wakes up there has no hand in it") {
  Bench bench;
  const fs::path blobs = bench.folder() / "blobs";
  fs::create_directories(blobs);
  const std::string etag = util::sha256(bench.weights);
  const fs::path left = blobs / (etag + ".zzzzab12.dl.incomplete");
  std::ofstream(left, std::ios::binary) << bench.weights.substr(0, 120000);
  fs::last_write_time(left, fs::file_time_type::clock::now() - std::chrono::hours(1));
  std::fstream still_open(left, std::ios::binary | std::ios::in | std::ios::out);
  const io::CachedRepository cached(bench.hub.cache(), {.name = "org/name"});
  io::UnfinishedBlob blob(
      cached,
      {.path = "model.safetensors", .commit = FakeHub::kCommit, .etag = etag, .size = bench.weights.size()});
  CHECK(blob.size() == 120000);
  CHECK_FALSE(fs::exists(left));
  still_open << "another content" << std::flush;
  REQUIRE(still_open.good());
  blob.write(std::string_view(bench.weights).substr(120000));
  CHECK(blob.finish() == io::UnfinishedBlob::End::kFinished);
  still_open << "and more" << std::flush;
  CHECK(util::read_file(blobs / etag) == bench.weights);
  CHECK(bench.unfinished().empty());
}

TEST_CASE("hub: config.json may name the weights") {
  Bench bench;
  const std::string tuned = content(5000, 3);
  bench.hub.add(kModel, "weights/tuned.safetensors", tuned);
  SECTION("a file") {
    bench.hub.add(kModel, "config.json", R"({"transformers_weights": "./weights/tuned.safetensors"})");
  }
  SECTION("an index, of shards in the model's folder or below it") {
    bench.hub.add(kModel, "config.json", R"({"transformers_weights": "all.safetensors.index.json"})");
    bench.hub.add(kModel, "all.safetensors.index.json",
                  R"({"weight_map": {"x": "weights/tuned.safetensors"}})");
  }
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  CHECK(util::read_file(bench.snapshot() / "weights/tuned.safetensors") == tuned);
  CHECK_FALSE(fs::exists(bench.snapshot() / "model.safetensors"));
  bench.hub.forget_requests();
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  CHECK(bench.hub.requests().empty());
  fs::remove(bench.snapshot() / "weights/tuned.safetensors");  // what is missing is seen
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  CHECK(util::read_file(bench.snapshot() / "weights/tuned.safetensors") == tuned);
}

TEST_CASE("hub: weights that config.json names, and that are not there") {
  Bench bench;
  bench.hub.add(kModel, "config.json", R"({"transformers_weights": "other.safetensors"})");
  check_error(ErrorCode::kInput, {"no other.safetensors", "config.json names it"},
              [&] { bench.asking().model("org/name"); });
}

TEST_CASE("hub: caches of other programs: copies, absolute and double links, no links at all") {
  Bench bench;
  const fs::path snapshot = bench.snapshot(), shared = bench.hub.beside("shared/blob");
  fs::create_directories(snapshot);
  fs::create_directories(bench.folder() / "refs");
  fs::create_directories(bench.folder() / "blobs");
  fs::create_directories(shared.parent_path());
  std::ofstream(bench.folder() / "refs/main") << FakeHub::kCommit;
  std::ofstream(snapshot / "config.json") << "{}";
  std::ofstream(bench.folder() / "blobs/abc") << "{}";
  fs::create_symlink(bench.folder() / "blobs/abc", snapshot / "tokenizer.json");
  std::ofstream(shared) << bench.weights;
  fs::create_symlink(shared, bench.folder() / "blobs/def");
  fs::create_symlink("../../blobs/def", snapshot / "model.safetensors");
  CHECK(bench.asking().model("org/name") == snapshot);
  CHECK(bench.hub.requests().empty());
}

TEST_CASE(
    "hub: without symbolic links a file is the blob under a second name, or a copy, and the blob stays") {
  Bench bench;
  bench.hub.add(kModel, "generation_config.json", "{}");  // as tokenizer.json
  bench.environment.set("HF_HUB_DISABLE_SYMLINKS", "1");
  const fs::path blob = bench.folder() / "blobs" / util::sha256(bench.weights);
  const auto plain = [](const fs::path& path) { return fs::is_regular_file(fs::symlink_status(path)); };
  SECTION("hard links, beside other commits of either kind") {
    CHECK(bench.asking().model("org/name") == bench.snapshot());
    CHECK(plain(bench.snapshot() / "model.safetensors"));
    CHECK(fs::equivalent(bench.snapshot() / "model.safetensors", blob));
    CHECK(util::read_file(bench.snapshot() / "generation_config.json") == "{}");
    check_whole(bench);
    const std::string third = std::string(40, '3');
    for (const std::string& commit : {kOther, third}) {
      bench.environment.set("HF_HUB_DISABLE_SYMLINKS", commit == third ? "1" : "0");
      for (const char* name : {"config.json", "tokenizer.json"}) bench.hub.add(kModel, name, "{}", commit);
      bench.hub.add(kModel, "model.safetensors", bench.weights, commit);
      CHECK(bench.asking(/*refresh=*/true).model("org/name") == bench.snapshot(commit));
      CHECK(plain(bench.snapshot(commit) / "model.safetensors") == (commit == third));
    }
    for (const std::string& commit : {FakeHub::kCommit, kOther, third})
      CHECK(util::read_file(bench.snapshot(commit) / "model.safetensors") == bench.weights);
    CHECK(bench.hub.requests_with("cdn GET").size() == 1);
    bench.check_blobs();
    CHECK(bench.unfinished().empty());
  }
  SECTION("copies, where the blobs are on another file system") {
    const fs::path other = "/dev/shm/" + bench.hub.beside("").parent_path().filename().string();
    std::error_code none;
    fs::create_directories(other, none);
    struct stat here, there;
    if (none || ::stat(other.c_str(), &there) != 0 || ::stat(bench.hub.beside("").c_str(), &here) != 0 ||
        here.st_dev == there.st_dev) {
      WARN("skipped: no second file system");
      return;
    }
    fs::create_directories(bench.folder());
    fs::create_directory_symlink(other, bench.folder() / "blobs");
    check_whole(bench);
    CHECK(plain(bench.snapshot() / "model.safetensors"));
    CHECK_FALSE(fs::equivalent(bench.snapshot() / "model.safetensors", blob));
    CHECK(util::read_file(blob) == bench.weights);
    fs::remove_all(other);
  }
}

TEST_CASE("hub: a blob that is there already is used where its hash is right, and fetched anew elsewhere") {
  Bench bench;
  const bool tells_size = GENERATE(true, false), right = GENERATE(true, false);
  const fs::path blob = bench.folder() / "blobs" / util::sha256(bench.weights);
  std::string there = bench.weights;
  if (!right) there[1000] ^= 1;
  if (!right && !tells_size) there += "more";
  fs::create_directories(blob.parent_path());
  std::ofstream(blob, std::ios::binary) << there;
  if (!tells_size) {
    bench.hub.set_rules(
        {{{"on", "/api/"}, {"status", 404}}, {{"on", "HEAD .*safetensors"}, {"unset", {"X-Linked-Size"}}}});
  }
  check_whole(bench);
  CHECK(bench.hub.requests_with("cdn GET").size() == (right ? 0 : 1));
}

TEST_CASE("hub: only plain files of nobody at work are gone on with") {
  Bench bench;
  const std::string etag = util::sha256(bench.weights);
  const std::string boot = util::read_file("/proc/sys/kernel/random/boot_id");
  const fs::path blobs = bench.folder() / "blobs", victim = bench.hub.beside("victim");
  const fs::path planted = blobs / (etag + "." + util::sha256(boot).substr(0, 4) + "ab12.dl.incomplete");
  const std::string before = bench.weights.substr(0, 1000);
  fs::create_directories(blobs);
  SECTION("links to a file elsewhere") {
    std::ofstream(victim, std::ios::binary) << before;
    fs::last_write_time(victim, fs::file_time_type::clock::now() - std::chrono::hours(1));
    GENERATE(0, 1) == 0 ? fs::create_symlink(victim, planted) : fs::create_hard_link(victim, planted);
    CHECK(bench.asking().model("org/name") == bench.snapshot());
    CHECK(util::read_file(bench.snapshot() / "model.safetensors") == bench.weights);
    CHECK(util::read_file(victim) == before);
  }
  SECTION("one that is being written") {
    const io::CachedRepository cached(bench.hub.cache(), {.name = "org/name"});
    const io::HubFile file{
        .path = "model.safetensors", .commit = FakeHub::kCommit, .etag = etag, .size = bench.weights.size()};
    using End = io::UnfinishedBlob::End;
    io::UnfinishedBlob first(cached, file);
    first.write(before);
    {
      io::UnfinishedBlob second(cached, file);
      CHECK(second.size() == 0);
      second.write(bench.weights);
      CHECK(second.finish() == End::kFinished);
    }
    // Its name goes while it is written: the blob is there by now, or else it begins again.
    const auto take_away = [&] {
      for (const auto& entry : fs::directory_iterator(blobs)) {
        if (entry.path().extension() == ".incomplete") fs::remove(entry.path());
      }
    };
    take_away();
    first.write(std::string_view(bench.weights).substr(1000));
    CHECK(first.finish() == End::kFinished);
    fs::remove(blobs / etag);
    io::UnfinishedBlob third(cached, file);
    third.write(before);
    GENERATE(0, 1) == 0 ? take_away() : static_cast<void>(fs::remove_all(blobs));
    third.write(std::string_view(bench.weights).substr(1000));
    CHECK(third.finish() == End::kGone);
    CHECK(third.size() == 0);
    third.write(bench.weights);
    CHECK(third.finish() == End::kFinished);
    CHECK(util::read_file(blobs / etag) == bench.weights);
    CHECK(bench.unfinished().empty());
  }
}

TEST_CASE("hub: an older download that ends late does not set a branch back") {
  Bench bench;
  const io::CachedRepository cached(bench.hub.cache(), {.name = "org/name"});
  cached.write_reference("main", FakeHub::kCommit, cached.reference("main"));
  CHECK(cached.commit_of("main") == FakeHub::kCommit);
  cached.write_reference("main", kOther, "");  // begun before there was any
  CHECK(cached.commit_of("main") == FakeHub::kCommit);
  cached.write_reference("main", kOther, FakeHub::kCommit);
  CHECK(cached.commit_of("main") == kOther);
  const std::string longest(255, 'r');
  cached.write_reference(longest, kOther, "");
  CHECK(cached.commit_of(longest) == kOther);
}

TEST_CASE("hub: without a connection what is there is used, and what is not is told") {
  Bench bench;
  bench.asking().model("org/name");
  bench.hub.forget_requests();
  const auto offline = [&](const std::string& why) {
    check_error(ErrorCode::kInput,
                {"'org/other' is not on this machine", why, "depthlens download org/other"},
                [&] { bench.asking().model("org/other"); });
    CHECK(bench.asking(true).model("org/name") == bench.snapshot());
  };
  for (const char* name : {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}) {
    for (const std::string value : {"1", "on", "Yes", "TRUE"}) {
      bench.environment.set(name, value);
      offline(std::string(name) + "=" + value + " forbids to fetch it");
    }
    bench.environment.set(name, "");
  }
  bench.environment.set("HF_HUB_OFFLINE", "0");
  bench.environment.set("TRANSFORMERS_OFFLINE", "1");  // the first one that is set decides
  CHECK(bench.asking(/*refresh=*/true).model("org/name") == bench.snapshot());
  CHECK_FALSE(bench.hub.requests().empty());
  bench.environment.set("TRANSFORMERS_OFFLINE", "0");
  bench.hub.forget_requests();
  CHECK_THROWS_AS(io::Hub({.offline = true}).model("org/other"), util::Error);
  CHECK(bench.hub.requests().empty());

  // The hub is down: a branch is what it was.
  bench.environment.set("HF_ENDPOINT", "http://127.0.0.1:1");
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  CHECK(bench.asking(true).model("org/name") == bench.snapshot());
  check_error(ErrorCode::kInput,
              {"the hub cannot be reached", "127.0.0.1:1", "the model 'org/other' is not on this machine",
               "https_proxy"},
              [&] { bench.asking().model("org/other"); });
  for (const std::string address : {"ftp://x", "huggingface.co", "https://a b"}) {
    bench.environment.set("HF_ENDPOINT", address);
    check_error(ErrorCode::kUsage, {"HF_ENDPOINT"}, [&] { bench.asking().model("org/other"); });
  }
  bench.environment.set("HF_ENDPOINT", bench.hub.endpoint());
  bench.environment.set("HF_HUB_ETAG_TIMEOUT", "soon");
  check_error(ErrorCode::kUsage, {"HF_HUB_ETAG_TIMEOUT", "'soon'"},
              [&] { bench.asking().model("org/other"); });
}

TEST_CASE(
    "hub: published lenses: tuned by the model's name, Jacobian by their file and what stands beside it") {
  Bench bench;
  const std::string space = "spaces/AlignmentResearch/tuned-lens",
                    jacobian = "models/neuronpedia/jacobian-lens";
  bench.hub.add(space, "lens/gpt2/config.json", "{}");
  bench.hub.add(space, "lens/gpt2/params.pt", "tuned");
  bench.hub.add(space, "lens/org/name/config.json", "{}");
  const fs::path lens = bench.asking().tuned_lens("openai-community/gpt2");
  CHECK(lens ==
        bench.folder("spaces--AlignmentResearch--tuned-lens") / "snapshots" / FakeHub::kCommit / "lens/gpt2");
  CHECK(util::read_file(lens / "params.pt") == "tuned");
  CHECK(fs::read_symlink(lens / "params.pt") == "../../../../blobs/" + util::sha256("tuned"));
  CHECK_FALSE(bench.hub.requests_with("/spaces/AlignmentResearch/tuned-lens/resolve/main/").empty());
  bench.hub.forget_requests();
  CHECK(bench.asking().tuned_lens("gpt2") == lens);
  CHECK(bench.hub.requests().empty());
  check_error(ErrorCode::kInput, {"no tuned lens is published for 'org/none'", "--lenses org/none"},
              [&] { bench.asking().tuned_lens("org/none"); });
  check_error(ErrorCode::kInput, {"has no lens/org/name/params.pt"},
              [&] { bench.asking().tuned_lens("org/name"); });

  const std::string file = "gpt2-small/jlens/corpus/gpt2_jacobian_lens.pt";
  bench.hub.add(jacobian, file, "jacobian");
  bench.hub.add(jacobian, "gpt2-small/jlens/corpus/config.yaml", "fit:\n");
  bench.hub.add(jacobian, "other/jlens/corpus/other_jacobian_lens.pt", "another");
  const std::string named = "neuronpedia/jacobian-lens:" + file;
  const fs::path found = bench.asking().jacobian_lens(named);
  CHECK(util::read_file(found) == "jacobian");
  CHECK(util::read_file(found.parent_path() / "config.yaml") == "fit:\n");
  CHECK(io::hub_commit(found) == FakeHub::kCommit);
  bench.hub.forget_requests();
  CHECK(bench.asking().jacobian_lens(named) == found);
  CHECK(bench.hub.requests().empty());
  // What may stand beside a lens is asked for, where nothing tells; not where that is not possible.
  fs::remove_all(bench.folder("models--neuronpedia--jacobian-lens") / ".no_exist");
  CHECK(bench.asking().jacobian_lens(named) == found);
  CHECK(bench.hub.requests_with("cdn GET").empty());
  CHECK(bench.hub.requests().size() == 1);
  fs::remove_all(bench.folder("models--neuronpedia--jacobian-lens") / ".no_exist");
  CHECK(io::Hub({.offline = true}).jacobian_lens(named) == found);
  const fs::path folder = bench.asking().jacobian_lens("neuronpedia/jacobian-lens:other/jlens");
  CHECK(folder.filename() == "other_jacobian_lens.pt");
  CHECK(util::read_file(folder) == "another");
  check_error(ErrorCode::kInput, {"has no x.pt"},
              [&] { bench.asking().jacobian_lens("neuronpedia/jacobian-lens:x.pt"); });
  check_error(ErrorCode::kInput, {"no lens in 'gpt2-small/none'"},
              [&] { bench.asking().jacobian_lens("neuronpedia/jacobian-lens:gpt2-small/none"); });
  check_error(ErrorCode::kUsage, {"ORG/NAME:FILE"},
              [&] { bench.asking().jacobian_lens("org/name:../x.pt"); });

  using Lenses = std::vector<std::string>;
  CHECK(bench.asking().published_lenses("openai-community/gpt2").of_model ==
        Lenses{"tuned:gpt2", "jacobian:" + named});
  CHECK(bench.asking().published_lenses("org/none").of_model.empty());
  CHECK(bench.asking().published_lenses("org/none").of_similar.empty());
  for (const char* name : {"some/pythia-160m-deduped", "some/pythia-160m-deduped-v0", "some/pythia-1b"}) {
    bench.hub.add(space, "lens/" + std::string(name) + "/config.json", "{}");
    bench.hub.add(space, "lens/" + std::string(name) + "/params.pt", "");
  }
  CHECK(bench.asking().published_lenses("pythia-160m-deduped").of_model ==
        Lenses{"tuned:some/pythia-160m-deduped"});
  CHECK(bench.asking().published_lenses("other/pythia-160m-deduped").of_model.empty());
  const auto similar = bench.asking().published_lenses("pythia-160m");
  CHECK(similar.of_model.empty());
  CHECK(similar.of_similar == Lenses{"tuned:some/pythia-160m-deduped-v0", "tuned:some/pythia-160m-deduped"});
}

TEST_CASE("hub: what is no content is not read to its end, nor waited for") {
  Bench bench;
  bench.environment.set("HF_HUB_ETAG_TIMEOUT", "1");
  bench.environment.set("HF_HUB_DOWNLOAD_TIMEOUT", "1");
  SECTION("no list") {
    bench.hub.set_rules({{"on", "/api/"}, {"status", 404}, {"endless", true}});
  }
  SECTION("a redirect") {
    bench.hub.set_rules({{"on", "hub GET .*safetensors"}, {"endless", true}});
  }
  SECTION("a refusal, once") {
    bench.hub.set_rules({{"on", "cdn GET"}, {"times", 1}, {"status", 503}, {"endless", true}});
  }
  SECTION("a slow refusal, once") {
    bench.hub.set_rules({{"on", "cdn GET"}, {"times", 1}, {"status", 503}, {"endless", true}, {"rate", 100}});
  }
  check_whole(bench);
}

TEST_CASE("hub: a list without an end, or with entries that are not understood, takes no file away") {
  Bench bench;
  util::Sha1 git;
  git.update("blob 2\0{}", 9);
  const auto list_with = [&](const Json& tokenizer, const Json& weights) {
    Json list = {{{"type", "file"}, {"path", "tokenizer.json"}},
                 {{"type", "file"}, {"path", "model.safetensors"}},
                 {{"type", "file"}, {"path", "config.json"}}};
    list[0].update(tokenizer);
    list[1].update(weights);
    list.push_back({{"type", "file"}, {"path", "../x"}, {"size", 2}, {"oid", git.hex_digest()}});
    bench.hub.set_rules({{"on", "/api/"}, {"status", 200}, {"body", list.dump()}});
  };
  std::string upper = git.hex_digest();
  const std::string tag = upper;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  const Json plain = {{"oid", tag}, {"size", 2}};
  const Json pointer = {{"oid", std::string(40, '1')}, {"size", 134}};
  const std::string own = bench.hub.endpoint() + "/api/models/org/name/tree/" + FakeHub::kCommit +
                          "?recursive=false&expand=false";
  const auto leads_to = [&](const std::string& address) {
    bench.hub.set_rules({{"on", "/api/"}, {"set", {{"Link", "<" + address + ">; rel=\"next\""}}}});
  };
  SECTION("to itself") {
    leads_to(own);
  }
  SECTION("to another place") {
    leads_to("http://127.0.0.1:1/list");
  }
  SECTION("hashes in capitals") {
    list_with({{"oid", upper}, {"size", 2}},
              {{"lfs", {{"oid", "sha256:" + util::sha256(bench.weights)}, {"size", bench.weights.size()}}}});
  }
  SECTION("no hashes") {
    list_with({{"oid", "abc"}, {"size", 2}}, {{"size", 7}});
  }
  SECTION("placeholders of large files") {
    list_with(plain, pointer);
  }
  SECTION("large files without a hash") {
    list_with(plain, {{"lfs", nullptr}, {"oid", 7}, {"size", "x"}});
  }
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  CHECK(util::read_file(bench.snapshot() / "model.safetensors") == bench.weights);
  CHECK(util::read_file(bench.snapshot() / "tokenizer.json") == "{}");
  CHECK_FALSE(fs::exists(bench.folder() / ".no_exist" / FakeHub::kCommit / "tokenizer.json"));
  CHECK(bench.hub.requests_with("/api/").size() == 1);
  CHECK(bench.hub.requests_with("/list").empty());
}

TEST_CASE("hub: a list in pages, as the next one may be named") {
  Bench bench;
  const std::string next = bench.hub.endpoint() + "/api/models/org/name/tree/" + FakeHub::kCommit +
                           "?recursive=false&expand=false&a=1,2&cursor=1";
  const std::string link =
      GENERATE("<NEXT>; rel=\"next\"", "<NEXT>; rel=next", "<NEXT>;Rel = \"first Next\"",
               "</other,x>; rel=\"prev\"; title=\"a, <b>; rel=next\", <NEXT>; rel=\"next\"",
               "<NEXT>; rel=\"next\"\r\nLink: </token>; rel=\"xet-auth\"",
               "</token>; rel=\"xet-auth\"\r\nlink: <NEXT>; rel=\"next\"");
  INFO(link);
  std::string header = link;
  header.replace(header.find("NEXT"), 4, next);
  const Json first = {{{"type", "file"}, {"path", "config.json"}},
                      {{"type", "file"}, {"path", "model.safetensors"}}};
  const Json second = {{{"type", "file"}, {"path", "tokenizer.json"}}};
  bench.hub.set_rules(
      {{{"on", "/api/.*cursor"}, {"status", 200}, {"body", second.dump()}},
       {{"on", "/api/"}, {"status", 200}, {"body", first.dump()}, {"set", {{"Link", header}}}}});
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  CHECK(bench.hub.requests_with("/api/").size() == 2);
  CHECK(fs::exists(bench.snapshot() / "tokenizer.json"));
  CHECK_FALSE(fs::exists(bench.folder() / ".no_exist" / FakeHub::kCommit / "tokenizer.json"));
}

TEST_CASE("hub: a list that lacks what is there is none") {
  Bench bench;
  bench.hub.set_rules({{"on", "/api/"}, {"status", 200}, {"body", "[]"}});
  CHECK(bench.asking().model("org/name") == bench.snapshot());
  CHECK(fs::exists(bench.snapshot() / "tokenizer.json"));
}

TEST_CASE("hub: what is fetched is no longer marked as absent, for huggingface_hub looks there first") {
  Bench bench;
  const fs::path mark = bench.folder() / ".no_exist" / FakeHub::kCommit / "tokenizer.json";
  fs::create_directories(mark.parent_path());
  std::ofstream(mark).close();
  CHECK(bench.asking(/*refresh=*/true).model("org/name") == bench.snapshot());
  CHECK(fs::exists(bench.snapshot() / "tokenizer.json"));
  CHECK_FALSE(fs::exists(mark));
  std::ofstream(mark).close();
  CHECK(bench.asking(/*refresh=*/true).model("org/name") == bench.snapshot());
  CHECK_FALSE(fs::exists(mark));
}

TEST_CASE("hub: branches and tags have all names that git allows") {
  Bench bench;
  const std::string name =
      GENERATE("lr=1e-4", "seed=1/step=10", "a,b", "x@y", "v1%", "wip!", "a(b)", "größe");
  bench.hub.refer(kModel, name, FakeHub::kCommit);
  CHECK(bench.asking().model("org/name@" + name) == bench.snapshot());
  CHECK(util::read_file(bench.folder() / "refs" / name) == FakeHub::kCommit);
}

TEST_CASE("hub: a download mends what is damaged in the cache; others tell how") {
  Bench bench;
  bench.hub.add("models/org/sharded", "config.json", "{}");
  bench.hub.add("models/org/sharded", "tokenizer.json", "{}");
  bench.hub.add("models/org/sharded", "model.safetensors.index.json",
                R"({"weight_map": {"a": "sub/a.bin"}})");
  bench.hub.add("models/org/sharded", "sub/a.bin", "abc");
  const fs::path sharded = bench.asking().model("org/sharded");
  CHECK(util::read_file(sharded / "sub/a.bin") == "abc");
  bench.asking().model("org/name");
  const std::string name = GENERATE("config.json", "tokenizer_config.json", "model.safetensors");
  const std::string whole = util::read_file(bench.snapshot() / name);
  INFO(name);
  std::ofstream(bench.snapshot() / name, std::ios::binary) << whole.substr(0, 7);  // through the link
  CHECK(bench.asking(/*refresh=*/true).model("org/name@" + FakeHub::kCommit) == bench.snapshot());
  CHECK(util::read_file(bench.snapshot() / name) == whole);
  fs::remove(bench.snapshot() / name);
  std::ofstream(bench.snapshot() / name) << "";  // a copy by another program
  CHECK(bench.asking(/*refresh=*/true).model("org/name") == bench.snapshot());
  check_whole(bench);

  const fs::path index = sharded / "model.safetensors.index.json";
  std::string damaged = util::read_file(index);
  damaged.back() = 'x';
  std::ofstream(index) << damaged;
  check_error(ErrorCode::kFormat, {index.string(), "depthlens download org/sharded mends it"},
              [&] { bench.asking().model("org/sharded"); });
  CHECK(bench.asking(/*refresh=*/true).model("org/sharded") == sharded);
  CHECK(bench.asking().model("org/sharded") == sharded);

  const fs::path reference = bench.folder() / "refs/main";
  for (const char* text : {"", "../../x"}) {
    std::ofstream(reference) << text;
    check_error(ErrorCode::kFormat,
                {"damaged hub cache", reference.string(), "depthlens download org/name mends it"},
                [&] { bench.asking().model("org/name"); });
    CHECK(bench.asking(/*refresh=*/true).model("org/name") == bench.snapshot());
    CHECK(util::read_file(reference) == FakeHub::kCommit);
  }
  // That of another name of it does not matter.
  fs::create_directories(bench.folder("models--gpt2") / "refs");
  std::ofstream(bench.folder("models--gpt2") / "refs/main") << "";
  fs::copy(bench.folder(), bench.folder("models--openai-community--gpt2"),
           fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  bench.hub.forget_requests();
  CHECK(bench.asking().model("gpt2") ==
        bench.folder("models--openai-community--gpt2") / "snapshots" / FakeHub::kCommit);
  CHECK(bench.hub.requests().empty());
}

TEST_CASE("hub: a commit that has gone from the hub is told with what it was asked for") {
  Bench bench;
  bench.asking().model("org/name");
  fs::remove(bench.snapshot() / "model.safetensors");
  bench.hub.set_rules(
      {{"on", FakeHub::kCommit}, {"status", 404}, {"headers", {{"X-Error-Code", "RevisionNotFound"}}}});
  check_error(ErrorCode::kInput,
              {"has no revision '" + FakeHub::kCommit, "since no weights in " + bench.snapshot().string(),
               "depthlens download org/name fetches the present commit"},
              [&] { bench.asking().model("org/name"); });
}

TEST_CASE(
    "hub: servers of large files speak for themselves, and an address that has expired is asked for anew") {
  Bench bench;
  bench.environment.set("HF_TOKEN", "hf_secret");
  const int status = GENERATE(401, 403, 404, 410);
  bench.hub.set_rules({{"on", "cdn GET"}, {"times", 1}, {"status", status}});
  check_whole(bench);
  CHECK(bench.hub.requests_with("hub GET /org/name/resolve/" + FakeHub::kCommit + "/model.safetensors")
            .size() == 2);
  fs::remove_all(bench.hub.cache());
  bench.hub.forget_requests();
  bench.hub.set_rules({{"on", "cdn GET"}, {"status", status}});
  check_error(ErrorCode::kInput,
              {"the server that the hub names for 'model.safetensors' does not give it",
               "http://127.0.0.1:", "status " + std::to_string(status)},
              [&] { bench.asking().model("org/name"); });
  CHECK(bench.hub.requests_with("cdn GET").size() == 2);
}

TEST_CASE("hub: what it says is shown without the token, printable, and of a readable length") {
  io::HubClientSettings settings;
  settings.token = "hf_a+b";
  CHECK(settings.told("x hf_a+b, hf_a%2Bb.") == "x …, ….");
  CHECK(settings.told("a\x1b[31mb") == "a\\x1b[31mb");
  CHECK(settings.told(std::string(90000, 'a')).size() < 600);
  const util::Error error = settings.without_token(util::input_error({.what = "hf_a+b", .hint = "hf_a+b"}));
  CHECK(std::string(error.what()) == "…");
  CHECK(error.hint() == "…");

  Bench bench;
  const std::string secret = "hf_secret";
  bench.environment.set("HF_TOKEN", secret);
  const auto refused = [&](const std::vector<std::string>& parts) {
    check_error(ErrorCode::kInput, parts, [&] {
      try {
        bench.asking().model("org/name");
      } catch (const util::Error& caught) {
        CHECK((std::string(caught.what()) + caught.hint()).find(secret) == std::string::npos);
        CHECK(std::string(caught.what()).size() < 2000);
        throw;
      }
    });
  };
  bench.hub.set_rules({{"on", "HEAD"}, {"set", {{"ETag", secret}, {"X-HF-Warning", secret}}}});
  refused({"an ETag", "'…'"});
  bench.hub.set_rules({{"on", "HEAD"}, {"unset", {"X-Repo-Commit"}}, {"set", {{"Content-Type", secret}}}});
  refused({"X-Repo-Commit", ", …"});
  bench.hub.set_rules(
      {{"on", "HEAD"}, {"status", 418}, {"headers", {{"X-Error-Message", std::string(9000, 'a') + secret}}}});
  refused({"status 418", "aaa…"});
  bench.hub.set_rules(
      {{"on", "HEAD"}, {"status", 307}, {"headers", {{"Location", "http://127.0.0.1:1/" + secret}}}});
  refused({"cannot be reached"});
  bench.hub.set_rules({{"on", "HEAD"}, {"status", 407}});
  refused({"the proxy asks for a name and a password"});
  bench.hub.set_rules(
      {{"on", "HEAD"}, {"status", 429}, {"headers", {{"ratelimit", "t=9223372036854775807"}}}});
  refused({"asks for a long pause"});
  for (const std::string& warning : util::warnings()) CHECK(warning.find(secret) == std::string::npos);
  for (const auto& [address, shown] :
       std::vector<std::pair<std::string, std::string>>{{"hf-mirror.com", "'hf-mirror.com'"},
                                                        {"ftp://me:word@x/" + secret, "'…@x/…'"},
                                                        {"https://me:wo?rd@x", "'…@x'"}}) {
    bench.environment.set("HF_ENDPOINT", address);
    check_error(ErrorCode::kUsage, {"HF_ENDPOINT", shown}, [&] { bench.asking().model("org/name"); });
  }
  std::string capitals = bench.hub.endpoint();
  capitals.replace(0, 4, "HTTP");
  bench.environment.set("HF_ENDPOINT", capitals + "/");
  bench.hub.set_rules({{"on", "HEAD .*config.json"}, {"set", {{"Content-Length", "0"}}}});
  CHECK(bench.asking().model("org/name") == bench.snapshot());
}

TEST_CASE("hub: names as long as a file system takes, and a cache without locks") {
  Bench bench;
  const std::string shard = std::string(240, 's') + ".safetensors", branch(250, 'b');
  bench.hub.add(kModel, "config.json", "{}", kOther);
  bench.hub.add(kModel, "tokenizer.json", "{}", kOther);
  bench.hub.add(kModel, "model.safetensors.index.json", Json{{"weight_map", {{"a", shard}}}}.dump(), kOther);
  bench.hub.add(kModel, shard, "abc", kOther);
  bench.hub.refer(kModel, branch, kOther);
  fs::create_directories(bench.hub.cache());
  std::ofstream(bench.hub.cache() / ".locks") << "";  // no folder of ours
  CHECK(bench.asking().model("org/name@" + branch) == bench.snapshot(kOther));
  CHECK(util::read_file(bench.snapshot(kOther) / shard) == "abc");
  CHECK(bench.unfinished().empty());
  const std::vector<std::string> warnings = util::warnings();
  CHECK(std::any_of(warnings.begin(), warnings.end(), [&](const std::string& line) {
    return line.find("no lock in " + bench.hub.cache().string()) != std::string::npos;
  }));
}

TEST_CASE("hub: a Jacobian lens is the same whatever the cache has, and a model's folder is no lens") {
  Bench bench;
  const std::string repository = "models/n/j";
  bench.hub.add(repository, "g/A.pt", "A");
  bench.hub.add(repository, "g/B.pt", "B");
  bench.hub.add(repository, "one/C.pt", "C");
  bench.hub.add(repository, "one/config.yaml", "x: 1");
  const auto several = [&] {
    check_error(ErrorCode::kUsage, {"several lenses in 'g' of 'n/j'", "g/A.pt, g/B.pt"},
                [&] { bench.asking().jacobian_lens("n/j:g"); });
  };
  several();
  bench.asking().jacobian_lens("n/j:g/A.pt");
  several();
  CHECK(io::Hub({.offline = true}).jacobian_lens("n/j:g").filename() == "A.pt");  // with a warning
  CHECK(util::warnings().back().find("the only lens of that folder on this machine") != std::string::npos);
  const fs::path one = bench.asking().jacobian_lens("n/j:one");
  CHECK(one == bench.folder("models--n--j") / "snapshots" / FakeHub::kCommit / "one/C.pt");
  CHECK(io::with_file("n/j@main:one", one) == "n/j@main:one/C.pt");
  CHECK(io::with_file("n/j:one/C.pt", one) == "n/j:one/C.pt");
  // Whether nothing else belongs to a lens is known of a whole folder, not of a file that was fetched alone.
  const std::size_t warnings = util::warnings().size();
  CHECK(io::Hub({.offline = true}).jacobian_lens("n/j:one/C.pt") == one);
  CHECK(util::warnings().size() == warnings);
  fs::remove(one.parent_path() / "config.yaml");
  CHECK(io::Hub({.offline = true}).jacobian_lens("n/j:one/C.pt") == one);
  CHECK(util::warnings().back().find("forbids to ask whether the hub has files beside it") !=
        std::string::npos);
  CHECK(io::with_file("./C.pt", "./C.pt") == "./C.pt");
  fs::remove(one);  // what is left in the folder is no lens
  CHECK_THROWS_AS(io::Hub({.offline = true}).jacobian_lens("n/j:one"), util::Error);
  CHECK(bench.asking().jacobian_lens("n/j:one") == one);
  CHECK(util::read_file(one) == "C");
  bench.hub.set_rules({{"on", "/api/"}, {"status", 404}});
  fs::remove_all(bench.hub.cache());
  check_error(ErrorCode::kInput, {"the hub has no list of the files in 'g'", "name the file"},
              [&] { bench.asking().jacobian_lens("n/j:g"); });
  for (const std::string name : {"org/name", "none.pt", "./none.pt", "/none/at.pt", "a/b/c:d", ""}) {
    INFO(name);
    check_error(ErrorCode::kInput, {"no lens at '" + name + "'"},
                [&] { bench.asking().jacobian_lens(name); });
  }

  bench.hub.set_rules(Json::array());
  const std::string space = "spaces/AlignmentResearch/tuned-lens";
  bench.hub.add(space, "lens/org/name/config.json", "{}");
  bench.hub.add(space, "lens/half/config.json", "{}");
  const TemporaryFolder here;
  here.write("org/name/config.json", "{}");
  here.write("org/name/model.safetensors", "");
  here.write("org/lens/config.json", "{}");
  here.write("org/lens/lens.pt", "");
  const fs::path before = fs::current_path();
  fs::current_path(here.path());
  check_error(ErrorCode::kInput, {"has no lens/org/name/params.pt"},
              [&] { bench.asking().tuned_lens("org/name"); });
  bench.hub.add(space, "lens/org/name/params.pt", "tuned");
  CHECK(bench.asking().tuned_lens("org/name").is_absolute());
  CHECK(bench.asking().jacobian_lens("org/lens") == fs::path("org/lens"));
  check_error(ErrorCode::kInput, {"no lens at 'org/name'"},
              [&] { bench.asking().jacobian_lens("org/name"); });
  here.write("org/name/params.pt", "");
  CHECK(bench.asking().tuned_lens("org/name") == fs::path("org/name"));
  fs::current_path(before);

  // Of what is published only what is known is told.
  check_error(ErrorCode::kUsage, {"--lenses", "'half@v1'"},
              [&] { bench.asking().published_lenses("half@v1"); });
  check_error(ErrorCode::kInput, {"no list of the files of neuronpedia/jacobian-lens"},
              [&] { bench.asking().published_lenses("half"); });
  bench.hub.add("models/neuronpedia/jacobian-lens", "README.md", "");
  CHECK(bench.asking().published_lenses("half").of_model.empty());
  CHECK(bench.asking().published_lenses("org/name").of_model == std::vector<std::string>{"tuned:org/name"});
}

void add_small_model(const FakeHub& hub) {
  hub.add(kModel, "config.json", "{}");
  hub.add(kModel, "tokenizer.json", "{}");
  hub.add(kModel, "pytorch_model.bin.index.json", R"({"weight_map": {"a": "weights"}})");
  hub.add(kModel, "weights", "abc");
}

/// A file with a certificate for these names and its key; "" where none can be made.
std::string certificate_in(const TemporaryFolder& folder, const std::string& names) {
  const std::string file = (folder.path() / "both.pem").string(), key = (folder.path() / "key.pem").string();
  const std::string command =
      "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=hub -addext "
      "subjectAltName=" +
      names + " -keyout '" + key + "' -out '" + file + "' >'" + key + ".log' 2>&1 && cat '" + key + "' >>'" +
      file + "'";
  if (std::system(command.c_str()) == 0) return file;
  WARN("skipped: no openssl program to make a certificate with");
  return {};
}

TEST_CASE("hub: https with a certificate that a variable names, and not without") {
  const TemporaryFolder folder;
  const std::string file = certificate_in(folder, "IP:127.0.0.1");
  if (file.empty()) return;
  CleanEnvironment environment;
  FakeHub hub(file);
  add_small_model(hub);
  environment.set("HF_ENDPOINT", hub.endpoint());
  environment.set("HF_HUB_CACHE", hub.cache().string());
  const auto fetch = [] { return io::Hub({.pause = std::chrono::milliseconds(1)}).model("org/name"); };
  check_error(ErrorCode::kInput, {"the hub cannot be trusted", "SSL_CERT_FILE"}, fetch);
  environment.set("SSL_CERT_FILE", "/no/such/file");
  check_error(ErrorCode::kInput, {"no certificates, SSL_CERT_FILE"}, fetch);
  for (const char* name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}) {
    fs::remove_all(hub.cache());
    for (const char* other : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})
      environment.set(other, "");
    environment.set(name, file);
    CHECK(util::read_file(fetch() / "weights") == "abc");
  }
  // From https nobody is led to http.
  fs::remove_all(hub.cache());
  hub.set_rules(
      {{{"on", "GET .*weights"}, {"status", 302}, {"headers", {{"Location", "http://127.0.0.1:1/x"}}}}});
  check_error(ErrorCode::kInput, {"a redirect from https to http://127.0.0.1:1/x"}, fetch);
}

TEST_CASE("hub: a mirror that redirects to the hub itself is followed, and its token stays with it") {
  const TemporaryFolder folder;
  const std::string file = certificate_in(folder, "DNS:huggingface.co,DNS:mirror.test");
  if (file.empty()) return;
  CleanEnvironment environment;
  FakeHub hub(file);
  const FakeHub proxy;
  add_small_model(hub);
  const std::string endpoint = hub.endpoint();
  proxy.set_rules({{"on", "CONNECT"}, {"tunnel", std::stoi(endpoint.substr(endpoint.rfind(':') + 1))}});
  // The first answer to each name is the mirror's.
  Json rules = Json::array();
  for (const char* name : {"config.json", "tokenizer.json", "pytorch_model.bin.index.json", "weights"}) {
    for (const char* method : {"HEAD", "GET"}) {
      const std::string revision =
          std::string(method) == "HEAD" && std::string(name) == "config.json" ? "main" : FakeHub::kCommit;
      const std::string path = "/org/name/resolve/" + revision + "/" + name;
      rules.push_back({{"on", std::string(method) + " " + path},
                       {"times", 1},
                       {"status", 308},
                       {"headers", {{"Location", "https://huggingface.co" + path}, {"ETag", "\"x\""}}}});
    }
  }
  hub.set_rules(rules);
  environment.set("HF_ENDPOINT", "https://mirror.test");
  environment.set("HF_HUB_CACHE", hub.cache().string());
  environment.set("HF_TOKEN", "hf_secret");
  environment.set("SSL_CERT_FILE", file);
  environment.set("https_proxy", proxy.endpoint());
  const io::Hub asking({.pause = std::chrono::milliseconds(1)});
  CHECK(util::read_file(asking.model("org/name") / "weights") == "abc");
  int of_mirror = 0, of_hub = 0;
  for (const FakeHub::Request& request : hub.requests()) {
    const bool mirror = request.headers.at("host") == "mirror.test";
    ++(mirror ? of_mirror : of_hub);
    CHECK(request.headers.count("authorization") == (mirror ? 1 : 0));
  }
  CHECK(of_mirror > 0);
  CHECK(of_hub > 0);
  proxy.set_rules({{"on", "CONNECT"}, {"status", 407}});
  fs::remove_all(hub.cache());
  check_error(ErrorCode::kInput, {"the proxy answers with status 407", "NAME:PASSWORD"},
              [&] { asking.model("org/name"); });
}

TEST_CASE("hub: a server that says nothing is given up after the time that the variables allow") {
  Bench bench;
  bench.environment.set("HF_HUB_ETAG_TIMEOUT", "1");
  bench.environment.set("HF_HUB_DOWNLOAD_TIMEOUT", "1");
  bench.hub.set_rules({{"on", "cdn GET"}, {"times", 1}, {"wait", 4}});
  check_whole(bench);
  CHECK(bench.hub.requests_with("cdn GET").size() == 2);
  fs::remove_all(bench.hub.cache());
  bench.hub.set_rules({{"on", "hub HEAD"}, {"wait", 4}});
  check_error(ErrorCode::kInput, {"the hub cannot be reached", "too slow"},
              [&] { bench.asking().model("org/name"); });
}

TEST_CASE("hub: name and password for a proxy stand in no message") {
  Bench bench;
  for (const char* proxy : {"http://user:SEC/RET@127.0.0.1:1", "http://user:SEC#RET@127.0.0.1:1",
                            "http://user:SECRET@127.0.0.1:99999", "socks9://user:SECRET@127.0.0.1:1",
                            "user:SEC RET@127.0.0.1:1"}) {
    INFO(proxy);
    bench.environment.set("http_proxy", proxy);
    try {
      bench.asking().model("org/name");
      FAIL_CHECK("no error");
    } catch (const util::Error& error) {
      INFO(error.what());
      CHECK(std::string(error.what()).find("SEC") == std::string::npos);
      CHECK(std::string(error.what()).find("RET") == std::string::npos);
    }
  }
  for (const std::string& warning : util::warnings()) CHECK(warning.find("SEC") == std::string::npos);
}

TEST_CASE("hub: through a proxy, where a variable names one") {
  CleanEnvironment environment;
  FakeHub hub;
  add_small_model(hub);
  environment.set("HF_ENDPOINT", "http://hub.invalid");
  environment.set("HF_HUB_CACHE", hub.cache().string());
  environment.set("http_proxy", hub.endpoint());
  const io::Hub asking({.pause = std::chrono::milliseconds(1)});
  CHECK(util::read_file(asking.model("org/name") / "weights") == "abc");
  CHECK_FALSE(hub.requests_with("HEAD http://hub.invalid/org/name/resolve/main/config.json").empty());
}

TEST_CASE("http: addresses are taken apart as they are requested") {
  using io::origin_of;
  CHECK(origin_of("https://HuggingFace.co/a/b?c") == "https://huggingface.co:443");
  CHECK(origin_of("http://hub:8080") == "http://hub:8080");
  CHECK(origin_of("https://huggingface.co:x/") == "");
  CHECK(origin_of("https://huggingface.co:443@evil.example/") == "https://evil.example:443");
  CHECK(io::resolve_location("https://a.b/c/d?e", "/f g") == "https://a.b/f%20g");
  CHECK(io::resolve_location("https://a.b/c/d?e", "f?h") == "https://a.b/c/f?h");
  CHECK(io::resolve_location("https://a.b/c/d", "//x.y/z") == "https://x.y/z");
  CHECK(io::shown_address("https://me:secret@a.b/c?signature=secret#x") == "https://a.b/c");
  CHECK(io::percent_encoded("refs/pr/3 ä") == "refs%2Fpr%2F3%20%C3%A4");
  CHECK(io::percent_encoded("a/b+c", "/") == "a/b%2Bc");
}

}  // namespace depthlens::test
