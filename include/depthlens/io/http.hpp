// One request over HTTP, and nothing that is the hub's: no redirect is followed, nothing is tried again. The
// only place of libcurl.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace depthlens::io {

struct HttpRequest {
  std::string method = "GET";  ///< or "HEAD"
  std::string url = {};
  std::vector<std::string> headers = {};  ///< "name: value"
  std::uint64_t from = 0;                 ///< the first byte that is wanted (Range)
  std::chrono::seconds silence{10};       ///< how long a connection, or the next byte, may take
};

struct HttpAnswer {
  int status = 0;
  std::map<std::string, std::string> headers = {};  ///< by their names in lower case

  /// "" where it is absent.
  std::string header(const std::string& name) const;
  /// Whether the content came compressed, though that was not asked for. It is passed on as it was before.
  bool is_encoded() const;
};

/// No whole answer. The text tells why, without credentials.
class HttpFailure : public std::runtime_error {
 public:
  enum class Kind {
    kNoConnection,  ///< no such host, or nobody listens there
    kUntrusted,     ///< a certificate that is not to be trusted, or one that cannot be checked
    kBroken         ///< anything that another try may mend
  };
  HttpFailure(Kind kind, const std::string& text) : std::runtime_error(text), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

/// Connections that are kept between requests. For one thread at a time.
class HttpSession {
 public:
  HttpSession();
  ~HttpSession();
  HttpSession(const HttpSession&) = delete;
  HttpSession& operator=(const HttpSession&) = delete;

  /// Is shown the pieces of the body of a status 200 or 206, with its headers. What it throws ends the
  /// request. Other bodies are passed over, and not waited for: no more than 64 KiB, nor longer than
  /// `silence`.
  using Sink = std::function<void(const HttpAnswer&, std::string_view)>;

  /// Throws HttpFailure; util::interrupted_error() where a signal has come; and an input error where a
  /// variable names a file of certificates that is not there. Proxies are libcurl's: http_proxy, https_proxy,
  /// no_proxy. Certificates: SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_DIR, or the
  /// system's. `stop`, where there is one, is asked now and then whether to give up (HttpFailure, kBroken).
  HttpAnswer perform(const HttpRequest& request, const Sink& sink, const std::function<bool()>& stop = {});

 private:
  void* handle_;  // CURL
};

/// Addresses. Each is "" where `url` is none.
/// "https://huggingface.co:443": scheme, host and port.
std::string origin_of(const std::string& url);
/// What a `Location` of the answer to `url` leads to.
std::string resolve_location(const std::string& url, const std::string& location);
/// For messages: without a query, which may hold a signature, and without a user's name and password.
std::string shown_address(const std::string& url);

/// Bytes other than letters, digits, "-._~" and those of `kept` as %XX.
std::string percent_encoded(std::string_view text, std::string_view kept = "");

}  // namespace depthlens::io
