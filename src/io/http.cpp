// Requests through libcurl.
#include "depthlens/io/http.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>
#include <optional>

#include "depthlens/util/error.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::io {
namespace {

namespace fs = std::filesystem;

void begin_libcurl() {
  static const CURLcode begun = curl_global_init(CURL_GLOBAL_DEFAULT);
  DEPTHLENS_ASSERT(begun == CURLE_OK);
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

/// Where the certificates of those whom this machine trusts stand.
struct Authorities {
  std::string file;
  std::string folder;
};

Authorities find_authorities() {
  std::error_code ignored;
  for (const char* name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}) {
    const std::string place = environment(name);
    if (place.empty()) continue;
    if (fs::is_directory(place, ignored)) return {.file = "", .folder = place};
    if (fs::is_regular_file(place, ignored)) return {.file = place, .folder = ""};
    throw util::input_error({.what = "no certificates",
                             .where = name,
                             .expected = "a file, or a folder",
                             .found = util::in_quotes(place)});
  }
  if (const std::string folder = environment("SSL_CERT_DIR"); fs::is_directory(folder, ignored))
    return {.file = "", .folder = folder};
  const curl_version_info_data* built = curl_version_info(CURLVERSION_NOW);
  if (built->age >= CURLVERSION_SEVENTH) {
    if (built->cainfo != nullptr && fs::exists(built->cainfo, ignored)) return {};
    if (built->capath != nullptr && fs::exists(built->capath, ignored)) return {};
  }
  for (const char* place :
       {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"}) {
    if (fs::is_regular_file(place, ignored)) return {.file = place, .folder = ""};
  }
  return {};
}

/// Whether a message of libcurl may hold the name and password for a proxy, which are a part of its address.
bool may_tell_of_proxy(const std::string& message) {
  const bool of_proxy =
      util::lower_case(message).find("proxy") != std::string::npos || message.find('@') != std::string::npos;
  constexpr std::array<const char*, 5> kVariables = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                                     "ALL_PROXY"};
  return of_proxy && std::any_of(kVariables.begin(), kVariables.end(), [](const char* name) {
           return environment(name).find('@') != std::string::npos;
         });
}

/// What the callbacks of one request work on. They must not throw: libcurl is C.
struct Transfer {
  const HttpSession::Sink* sink;
  const std::function<bool()>* stop;
  std::chrono::seconds patience;
  HttpAnswer answer = {};
  bool stopped = false, enough = false;
  std::size_t aside = 0;  // bytes of a body that nobody reads
  std::chrono::steady_clock::time_point head_came = {};

  /// Of an answer that is no content the head is what counts.
  bool is_content() const { return answer.status == 200 || answer.status == 206; }
  std::exception_ptr error = nullptr;
};

constexpr std::size_t kMaxHeaders = 1000;

/// Takes a line of the head. Of several heads (100, then 200) the last counts.
std::size_t take_header(const char* bytes, std::size_t size, std::size_t count, void* context) {
  const std::size_t length = size * count;
  auto& transfer = *static_cast<Transfer*>(context);
  try {
    const std::string_view line = util::trimmed(std::string_view(bytes, length));
    if (line.rfind("HTTP/", 0) == 0) {
      transfer.answer = {};
      transfer.head_came = std::chrono::steady_clock::now();
      const std::size_t space = line.find(' ');
      std::int64_t status = 0;
      if (space != std::string_view::npos && util::parse_int(line.substr(space + 1, 3), status))
        transfer.answer.status = static_cast<int>(status);
      return length;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || transfer.answer.headers.size() >= kMaxHeaders) return length;
    const std::string name = util::lower_case(line.substr(0, colon));
    const std::string_view value = util::trimmed(line.substr(colon + 1));
    std::string& known = transfer.answer.headers[name];
    if (name == "link" && !known.empty()) {
      known.append(", ").append(value);  // a list, which may come in pieces
    } else {
      known = value;
    }
  } catch (...) {
    transfer.error = std::current_exception();
    return 0;
  }
  return length;
}

std::size_t take_body(const char* bytes, std::size_t size, std::size_t count, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  constexpr std::size_t kMaxAside = std::size_t{64} << 10;
  if (!transfer.is_content()) {
    transfer.aside += size * count;
    transfer.enough = transfer.aside > kMaxAside;
    return transfer.enough ? 0 : size * count;
  }
  try {
    if (*transfer.sink) (*transfer.sink)(transfer.answer, {bytes, size * count});
  } catch (...) {
    transfer.error = std::current_exception();
    return 0;
  }
  return size * count;
}

int look_around(void* context, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& transfer = *static_cast<Transfer*>(context);
  transfer.stopped = util::interrupted() || (*transfer.stop && (*transfer.stop)());
  if (transfer.aside > 0 && std::chrono::steady_clock::now() - transfer.head_came > transfer.patience)
    transfer.enough = true;
  return transfer.stopped || transfer.enough ? 1 : 0;
}

HttpFailure::Kind kind_of(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
      return HttpFailure::Kind::kNoConnection;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CERTPROBLEM:
      return HttpFailure::Kind::kUntrusted;
    default:
      return HttpFailure::Kind::kBroken;
  }
}

class Address {
 public:
  explicit Address(const std::string& url) : handle_(curl_url()) {
    if (handle_ == nullptr) throw std::bad_alloc();
    valid_ = follow(url);
  }
  ~Address() { curl_url_cleanup(handle_); }
  Address(const Address&) = delete;
  Address& operator=(const Address&) = delete;

  /// Goes where `reference` leads from here.
  bool follow(const std::string& reference) {
    return curl_url_set(handle_, CURLUPART_URL, reference.c_str(), 0) == CURLUE_OK;
  }
  void remove(CURLUPart part) { curl_url_set(handle_, part, nullptr, 0); }
  bool valid() const { return valid_; }
  std::string part(CURLUPart part, unsigned int flags = 0) const {
    char* text = nullptr;
    if (curl_url_get(handle_, part, &text, flags) != CURLUE_OK) return {};
    std::string result = text;
    curl_free(text);
    return result;
  }

 private:
  CURLU* handle_;
  bool valid_ = false;
};

}  // namespace

std::string HttpAnswer::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string() : found->second;
}

bool HttpAnswer::is_encoded() const {
  const std::string encoding = util::lower_case(header("content-encoding"));
  return !encoding.empty() && encoding != "identity";
}

HttpSession::HttpSession() {
  begin_libcurl();
  handle_ = curl_easy_init();
  if (handle_ == nullptr) throw std::bad_alloc();
}

HttpSession::~HttpSession() {
  curl_easy_cleanup(handle_);
}

HttpAnswer HttpSession::perform(const HttpRequest& request, const Sink& sink,
                                const std::function<bool()>& stop) {
  CURL* handle = handle_;
  curl_easy_reset(handle);  // connections stay
  Transfer transfer{.sink = &sink, .stop = &stop, .patience = request.silence};
  std::array<char, CURL_ERROR_SIZE> reason = {};
  const auto set = [&](CURLoption option, auto value) {
    DEPTHLENS_ASSERT(curl_easy_setopt(handle, option, value) == CURLE_OK);
  };
  set(CURLOPT_URL, request.url.c_str());
#if LIBCURL_VERSION_NUM >= 0x075500
  set(CURLOPT_PROTOCOLS_STR, "http,https");
#else
  set(CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_ERRORBUFFER, reason.data());
  if (request.method == "HEAD") set(CURLOPT_NOBODY, 1L);
  // Not CURLOPT_RESUME_FROM, with which libcurl refuses a whole file in answer to a range.
  const std::string range = util::cat(request.from, "-");
  if (request.from > 0) set(CURLOPT_RANGE, range.c_str());
  set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(request.silence.count()));
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(request.silence.count()));
  // What comes compressed all the same is unfolded; the header below is what the server is asked for.
  set(CURLOPT_ACCEPT_ENCODING, "");
  const Authorities authorities = find_authorities();
  if (!authorities.file.empty()) set(CURLOPT_CAINFO, authorities.file.c_str());
  if (!authorities.folder.empty()) {
    set(CURLOPT_CAINFO, static_cast<char*>(nullptr));
    set(CURLOPT_CAPATH, authorities.folder.c_str());
  }
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set(CURLOPT_HEADERFUNCTION, take_header);
  set(CURLOPT_HEADERDATA, &transfer);
  set(CURLOPT_WRITEFUNCTION, take_body);
  set(CURLOPT_WRITEDATA, &transfer);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, look_around);
  set(CURLOPT_XFERINFODATA, &transfer);

  struct Lines {
    curl_slist* first = nullptr;
    ~Lines() { curl_slist_free_all(first); }
    void add(const std::string& line) {
      curl_slist* const longer = curl_slist_append(first, line.c_str());
      if (longer == nullptr) throw std::bad_alloc();
      first = longer;
    }
  } lines;
  lines.add("Accept-Encoding: identity");
  for (const std::string& line : request.headers) lines.add(line);
  set(CURLOPT_HTTPHEADER, lines.first);

  const CURLcode code = curl_easy_perform(handle);
  long proxy_status = 0;
  curl_easy_getinfo(handle, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
  curl_easy_reset(handle);  // nothing of this request's stays in it
  if (transfer.error) std::rethrow_exception(transfer.error);
  if (util::interrupted() && transfer.stopped) throw util::interrupted_error();
  if (code == CURLE_OK || (transfer.enough && !transfer.stopped)) return transfer.answer;
  if (proxy_status >= 400) {
    throw HttpFailure(HttpFailure::Kind::kNoConnection,
                      util::cat("the proxy answers with status ", proxy_status));
  }
  std::string why = reason[0] != '\0' ? reason.data() : curl_easy_strerror(code);
  if (may_tell_of_proxy(why)) {
    why = util::cat(curl_easy_strerror(code),
                    " (the proxy that http_proxy, https_proxy or all_proxy names; in names and passwords "
                    "signs other than letters and digits stand as %XX)");
  }
  // Where packets are dropped on the way, nobody ever says that there is no connection.
  const bool silent = code == CURLE_OPERATION_TIMEDOUT && transfer.answer.status == 0;
  throw HttpFailure(silent ? HttpFailure::Kind::kNoConnection : kind_of(code), why);
}

std::string origin_of(const std::string& url) {
  const Address address(url);
  if (!address.valid()) return {};
  return util::lower_case(address.part(CURLUPART_SCHEME) + "://" + address.part(CURLUPART_HOST) + ":" +
                          address.part(CURLUPART_PORT, CURLU_DEFAULT_PORT));
}

std::string resolve_location(const std::string& url, const std::string& location) {
  Address address(url);
  return address.valid() && address.follow(location) ? address.part(CURLUPART_URL) : std::string();
}

std::string shown_address(const std::string& url) {
  Address address(url);
  if (!address.valid()) return {};
  for (const CURLUPart part : {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY, CURLUPART_FRAGMENT})
    address.remove(part);
  return address.part(CURLUPART_URL);
}

std::string percent_encoded(std::string_view text, std::string_view kept) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  constexpr std::string_view kPlain = "-._~";
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (byte < 0x80 && std::isalnum(byte) != 0) || kPlain.find(c) != std::string_view::npos ||
                       kept.find(c) != std::string_view::npos;
    if (plain) {
      result += c;
    } else {
      result += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return result;
}

}  // namespace depthlens::io
