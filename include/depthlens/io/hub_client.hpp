// What the Hugging Face hub is asked for: what a file is, what a repository holds, the bytes of a file.
// Follows redirects itself, so that the token reaches nobody but the hub, tries again where that may help,
// and turns every refusal into words.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/io/http.hpp"
#include "depthlens/io/hub_id.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::io {

struct HubClientSettings {
  std::string endpoint = "https://huggingface.co";
  std::string token = {};         ///< "": none. Never shown
  std::string token_source = {};  ///< the variable or file that it is from
  std::chrono::seconds metadata_silence{10};
  std::chrono::seconds data_silence{10};
  std::chrono::milliseconds pause{1000};  ///< between two tries; the unit of longer ones

  /// What a hub has said, to be shown: without the token, which it may have repeated; printable; and of a
  /// readable length.
  std::string told(std::string_view text) const;
  /// An error without the token.
  util::Error without_token(const util::Error& error) const;
};

/// HF_ENDPOINT, HF_HUB_ETAG_TIMEOUT, HF_HUB_DOWNLOAD_TIMEOUT; the token from HF_TOKEN,
/// HUGGING_FACE_HUB_TOKEN, the file HF_TOKEN_PATH or HF_HOME/token, and none with
/// HF_HUB_DISABLE_IMPLICIT_TOKEN. Throws usage errors for values that cannot be used.
HubClientSettings read_hub_client_settings();

/// A file of one commit.
struct HubFile {
  std::string path = {};  ///< in the repository
  std::string commit = {};
  /// SHA-256 (64 hex digits) or git's SHA-1 (40) of the content. In a list "", where that does not tell.
  std::string etag = {};
  std::optional<std::uint64_t> size = {};  ///< bytes, where the hub tells
};

/// The hub cannot be reached. An input error.
class HubUnreachable : public util::Error {
 public:
  using util::Error::Error;
};

/// Where the bytes of a file go.
class HubSink {
 public:
  virtual ~HubSink() = default;
  /// Bytes that are there already: the next one wanted.
  virtual std::uint64_t size() const = 0;
  virtual void write(std::string_view bytes) = 0;
  /// Forgets what was written.
  virtual void restart() = 0;
};

/// For one thread at a time. Throws HubUnreachable, and input errors that say what the hub answered: no such
/// repository or a private one, terms that are not accepted, a refused token, no such revision, an answer
/// that is not a hub's. `stop` is asked now and then whether to give up.
class HubClient {
 public:
  explicit HubClient(HubClientSettings settings, std::function<bool()> stop = {});

  struct Lookup {
    std::optional<HubFile> file;  ///< nothing where the revision has no such file
    std::string commit;           ///< of the revision; "" where the hub does not tell
  };
  Lookup look_up(const Repository& repository, const std::string& revision, const std::string& path);

  /// The files in `folder` ("": the top) at a commit, and below it where `recursive`. No folders. Nothing
  /// where the hub has, as some mirrors, no such service, or a list without an end; none of no folder.
  std::optional<std::vector<HubFile>> list(const Repository& repository, const std::string& commit,
                                           const std::string& folder, bool recursive);

  /// Writes what is missing of a file to `sink`, in as many tries as it takes. Its size is right then, where
  /// it is known; its content is for the caller to check.
  void fetch(const Repository& repository, const HubFile& file, HubSink& sink);

 private:
  struct Reached {
    HttpAnswer answer;
    std::string url = {};                           // that has answered
    std::string commit = {}, etag = {}, size = {};  // as headers on the way have told
  };
  enum class AtOtherHost { kStop, kGoOn };

  std::string file_address(const Repository& repository, const std::string& revision,
                           const std::string& path) const;
  /// Who may have the token, and whose redirects are followed as the hub's own.
  bool gets_token(const std::string& origin) const;
  bool is_hub(const std::string& origin) const;
  /// One try, redirects included.
  Reached reach(HttpRequest request, const HttpSession::Sink& sink, AtOtherHost at_other_host);
  /// As many tries as it takes until the hub has answered.
  Reached ask(const HttpRequest& request, const HttpSession::Sink& sink, AtOtherHost at_other_host);
  /// Nothing where it is longer than `most` bytes.
  std::optional<std::string> get_json(const std::string& address, std::size_t most, HttpAnswer& answer);
  /// Waits before another try, unless it is the last.
  void pause_after(int failures, const HttpAnswer& answer, const std::string& address);
  void sleep(std::chrono::milliseconds time);
  HubUnreachable unreachable(const std::string& address, const HttpFailure& failure) const;
  std::string shown(const std::string& url) const { return settings_.told(shown_address(url)); }
  util::Error refusal(const Reached& reached, const Repository& repository, const std::string& revision,
                      const std::string& path) const;

  HubClientSettings settings_;
  std::string origin_;
  std::function<bool()> stop_;
  HttpSession session_;
  bool answered_ = false;  // whether the hub has ever been reached
};

}  // namespace depthlens::io
