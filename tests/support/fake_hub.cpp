// Starts fake_hub.py and lays out what it serves.
#include "support/fake_hub.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "depthlens/util/text.hpp"

namespace depthlens::test {

namespace fs = std::filesystem;

const std::string FakeHub::kCommit = "0123456789abcdef0123456789abcdef01234567";

FakeHub::FakeHub(const std::string& certificate) : https_(!certificate.empty()) {
  const std::string script = DEPTHLENS_SOURCE_DIR "/tests/support/fake_hub.py";
  std::vector<std::string> words = {"python3", script, folder_.path().string()};
  if (https_) words.insert(words.end(), {"--certificate", certificate});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int in[2], out[2];
  if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
  pid_ = ::fork();
  if (pid_ == 0) {
    if (::dup2(in[0], 0) == 0 && ::dup2(out[1], 1) == 1) ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(in[0]);
  ::close(out[1]);
  stdin_ = in[1];
  std::string line;
  char c = 0;
  while (c != '\n') {
    const ssize_t count = ::read(out[0], &c, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    line += c;
  }
  ::close(out[0]);
  if (std::sscanf(line.c_str(), "%d %d", &port_, &cdn_port_) != 2)
    throw std::runtime_error("tests/support/fake_hub.py does not start: is there a python3?");
}

FakeHub::~FakeHub() {
  ::close(stdin_);
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
}

void FakeHub::add(const std::string& repository, const std::string& path, std::string_view bytes,
                  const std::string& commit) const {
  folder_.write("repositories/" + repository + "/" + commit + "/" + path, bytes);
  refer(repository, "main", commit);
}

void FakeHub::refer(const std::string& repository, const std::string& revision,
                    const std::string& commit) const {
  folder_.write("repositories/" + repository + "/refs/" + revision, commit);
}

void FakeHub::add_model(const std::string& name, const fs::path& folder) const {
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::ifstream stream(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
    add("models/" + name, entry.path().filename().string(), bytes);
  }
}

void FakeHub::set_rules(const util::Json& rules) const {
  const fs::path file =
      folder_.write("rules.json.new", (rules.is_array() ? rules : util::Json::array({rules})).dump());
  fs::rename(file, folder_.path() / "rules.json");
}

std::vector<FakeHub::Request> FakeHub::requests() const {
  std::vector<Request> all;
  std::ifstream stream(folder_.path() / "requests.jsonl");
  for (std::string line; std::getline(stream, line);) {
    const util::Json json = util::Json::parse(line);
    all.push_back({.server = json.at("server"),
                   .method = json.at("method"),
                   .path = json.at("path"),
                   .headers = json.at("headers")});
  }
  return all;
}

std::vector<std::string> FakeHub::requests_with(const std::string& part) const {
  std::vector<std::string> found;
  for (const Request& request : requests()) {
    const std::string line = request.server + " " + request.method + " " + request.path;
    if (line.find(part) != std::string::npos) found.push_back(line);
  }
  return found;
}

void FakeHub::forget_requests() const {
  fs::resize_file(folder_.path() / "requests.jsonl", 0);
}

bool FakeHub::cdn_saw_token() const {
  for (const Request& request : requests()) {
    if (request.server == "cdn" && request.headers.count("authorization") > 0) return true;
  }
  return false;
}

std::string FakeHub::endpoint() const {
  return util::cat(https_ ? "https" : "http", "://127.0.0.1:", port_);
}

std::map<std::string, std::string> FakeHub::environment(std::map<std::string, std::string> more) const {
  more.insert({{"HF_ENDPOINT", endpoint()},
               {"HF_HUB_CACHE", cache().string()},
               {"HF_HUB_OFFLINE", "0"},
               {"HF_HUB_ETAG_TIMEOUT", "60"},
               {"HF_HUB_DOWNLOAD_TIMEOUT", "60"}});
  return more;
}

}  // namespace depthlens::test
