// Ids to folders of a hub cache that the test lays out itself.
#include "depthlens/io/hub_cache.hpp"

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "depthlens/io/hub.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/clean_environment.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using namespace depthlens::test;
using util::ErrorCode;

namespace {

const std::string kCommit = "0123456789abcdef0123456789abcdef01234567";
const std::string kOther = "89abcdef0123456789abcdef0123456789abcdef";

std::filesystem::path resolve_model(const std::string& text) {
  return io::Hub({.offline = true}).model(text);
}

std::filesystem::path resolve_tuned_lens(const std::string& text) {
  return io::Hub({.offline = true}).tuned_lens(text);
}

/// Adds refs/REVISION and a snapshot with FILE and what belongs to it, links to a blob as the hub's own
/// client makes them.
std::filesystem::path add(const TemporaryFolder& cache, const std::string& repository,
                          const std::string& revision, const std::string& commit,
                          const std::string& file = "config.json") {
  cache.write(repository + "/refs/" + revision, commit);
  cache.write(repository + "/blobs/abc", "{}");
  std::vector<std::string> files = {file};
  if (file == "config.json") files.insert(files.end(), {"model.safetensors", "tokenizer.json"});
  if (file.rfind("lens/", 0) == 0) files.push_back(file.substr(0, file.rfind('/')) + "/params.pt");
  for (const std::string& one : files) {
    const auto link = cache.path() / repository / "snapshots" / commit / one;
    std::filesystem::create_directories(link.parent_path());
    std::filesystem::create_symlink(cache.path() / repository / "blobs" / "abc", link);
  }
  return cache.path() / repository / "snapshots" / commit;
}

}  // namespace

TEST_CASE("hub cache: an id is found by its main branch, another branch, a tag and a commit") {
  CleanEnvironment environment;
  const TemporaryFolder cache;
  environment.set("HF_HUB_CACHE", cache.path());
  const auto main = add(cache, "models--org--name", "main", kCommit);
  const auto other = add(cache, "models--org--name", "refs/pr/1", kOther);
  CHECK(resolve_model("org/name") == main);
  CHECK(resolve_model("org/name@main") == main);
  CHECK(resolve_model("org/name@" + kCommit) == main);
  CHECK(resolve_model("org/name@refs/pr/1") == other);
  CHECK(resolve_model("org/name@" + kOther) == other);
  cache.write("models--org--name/refs/v1", kOther + "\n");
  CHECK(resolve_model("org/name@v1") == other);
}

TEST_CASE("hub cache: the variables in their order") {
  const TemporaryFolder cache;
  const auto at = [&](const std::string& below) { return add(cache, below + "/models--m", "main", kCommit); };
  const std::vector<std::pair<const char*, std::string>> places = {{"HOME", "home/.cache/huggingface/hub"},
                                                                   {"XDG_CACHE_HOME", "xdg/huggingface/hub"},
                                                                   {"HF_HOME", "hf/hub"},
                                                                   {"HUGGINGFACE_HUB_CACHE", "old"},
                                                                   {"HF_HUB_CACHE", "new"}};
  CleanEnvironment environment;
  for (const auto& [variable, below] : places) {
    INFO(variable);
    const auto expected = at(below);
    environment.set(variable, cache.path() / below.substr(0, below.find('/')));
    CHECK(resolve_model("m") == expected);
  }
  // The legacy one is read after the others, not instead of them.
  const auto legacy = add(cache, "legacy/models--only", "main", kCommit);
  environment.set("TRANSFORMERS_CACHE", cache.path() / "legacy");
  CHECK(resolve_model("only") == legacy);
  CHECK(resolve_model("m") == cache.path() / "new/models--m/snapshots" / kCommit);
  environment.set("HF_HUB_CACHE", "");  // an empty variable counts as unset
  CHECK(resolve_model("m") == cache.path() / "old/models--m/snapshots" / kCommit);
}

TEST_CASE("hub cache: ~ and variables are expanded as huggingface_hub does, for no shell may have done it") {
  const TemporaryFolder cache;
  const auto expected = add(cache, "home/hf/hub/models--m", "main", kCommit);
  CleanEnvironment environment;
  environment.set("HOME", cache.path() / "home/");
  environment.set("DEPTHLENS_TEST_PART", "hf");
  for (const auto& [variable, below] :
       std::vector<std::pair<const char*, std::string>>{{"HF_HOME", "hf"},
                                                        {"HF_HUB_CACHE", "hf/hub"},
                                                        {"HUGGINGFACE_HUB_CACHE", "hf/hub"},
                                                        {"TRANSFORMERS_CACHE", "hf/hub"}}) {
    for (const std::string start : {"~/", "$HOME/", "${HOME}/"}) {
      INFO(variable << '=' << start << below);
      environment.set(variable, start + below);
      CHECK(resolve_model("m") == expected);
      environment.set(variable, start + "$DEPTHLENS_TEST_PART" + below.substr(2));
      CHECK(resolve_model("m") == expected);
    }
    environment.set(variable, "");
  }
  // What is not known stays as it is.
  for (const std::string text :
       {"$DEPTHLENS_NO_SUCH/x", "${DEPTHLENS_NO_SUCH}/x", "${", "$", "a$/x", "~no-such-user/x", "x/~"}) {
    environment.set("HF_HUB_CACHE", text);
    check_error(ErrorCode::kInput, {"looked in " + text + "/models--m"}, [] { resolve_model("m"); });
  }
  ::unsetenv("DEPTHLENS_TEST_PART");
  const auto xdg = add(cache, "home/.c/huggingface/hub/models--n", "main", kCommit);
  environment.set("HF_HUB_CACHE", "");
  environment.set("XDG_CACHE_HOME", "~/.c");
  CHECK(resolve_model("n") == xdg);
}

TEST_CASE("hub cache: moved repositories are found under the other name") {
  CleanEnvironment environment;
  const TemporaryFolder cache;
  environment.set("HF_HUB_CACHE", cache.path());
  const auto moved = add(cache, "models--openai-community--gpt2", "main", kCommit);
  CHECK(resolve_model("gpt2") == moved);
  const auto plain = add(cache, "models--gpt2", "main", kOther);
  CHECK(resolve_model("gpt2") == plain);
  CHECK(resolve_model("openai-community/gpt2") == moved);
}

TEST_CASE("hub cache: a miss says where it looked and how to get the model") {
  CleanEnvironment environment;
  const TemporaryFolder cache;
  environment.set("HF_HUB_CACHE", cache.path());
  const std::string place = (cache.path() / "models--org--name").string();
  check_error(ErrorCode::kInput,
              {"the model 'org/name' is not on this machine", "looked in " + place,
               "--offline forbids to fetch it", "depthlens download org/name"},
              [] { resolve_model("org/name"); });
  check_error(ErrorCode::kInput, {"depthlens download org/name@v2"}, [] { resolve_model("org/name@v2"); });
  check_error(ErrorCode::kInput, {"models--gpt2, ", "models--openai-community--gpt2"},
              [] { resolve_model("gpt2"); });

  add(cache, "models--org--name", "main", kCommit, "tokenizer.json");  // a partial snapshot
  check_error(ErrorCode::kInput, {"no config.json in " + place + "/snapshots/" + kCommit},
              [] { resolve_model("org/name"); });
  check_error(ErrorCode::kInput, {"no revision 'v2'"}, [] { resolve_model("org/name@v2"); });
  cache.write("models--org--name/.no_exist/" + kCommit + "/config.json", "");
  check_error(ErrorCode::kInput, {"the hub has no config.json"}, [] { resolve_model("org/name"); });
  cache.write("models--org--name/refs/main", "../../../etc");
  check_error(ErrorCode::kFormat, {"damaged hub cache", "refs/main", "40 hex digits", "'../../../etc'"},
              [] { resolve_model("org/name"); });
  environment.set("HF_HUB_CACHE", "");
  check_error(ErrorCode::kInput, {"neither HF_HUB_CACHE, HF_HOME nor HOME is set"},
              [] { resolve_model("org/name"); });
}

TEST_CASE("hub cache: ids that could leave the cache are refused") {
  CleanEnvironment environment;
  const TemporaryFolder cache;
  environment.set("HF_HUB_CACHE", cache.path());
  for (const std::string id :
       {"org/..", "org/na..me", "or--g/name", "-org/name", "org/name-", ".org/name", "org/", "org/na me",
        "org/n\nm", "org/n;rm", "org/n\xc3\xa9", "org/name@", "org/name@../x", "org/name@/x", "org/name@a//b",
        "org/name@.git", "org/name@a b", "@main", "org/name.git"}) {
    INFO(id);
    check_error(ErrorCode::kUsage, {"neither a folder nor a hub id", "ORG/NAME@REVISION"},
                [&] { resolve_model(id); });
  }
  CHECK_THROWS_AS(resolve_model(std::string(97, 'a')), util::Error);
  for (const std::string path : {"../x", "/x", "a/../x", "a//x", "a/./x", "C:x", "a\\x", "a\nx", ""})
    CHECK_FALSE(io::is_valid_hub_path(path));
  CHECK(io::is_valid_hub_path("gpt2-small/jlens/Salesforce-wikitext/gpt2_jacobian_lens.pt"));
}

TEST_CASE("hub cache: folders win over ids, and paths are never ids") {
  CleanEnvironment environment;
  const TemporaryFolder folder;
  environment.set("HF_HUB_CACHE", folder.path() / "cache");
  folder.write("model/config.json", "{}");
  CHECK(resolve_model((folder.path() / "model").string()) == folder.path() / "model");
  std::filesystem::create_directories(folder.path() / "empty");
  check_error(ErrorCode::kInput, {"no model in the folder", "empty'", "config.json in it"},
              [&] { resolve_model((folder.path() / "empty").string()); });
  for (const std::string path : {"./nothing", "../nothing", "/nothing/here", "a/b/c", "~/x", ""}) {
    INFO(path);
    check_error(ErrorCode::kInput, {"no folder '" + path + "'"}, [&] { resolve_model(path); });
  }

  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  folder.write("gpt2/readme", "");
  check_error(ErrorCode::kInput, {"not on this machine", "a folder 'gpt2' without config.json"},
              [] { resolve_model("gpt2"); });
  folder.write("gpt2/config.json", "{}");
  CHECK(resolve_model("gpt2") == std::filesystem::path("gpt2"));
  std::filesystem::current_path(before);
}

TEST_CASE("hub cache: published tuned lenses") {
  CleanEnvironment environment;
  const TemporaryFolder cache;
  environment.set("HF_HUB_CACHE", cache.path());
  const auto snapshot =
      add(cache, "spaces--AlignmentResearch--tuned-lens", "main", kCommit, "lens/gpt2/config.json");
  CHECK(resolve_tuned_lens("gpt2") == snapshot / "lens/gpt2");
  CHECK(resolve_tuned_lens("openai-community/gpt2") == snapshot / "lens/gpt2");
  CHECK(resolve_tuned_lens(cache.path().string()) == cache.path());
  check_error(ErrorCode::kInput,
              {"the tuned lens of 'facebook/opt-125m' is not on this machine",
               "spaces--AlignmentResearch--tuned-lens", "no lens/facebook/opt-125m/config.json",
               "depthlens download tuned:facebook/opt-125m"},
              [] { resolve_tuned_lens("facebook/opt-125m"); });
  check_error(ErrorCode::kInput, {"no lens at './x'"}, [] { resolve_tuned_lens("./x"); });
  check_error(ErrorCode::kUsage, {"neither a folder nor a hub id"}, [] { resolve_tuned_lens("org/.."); });

  environment.set("TUNED_LENS_REPO_ID", "me/lenses");
  environment.set("TUNED_LENS_REPO_TYPE", "model");
  const auto own = add(cache, "models--me--lenses", "main", kOther, "lens/org/name/config.json");
  CHECK(resolve_tuned_lens("org/name") == own / "lens/org/name");
  environment.set("TUNED_LENS_REPO_TYPE", "cake");
  check_error(ErrorCode::kUsage, {"TUNED_LENS_REPO_TYPE", "'cake'"}, [] { resolve_tuned_lens("org/name"); });
  environment.set("TUNED_LENS_REPO_ID", "../lenses");
  check_error(ErrorCode::kUsage, {"TUNED_LENS_REPO_ID"}, [] { resolve_tuned_lens("org/name"); });
}

TEST_CASE("hub cache: the commit of a folder in a snapshot") {
  const TemporaryFolder cache;
  const auto snapshot = add(cache, "spaces--org--name", "main", kCommit, "lens/org/model/config.json");
  CHECK(io::hub_commit(snapshot) == kCommit);
  CHECK(io::hub_commit(snapshot / "lens/org/model") == kCommit);
  const auto link = cache.path() / "link";
  std::filesystem::create_directory_symlink(snapshot, link);
  CHECK(io::hub_commit(link) == kCommit);
  CHECK(io::hub_commit(snapshot / "lens/org/model/params.pt") == kCommit);  // itself a link out of it
  CHECK_FALSE(io::hub_commit(cache.path()));
  const auto other = cache.path() / "org" / "snapshots" / kCommit;
  std::filesystem::create_directories(other);
  CHECK_FALSE(io::hub_commit(other));
  CHECK_FALSE(io::hub_commit(""));
}
