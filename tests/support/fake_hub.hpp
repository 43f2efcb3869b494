// A hub on this machine (fake_hub.py), with the repositories, mishaps and the record of requests of one test.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/util/json.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens::test {

class FakeHub {
 public:
  /// `certificate`: a PEM file of key and certificate, with which the hub speaks https.
  explicit FakeHub(const std::string& certificate = "");
  ~FakeHub();
  FakeHub(const FakeHub&) = delete;
  FakeHub& operator=(const FakeHub&) = delete;

  static const std::string kCommit;  ///< of `add`, where none is given

  /// Adds a file to a commit of a repository ("models/ORG/NAME", "spaces/ORG/NAME"), which main then names.
  void add(const std::string& repository, const std::string& path, std::string_view bytes,
           const std::string& commit = kCommit) const;
  void refer(const std::string& repository, const std::string& revision, const std::string& commit) const;
  /// A copy of a model's folder.
  void add_model(const std::string& name, const std::filesystem::path& folder) const;
  /// What goes wrong from now on, as fake_hub.py has it: one rule or several.
  void set_rules(const util::Json& rules) const;

  struct Request {
    std::string server;  ///< "hub" or "cdn"
    std::string method, path;
    std::map<std::string, std::string> headers;
  };
  std::vector<Request> requests() const;
  /// "SERVER METHOD PATH" of the requests that hold `part`.
  std::vector<std::string> requests_with(const std::string& part) const;
  void forget_requests() const;
  /// None of the servers of large files must ever see a token.
  bool cdn_saw_token() const;

  std::string endpoint() const;
  std::filesystem::path cache() const { return folder_.path() / "cache"; }
  /// HF_ENDPOINT, HF_HUB_CACHE, no HF_HUB_OFFLINE and patience, for a program.
  std::map<std::string, std::string> environment(std::map<std::string, std::string> more = {}) const;
  std::filesystem::path beside(const std::string& name) const { return folder_.path() / name; }

 private:
  TemporaryFolder folder_;
  bool https_;
  pid_t pid_ = -1;
  int stdin_ = -1;
  int port_ = 0, cdn_port_ = 0;
};

}  // namespace depthlens::test
