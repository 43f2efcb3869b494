// The environment without the variables of the hub, put back at the end.
#pragma once

#include <cstdlib>
#include <map>
#include <string>

namespace depthlens::test {

class CleanEnvironment {
 public:
  CleanEnvironment() {
    for (const char* name : kNames) {
      const char* value = std::getenv(name);
      if (value != nullptr) before_[name] = value;
      ::unsetenv(name);
    }
  }
  ~CleanEnvironment() {
    for (const char* name : kNames) ::unsetenv(name);
    for (const auto& [name, value] : before_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  CleanEnvironment(const CleanEnvironment&) = delete;
  CleanEnvironment& operator=(const CleanEnvironment&) = delete;

  void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }

 private:
  static constexpr const char* kNames[] = {"HF_HUB_CACHE",
                                           "HUGGINGFACE_HUB_CACHE",
                                           "HF_HOME",
                                           "XDG_CACHE_HOME",
                                           "HOME",
                                           "TRANSFORMERS_CACHE",
                                           "TUNED_LENS_REPO_ID",
                                           "TUNED_LENS_REPO_TYPE",
                                           "HF_ENDPOINT",
                                           "HF_TOKEN",
                                           "HUGGING_FACE_HUB_TOKEN",
                                           "HF_TOKEN_PATH",
                                           "HF_HUB_OFFLINE",
                                           "TRANSFORMERS_OFFLINE",
                                           "HF_HUB_DISABLE_IMPLICIT_TOKEN",
                                           "HF_HUB_DISABLE_SYMLINKS",
                                           "HF_HUB_DISABLE_PROGRESS_BARS",
                                           "HF_HUB_ETAG_TIMEOUT",
                                           "HF_HUB_DOWNLOAD_TIMEOUT",
                                           "SSL_CERT_FILE",
                                           "REQUESTS_CA_BUNDLE",
                                           "CURL_CA_BUNDLE",
                                           "SSL_CERT_DIR",
                                           "http_proxy",
                                           "https_proxy",
                                           "HTTPS_PROXY",
                                           "no_proxy"};
  std::map<std::string, std::string> before_;
};

}  // namespace depthlens::test
