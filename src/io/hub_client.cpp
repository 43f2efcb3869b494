// Requests to the hub: redirects, tries, refusals in words. Facts about the protocol: docs/hub.md.
#include "depthlens/io/hub_client.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>
#include <thread>
#include <utility>

#include "depthlens/util/files.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "depthlens/util/version.hpp"
#include "hub_environment.hpp"

namespace depthlens::io {
namespace {

using std::chrono::milliseconds;
using util::cat;
using util::in_quotes;

constexpr int kMaxTries = 5;
constexpr int kMaxRedirects = 20;
constexpr std::size_t kMaxJson = std::size_t{64} << 20;  // bytes of all pages of a list
constexpr std::size_t kMaxPages = 1000;
constexpr std::int64_t kMaxWait = 300;  // pauses that the hub may ask for

/// An answer that cannot be joined to what is there already.
struct StartOver {
  std::string why;
};

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/// A list that is longer than anybody's.
struct TooLong {};

/// Statuses after which another try may have another answer.
bool may_pass(int status) {
  constexpr std::array<int, 6> kAll = {408, 429, 500, 502, 503, 504};
  return std::find(kAll.begin(), kAll.end(), status) != kAll.end();
}

/// The bare value of an ETag: without the mark of a weak one, and without quotes.
std::string bare_etag(std::string etag) {
  if (etag.rfind("W/", 0) == 0) etag.erase(0, 2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') etag = etag.substr(1, etag.size() - 2);
  return etag;
}

bool is_hash(const std::string& text) {
  return (text.size() == 40 || text.size() == 64) &&
         text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::optional<std::uint64_t> parse_size(const std::string& text) {
  std::int64_t size = 0;
  if (!util::parse_int(text, size) || size < 0) return std::nullopt;
  return static_cast<std::uint64_t>(size);
}

/// Where a part of a header's value ends that begins at `at`: at that sign, or at the end. In quotes it is
/// none.
std::size_t end_of_part(std::string_view text, std::size_t at, char sign) {
  for (bool quoted = false; at < text.size() && (quoted || text[at] != sign); ++at)
    quoted = quoted != (text[at] == '"');
  return at;
}

/// What follows `name=` in a header's value (`what; name="value"; …`), without its quotes; "" where nothing
/// does.
std::string parameter_of(std::string_view value, std::string_view name) {
  for (std::size_t at = 0, end = 0; at < value.size(); at = end + 1) {
    end = end_of_part(value, at, ';');
    const std::string_view part = value.substr(at, end - at);
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) continue;
    if (util::lower_case(util::trimmed(part.substr(0, equals))) != name) continue;
    std::string found(util::trimmed(part.substr(equals + 1)));
    std::erase(found, '"');
    return found;
  }
  return {};
}

/// How long the hub asks to wait; nothing where it does not say.
std::optional<std::int64_t> asked_wait(const HttpAnswer& answer) {
  constexpr std::int64_t kMax = std::int64_t{1} << 32;
  std::int64_t seconds = 0;
  if (util::parse_int(answer.header("retry-after"), seconds) && seconds >= 0) return seconds;
  std::optional<std::int64_t> longest;  // of several policies
  const std::string limits = answer.header("ratelimit");
  for (std::size_t at = 0, end = 0; at < limits.size(); at = end + 1) {
    end = end_of_part(limits, at, ',');
    const std::string left = parameter_of(std::string_view(limits).substr(at, end - at), "t");
    if (util::parse_int(left, seconds) && seconds >= 0)
      longest = std::max(longest.value_or(0), std::min(seconds, kMax) + 1);
  }
  return longest;
}

/// The address of the next page in a Link header (RFC 8288); "" where this is the last.
std::string next_page(const std::string& link) {
  for (std::size_t at = 0; (at = link.find('<', at)) != std::string::npos;) {
    const std::size_t end = link.find('>', at);
    if (end == std::string::npos) break;
    const std::size_t after = end_of_part(link, end + 1, ',');  // where the next link begins
    const std::string_view parameters = std::string_view(link).substr(end + 1, after - end - 1);
    const std::vector<std::string> relations =
        util::split(util::lower_case(parameter_of(parameters, "rel")), ' ');
    if (std::find(relations.begin(), relations.end(), "next") != relations.end())
      return link.substr(at + 1, end - at - 1);
    at = after;
  }
  return {};
}

bool is_main_hub(const std::string& origin) {
  return origin == "https://huggingface.co:443" || origin == "https://hf.co:443";
}

/// What a list says of one file. Its hash is "" where that is not told as it should be: as that of a large
/// file, some tell the hash of a placeholder.
HubFile listed_file(const util::JsonView& entry, const std::string& commit) {
  constexpr std::int64_t kMax = std::int64_t{1} << 60;
  HubFile file{.path = entry.at("path").as_string(), .commit = commit};
  const bool large = entry.has("lfs") && entry.at("lfs").is_object();
  const util::JsonView content = large ? entry.at("lfs") : entry;
  if (!content.has("oid") || !content.has("size")) return file;
  std::string hash = util::lower_case(content.at("oid").as_string());
  if (hash.starts_with("sha256:")) hash.erase(0, 7);
  constexpr std::array<std::string_view, 4> kLarge = {".safetensors", ".bin", ".pt", ".model"};
  const bool by_name = std::any_of(kLarge.begin(), kLarge.end(),
                                   [&](std::string_view end) { return file.path.ends_with(end); });
  if (!is_hash(hash) || (hash.size() == 40 && (large || by_name))) return file;
  file.etag = hash;
  file.size = static_cast<std::uint64_t>(content.at("size").as_integer(0, kMax));
  return file;
}

const char* service_of(RepositoryType type) {
  return type == RepositoryType::kModel ? "models" : type == RepositoryType::kDataset ? "datasets" : "spaces";
}

std::chrono::seconds read_seconds(const char* name) {
  constexpr std::int64_t kDefault = 10, kMax = 86400;
  const std::string text(util::trimmed(hub_variable(name)));
  std::int64_t seconds = kDefault;
  if (!text.empty() && (!util::parse_int(text, seconds) || seconds < 0 || seconds > kMax)) {
    throw util::usage_error({.what = "unusable timeout",
                             .where = name,
                             .expected = cat("seconds from 1 to ", kMax, ", or 0 for the default"),
                             .found = in_quotes(text)});
  }
  return std::chrono::seconds(seconds > 0 ? seconds : kDefault);
}

void read_token(HubClientSettings& settings) {
  if (is_hub_switch_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return;
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
    settings.token = std::string(util::trimmed(hub_variable(name)));
    settings.token_source = name;
    if (!settings.token.empty()) break;
  }
  if (settings.token.empty()) {
    const std::filesystem::path file = hub_token_file();
    std::error_code ignored;
    if (file.empty() || !std::filesystem::is_regular_file(file, ignored)) return;
    constexpr std::uint64_t kMax = 64 << 10;
    settings.token = std::string(util::trimmed(util::read_file(file, kMax)));
    settings.token_source = file.string();
  }
  const bool plain = std::all_of(settings.token.begin(), settings.token.end(), [](char c) {
    return c > 0x20 && c < 0x7f;  // nothing that would end the line of the header
  });
  if (!plain) {
    throw util::usage_error({.what = "no token of the hub",
                             .where = settings.token_source,
                             .expected = "one word, such as hf_…"});
  }
}

}  // namespace

std::string HubClientSettings::told(std::string_view text) const {
  constexpr std::size_t kMax = 500;
  std::string shown(text);
  if (!token.empty()) {
    for (const std::string& secret : {token, percent_encoded(token)}) {
      for (std::size_t at = 0; (at = shown.find(secret, at)) != std::string::npos;)
        shown.replace(at, secret.size(), "…");
    }
  }
  if (shown.size() > kMax) shown = std::string(util::cut_utf8(shown, kMax)) + "…";
  return util::printable(shown);
}

util::Error HubClientSettings::without_token(const util::Error& error) const {
  util::ErrorText text = error.text();
  if (!token.empty()) {
    for (std::string* part : {&text.what, &text.where, &text.expected, &text.found, &text.hint}) {
      if (part->find(token) != std::string::npos || part->find(percent_encoded(token)) != std::string::npos)
        *part = told(*part);
    }
  }
  return {error.code(), text};
}

HubClientSettings read_hub_client_settings() {
  HubClientSettings settings;
  read_token(settings);
  std::string endpoint = hub_variable("HF_ENDPOINT");
  while (!endpoint.empty() && endpoint.back() == '/') endpoint.pop_back();
  if (!endpoint.empty()) {
    const std::string origin = origin_of(endpoint);
    const std::size_t scheme = endpoint.find("://");
    const bool http =
        (origin.starts_with("http://") || origin.starts_with("https://")) && scheme != std::string::npos;
    if (!http || endpoint.find_first_of("?# \t\r\n") != std::string::npos) {
      std::string shown = endpoint;
      if (const std::size_t at = shown.rfind('@'); at != std::string::npos) shown = "…" + shown.substr(at);
      shown.resize(std::min(shown.size(), shown.find_first_of("?#")));
      throw util::usage_error({.what = "no address of a hub",
                               .where = "HF_ENDPOINT",
                               .expected = "https://HOST",
                               .found = in_quotes(settings.told(shown))});
    }
    settings.endpoint = util::lower_case(endpoint.substr(0, scheme)) + endpoint.substr(scheme);
  }
  settings.metadata_silence = read_seconds("HF_HUB_ETAG_TIMEOUT");
  settings.data_silence = read_seconds("HF_HUB_DOWNLOAD_TIMEOUT");
  return settings;
}

HubClient::HubClient(HubClientSettings settings, std::function<bool()> stop)
    : settings_(std::move(settings)), origin_(origin_of(settings_.endpoint)), stop_(std::move(stop)) {}

std::string HubClient::file_address(const Repository& repository, const std::string& revision,
                                    const std::string& path) const {
  return settings_.endpoint + "/" + repository.address_prefix() + repository.name + "/resolve/" +
         percent_encoded(revision) + "/" + percent_encoded(path, "/");
}

bool HubClient::gets_token(const std::string& origin) const {
  return !origin.empty() && (origin == origin_ || (is_main_hub(origin) && is_main_hub(origin_)));
}

bool HubClient::is_hub(const std::string& origin) const {
  return !origin.empty() && (origin == origin_ || is_main_hub(origin));
}

HubClient::Reached HubClient::reach(HttpRequest request, const HttpSession::Sink& sink,
                                    AtOtherHost at_other_host) {
  const std::vector<std::string> plain = request.headers;
  Reached reached;
  for (int redirects = 0;; ++redirects) {
    request.headers = plain;
    request.headers.emplace_back("User-Agent: depthlens/" DEPTHLENS_VERSION);
    const std::string here = origin_of(request.url);
    if (gets_token(here) && !settings_.token.empty())
      request.headers.push_back("Authorization: Bearer " + settings_.token);
    reached.answer = session_.perform(request, sink, stop_);
    reached.url = request.url;
    const HttpAnswer& answer = reached.answer;
    util::log_detail(cat(request.method, " ", shown(request.url), ": ", answer.status));
    const auto take = [&](std::string& kept, const std::string& told) {
      if (!told.empty()) kept = told;
    };
    take(reached.commit, answer.header("x-repo-commit"));
    take(reached.etag, answer.header("x-linked-etag"));
    take(reached.size, answer.header("x-linked-size"));
    if (is_hub(here) && !answer.header("x-hf-warning").empty())
      util::log_warning("the hub warns: " + settings_.told(answer.header("x-hf-warning")));

    const std::string location = answer.header("location");
    if (!is_redirect(answer.status) || location.empty()) return reached;
    const std::string next = resolve_location(request.url, location);
    if (next.empty() || redirects == kMaxRedirects) {
      throw HttpFailure(HttpFailure::Kind::kBroken, next.empty()
                                                        ? "a redirect to no address"
                                                        : cat("more than ", kMaxRedirects, " redirects"));
    }
    const std::string origin = origin_of(next);
    if (here.starts_with("https://") && !origin.starts_with("https://")) {
      throw util::input_error({.what = "a redirect from https to " + shown(next) + " is not followed",
                               .where = shown(request.url),
                               .hint = "something on the way may have answered in the hub's place"});
    }
    const bool other = origin != here && !is_hub(origin);
    const bool tells = !reached.etag.empty() || !answer.header("etag").empty();
    if (other && tells && at_other_host == AtOtherHost::kStop) return reached;
    request.url = next;
  }
}

void HubClient::sleep(milliseconds time) {
  constexpr milliseconds kStep(50);
  const auto end = std::chrono::steady_clock::now() + time;
  for (auto now = std::chrono::steady_clock::now(); now < end; now = std::chrono::steady_clock::now()) {
    if (util::interrupted()) throw util::interrupted_error();
    if (stop_ && stop_()) return;
    std::this_thread::sleep_for(
        std::min(kStep, std::chrono::duration_cast<milliseconds>(end - now) + milliseconds(1)));
  }
}

void HubClient::pause_after(int failures, const HttpAnswer& answer, const std::string& address) {
  if (answer.status == 0) return sleep(settings_.pause);
  const auto wait = asked_wait(answer);
  if (!wait) return sleep(settings_.pause * (1 << std::min(failures - 1, 10)));
  if (*wait > kMaxWait) {
    throw HubUnreachable(util::ErrorCode::kInput,
                         {.what = "the hub asks for a long pause",
                          .where = shown(address),
                          .expected = cat("at most ", kMaxWait, " s"),
                          .found = cat(*wait, " s"),
                          .hint = settings_.token.empty() ? "with a token (HF_TOKEN) its limits are higher"
                                                          : "run the command again later"});
  }
  if (*wait > 0) util::log_info(cat("the hub asks for a pause of ", *wait, " s"));
  sleep(settings_.pause * *wait);
}

HubUnreachable HubClient::unreachable(const std::string& address, const HttpFailure& failure) const {
  const bool certificate = failure.kind() == HttpFailure::Kind::kUntrusted;
  const std::string why = failure.what();
  const bool proxy = why.find("407") != std::string::npos && why.find("proxy") != std::string::npos;
  return HubUnreachable(
      util::ErrorCode::kInput,
      {.what = certificate ? "the hub cannot be trusted" : "the hub cannot be reached",
       .where = shown(address),
       .found = settings_.told(why),
       .hint = certificate ? "SSL_CERT_FILE names a file of certificates to trust in place of the system's"
               : proxy     ? "the proxy asks for a name and a password: https_proxy=http://NAME:PASSWORD@HOST"
                       : "behind a proxy set https_proxy; HF_ENDPOINT names another hub; without a network "
                         "copy the cache from a machine that has one (docs/hub.md)"});
}

HubClient::Reached HubClient::ask(const HttpRequest& request, const HttpSession::Sink& sink,
                                  AtOtherHost at_other_host) {
  for (int failures = 0;;) {
    HttpAnswer answer;
    try {
      Reached reached = reach(request, sink, at_other_host);
      answered_ = true;
      answer = reached.answer;
      if (!may_pass(answer.status) || ++failures == kMaxTries) return reached;
    } catch (const HttpFailure& failure) {
      // Where nobody has ever answered, there is most likely no network.
      const bool alone = failure.kind() == HttpFailure::Kind::kNoConnection && !answered_;
      const bool hopeless = failure.kind() == HttpFailure::Kind::kUntrusted || (stop_ && stop_());
      if (hopeless || ++failures >= (alone ? 2 : kMaxTries)) throw unreachable(request.url, failure);
      util::log_detail(cat(shown(request.url), ": ", settings_.told(failure.what()), "; once more"));
    }
    pause_after(failures, answer, request.url);
  }
}

util::Error HubClient::refusal(const Reached& reached, const Repository& repository,
                               const std::string& revision, const std::string& path) const {
  const HttpAnswer& answer = reached.answer;
  const std::string page = settings_.endpoint + "/" + repository.address_prefix() + repository.name;
  const std::string code = answer.header("x-error-code");
  std::string told = answer.header("x-error-message");
  if (const std::string request = answer.header("x-request-id"); !request.empty())
    told += cat(told.empty() ? "" : " ", "(request ", request, ")");
  told = settings_.told(told);
  const bool has_token = !settings_.token.empty();
  const std::string status = cat("status ", answer.status);
  util::ErrorText text{.where = shown(page), .found = told.empty() ? status : cat(status, ": ", told)};

  if (answer.status == 407) {
    text.what = "the proxy asks for a name and a password";
    text.where = shown(reached.url);
    text.hint = "https_proxy or http_proxy=http://NAME:PASSWORD@HOST";
  } else if (code.empty() && !is_hub(origin_of(reached.url))) {
    text.what = cat("the server that the hub names for ", in_quotes(path), " does not give it");
    text.where = shown(reached.url);
    text.hint = "this is not the hub's own answer: run the command again later";
  } else if (code == "GatedRepo") {
    text.what = cat(in_quotes(repository.name), " is given to those who have accepted its terms");
    text.hint =
        has_token ? cat("accept them on that page, as the account whose token is in ", settings_.token_source)
                  : "accept them on that page, make a token in the settings of your account, and set "
                    "HF_TOKEN to it";
  } else if (told.find("disabled") != std::string::npos && answer.status == 403) {
    text.what = cat("the hub has disabled ", in_quotes(repository.name));
  } else if (has_token && answer.status == 401 && code != "RepoNotFound") {
    text.what = "the hub does not accept the token";
    text.where = settings_.token_source;
    text.hint = "make a new one, or unset it where the repository is public";
  } else if (code == "RevisionNotFound") {
    text.what = cat(in_quotes(repository.name), " has no revision ", in_quotes(revision));
    text.expected = "a branch, a tag or a commit";
  } else if (code == "EntryNotFound") {
    text.what = cat(in_quotes(repository.name), " has no file ", in_quotes(path));
    text.where += "/tree/" + revision;
  } else if (answer.status == 401 || answer.status == 404 ||
             (answer.status == 403 && code == "RepoNotFound")) {
    text.what = cat("no repository ", in_quotes(repository.name), " on the hub, or a private one");
    text.hint = has_token ? cat("check the spelling, and what the token in ", settings_.token_source,
                                " has access to")
                          : "check the spelling; for a private one set HF_TOKEN";
  } else {
    text.what = "the hub does not give " + in_quotes(path.empty() ? repository.name : path);
  }
  return util::input_error(std::move(text));
}

HubClient::Lookup HubClient::look_up(const Repository& repository, const std::string& revision,
                                     const std::string& path) {
  const HttpRequest request{.method = "HEAD",
                            .url = file_address(repository, revision, path),
                            .silence = settings_.metadata_silence};
  const Reached reached = ask(request, {}, AtOtherHost::kStop);
  const HttpAnswer& answer = reached.answer;
  const bool known_commit = is_commit(reached.commit);
  if (answer.status == 404) {
    const std::string code = answer.header("x-error-code");
    if (code == "EntryNotFound" || (code.empty() && is_commit(answer.header("x-repo-commit"))))
      return {.file = std::nullopt, .commit = known_commit ? reached.commit : ""};
  }
  if (may_pass(answer.status))
    throw HubUnreachable(util::ErrorCode::kInput, refusal(reached, repository, revision, path).text());
  if (answer.status >= 400) throw refusal(reached, repository, revision, path);

  const bool stopped = is_redirect(answer.status);
  HubFile file{.path = path,
               .commit = reached.commit,
               .etag = bare_etag(!reached.etag.empty() ? reached.etag : answer.header("etag")),
               .size = parse_size(reached.size)};
  // 0 is also what some say of an answer without a body.
  if (const std::string length = answer.header("content-length");
      reached.size.empty() && !stopped && !answer.is_encoded() && length != "0")
    file.size = parse_size(length);
  const auto no_hub = [&](const std::string& expected, const std::string& found) {
    return util::input_error(
        {.what = "this is no answer of a Hugging Face hub",
         .where = shown(request.url),
         .expected = expected,
         .found = settings_.told(found),
         .hint = "a proxy may have answered in its place, or HF_ENDPOINT names something else"});
  };
  if (!known_commit) {
    const std::string type = answer.header("content-type");
    throw no_hub("the header X-Repo-Commit",
                 cat("status ", answer.status, type.empty() ? "" : ", ", type.substr(0, 60)));
  }
  if (is_commit(revision) && file.commit != revision)
    throw no_hub(cat("commit ", revision), cat("commit ", file.commit));
  if (!is_hash(file.etag)) {
    throw no_hub("an ETag that is a SHA-256 or a git SHA-1, so that the content can be checked",
                 file.etag.empty() ? "none" : in_quotes(file.etag));
  }
  return {.file = std::move(file), .commit = reached.commit};
}

std::optional<std::string> HubClient::get_json(const std::string& address, std::size_t most,
                                               HttpAnswer& answer) {
  std::string body;
  const auto take = [&](const HttpAnswer&, std::string_view bytes) {
    if (body.size() + bytes.size() > most) throw TooLong();
    body.append(bytes);
  };
  try {
    answer = ask({.url = address, .silence = settings_.metadata_silence}, take, AtOtherHost::kGoOn).answer;
  } catch (const TooLong&) {
    return std::nullopt;
  }
  return body;
}

std::optional<std::vector<HubFile>> HubClient::list(const Repository& repository, const std::string& commit,
                                                    const std::string& folder, bool recursive) {
  std::string address =
      cat(settings_.endpoint, "/api/", service_of(repository.type), "/", repository.name, "/tree/",
          percent_encoded(commit), folder.empty() ? "" : "/", percent_encoded(folder, "/"),
          "?recursive=", recursive ? "true" : "false", "&expand=false");
  const auto none = [&](const std::string& why) {
    util::log_detail(settings_.told(cat("no list of files of ", repository.name, ": ", why)));
    return std::nullopt;
  };
  std::vector<HubFile> files;
  std::set<std::string> seen;
  std::size_t bytes = 0;
  while (true) {
    if (seen.size() == kMaxPages || !seen.insert(address).second || origin_of(address) != origin_)
      return none("it goes on at " + shown_address(address));
    HttpAnswer answer;
    const auto body = get_json(address, kMaxJson - bytes, answer);
    if (!body) return none("longer than 64 MiB");
    if (answer.status == 404 && !folder.empty() && answer.header("x-error-code") == "EntryNotFound")
      return files;
    if (answer.status != 200) return none(cat("status ", answer.status));
    bytes += body->size();
    try {
      const util::Json document = util::parse_json(*body, shown_address(address));
      const util::JsonView entries(document, shown_address(address));
      if (!entries.is_array()) return none("another answer");
      for (std::size_t i = 0; i < entries.size(); ++i) {
        const util::JsonView entry = entries.at(i);
        if (entry.at("type").as_string() != "file") continue;
        HubFile file = listed_file(entry, commit);
        if (is_valid_hub_path(file.path)) {
          files.push_back(std::move(file));
        } else {
          util::log_detail(
              settings_.told(cat("passed over in ", repository.name, ": ", in_quotes(file.path))));
        }
      }
    } catch (const util::Error& error) {
      return none(error.what());
    }
    const std::string next = next_page(answer.header("link"));
    if (next.empty()) return files;
    address = resolve_location(address, next);
  }
}

void HubClient::fetch(const Repository& repository, const HubFile& file, HubSink& sink) {
  HttpRequest request{.url = file_address(repository, file.commit, file.path),
                      .silence = settings_.data_silence};
  int failures = 0, starts = 0;
  bool asked_anew = false;
  std::uint64_t furthest = sink.size();  // what goes no further than before is no progress
  while (!file.size || sink.size() != *file.size || (starts == 0 && *file.size == 0)) {
    ++starts;
    request.from = sink.size();
    bool begun = false;
    const auto begin = [&](const HttpAnswer& answer) {
      if (begun) return;
      begun = true;
      if (request.from == 0) return;
      if (answer.status == 200) return sink.restart();
      if (answer.is_encoded()) throw StartOver{"a compressed part of a file"};
      const std::string range = answer.header("content-range");
      const std::string expected = cat("bytes ", request.from, "-");
      if (!range.empty() && range.rfind(expected, 0) != 0)
        throw StartOver{cat("another part than asked for: ", in_quotes(settings_.told(range)))};
    };
    Reached reached;
    HttpAnswer& answer = reached.answer;
    std::string why;
    try {
      reached = reach(
          request,
          [&](const HttpAnswer& head, std::string_view bytes) {
            begin(head);
            if (file.size && sink.size() + bytes.size() > *file.size)
              throw StartOver{cat("more than the ", *file.size, " bytes that the hub has announced")};
            sink.write(bytes);
          },
          AtOtherHost::kGoOn);
      answered_ = true;
      if (answer.status == 200 || answer.status == 206) {
        begin(answer);
        if (!file.size || sink.size() == *file.size) return;
        why = cat("the connection ended after ", sink.size(), " of ", *file.size, " bytes");
        answer.status = 0;
      } else if (answer.status == 416) {
        if (request.from > 0 && answer.header("content-range") == cat("bytes */", request.from) && !file.size)
          return;
        throw StartOver{"no such part"};
      } else if (may_pass(answer.status)) {
        why = cat("status ", answer.status);
      } else if (!is_hub(origin_of(reached.url)) && !asked_anew) {
        asked_anew = true;  // the hub, for another address: signatures expire
        why = cat("status ", answer.status, " of ", shown(reached.url));
      } else {
        throw refusal(reached, repository, file.commit, file.path);
      }
    } catch (const HttpFailure& failure) {
      if (failure.kind() == HttpFailure::Kind::kUntrusted || (stop_ && stop_()))
        throw unreachable(request.url, failure);
      why = settings_.told(failure.what());
      answer = {};
    } catch (const StartOver& reason) {
      sink.restart();
      why = reason.why;
      answer = {};
    }
    failures = sink.size() > furthest ? 1 : failures + 1;
    furthest = std::max(furthest, sink.size());
    util::log_detail(cat(shown(request.url), ": ", why, "; try ", failures, " of ", kMaxTries));
    if (failures >= kMaxTries) {
      if (answer.status != 0) throw refusal(reached, repository, file.commit, file.path);
      throw HubUnreachable(
          util::ErrorCode::kInput,
          {.what = cat("the hub does not give ", in_quotes(file.path), " whole"),
           .where = shown(request.url),
           .found = cat(why, ", after ", kMaxTries, " tries that got no further"),
           .hint = sink.size() > 0 ? "what has come so far is kept: the same command goes on from it"
                                   : "run the command again later"});
    }
    pause_after(failures, answer, request.url);
  }
}

}  // namespace depthlens::io
