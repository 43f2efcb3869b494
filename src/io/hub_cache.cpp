// Names of models and lenses to folders of the local Hugging Face hub cache.
#include "depthlens/io/hub_cache.hpp"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::io {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::in_quotes;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

bool is_one_of(char c, std::string_view others) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         others.find(c) != std::string_view::npos;
}

/// `text` with ~ and ~NAME at its beginning and then $NAME and ${NAME} replaced, as huggingface_hub does with
/// Python's expanduser and expandvars, for no shell has done it where the variable comes from a file. What is
/// not known stays as it is.
std::string expanded(std::string text) {
  if (!text.empty() && text.front() == '~') {
    const std::size_t end = std::min(text.find('/'), text.size());
    const std::string user = text.substr(1, end - 1);
    std::string home = user.empty() ? environment("HOME") : std::string();
    if (home.empty()) {
      const passwd* entry = user.empty() ? ::getpwuid(::getuid()) : ::getpwnam(user.c_str());
      if (entry != nullptr) home = entry->pw_dir;
    }
    while (home.size() > 1 && home.back() == '/') home.pop_back();
    if (!home.empty()) text.replace(0, end, home);
  }
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '$') {
      const bool braced = text.compare(i, 2, "${") == 0;
      const std::size_t begin = i + (braced ? 2 : 1);
      std::size_t end = braced ? text.find('}', begin) : begin;
      while (!braced && end < text.size() && is_one_of(text[end], "_")) ++end;
      const char* value =
          end == std::string::npos ? nullptr : std::getenv(text.substr(begin, end - begin).c_str());
      if (value != nullptr) {
        result += value;
        i = end + (braced ? 1 : 0);
        continue;
      }
    }
    result += text[i++];
  }
  return result;
}

struct CacheFolder {
  fs::path path;
  bool legacy = false;  // TRANSFORMERS_CACHE
};

/// The cache folders in the order in which they are looked through.
std::vector<CacheFolder> cache_folders() {
  std::vector<CacheFolder> folders;
  constexpr std::array<std::pair<const char*, const char*>, 5> kPlaces = {
      {{"HF_HUB_CACHE", ""},
       {"HUGGINGFACE_HUB_CACHE", ""},
       {"HF_HOME", "hub"},
       {"XDG_CACHE_HOME", "huggingface/hub"},
       {"HOME", ".cache/huggingface/hub"}}};
  for (const auto& [variable, below] : kPlaces) {
    const std::string value = expanded(environment(variable));
    if (value.empty()) continue;
    folders.push_back({*below == '\0' ? fs::path(value) : fs::path(value) / below});
    break;
  }
  const std::string legacy = expanded(environment("TRANSFORMERS_CACHE"));
  if (!legacy.empty()) folders.push_back({legacy, true});
  return folders;
}

/// One part of an id, as the hub allows it: no leading or trailing '-' or '.', no "--" or "..".
bool is_valid_name(std::string_view name) {
  constexpr std::size_t kMaxLength = 96;
  return !name.empty() && name.size() <= kMaxLength && is_one_of(name.front(), "_") &&
         is_one_of(name.back(), "_") &&
         std::all_of(name.begin(), name.end(), [](char c) { return is_one_of(c, "_-."); }) &&
         name.find("..") == std::string_view::npos && name.find("--") == std::string_view::npos;
}

/// A branch, a tag, refs/pr/N or a commit.
bool is_valid_revision(std::string_view revision) {
  constexpr std::size_t kMaxLength = 255;
  const std::vector<std::string> parts = util::split(revision, '/');
  return revision.size() <= kMaxLength &&
         std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
           return !part.empty() && part.front() != '.' && part.find("..") == std::string::npos &&
                  std::all_of(part.begin(), part.end(), [](char c) { return is_one_of(c, "_-.+"); });
         });
}

bool is_commit(std::string_view text) {
  return text.size() == 40 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

struct HubId {
  std::string name;      // ORG/NAME or NAME
  std::string revision;  // "main" where none is given
};

bool is_valid_id(const std::string& name) {
  const std::vector<std::string> parts = util::split(name, '/');
  return parts.size() <= 2 && std::all_of(parts.begin(), parts.end(), is_valid_name);
}

/// Throws a usage error for what could name something outside the cache, or nothing at all.
HubId parse_id(const std::string& text) {
  const std::size_t at = text.find('@');
  const HubId id{text.substr(0, at), at == std::string::npos ? "main" : text.substr(at + 1)};
  if (!is_valid_id(id.name) || !is_valid_revision(id.revision)) {
    throw util::usage_error({.what = "neither a folder nor a hub id",
                             .expected = "a folder, ORG/NAME or ORG/NAME@REVISION",
                             .found = in_quotes(text)});
  }
  return id;
}

/// "./x", "/x", "../x", "~/x" and "a/b/c" are paths whether or not they exist; "a/b" may be an id.
bool looks_like_path(const std::string& text) {
  const std::string id = text.substr(0, text.find('@'));
  return text.empty() || text == "." || text == ".." || text.rfind("./", 0) == 0 ||
         text.rfind("../", 0) == 0 || text.front() == '/' || text.front() == '~' ||
         std::count(id.begin(), id.end(), '/') > 1;
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

/// The id as given, then the names under which the same repository is or was known.
std::vector<std::string> with_aliases(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kMoved = {
      {{"gpt2", "openai-community/gpt2"},
       {"gpt2-medium", "openai-community/gpt2-medium"},
       {"gpt2-large", "openai-community/gpt2-large"},
       {"gpt2-xl", "openai-community/gpt2-xl"},
       {"distilgpt2", "distilbert/distilgpt2"}}};
  std::vector<std::string> names = {name};
  for (const auto& [before, now] : kMoved) {
    if (name == before) names.emplace_back(now);
    if (name == now) names.emplace_back(before);
  }
  return names;
}

/// A search through the cache for a file of a repository; keeps what was looked at for the message.
struct Search {
  std::string repository_type;  // "model", "space", "dataset"
  std::vector<std::string> looked_at = {};
  std::string reason = {};  // why the best candidate did not do

  std::optional<fs::path> snapshot_with(const fs::path& cache, const std::string& name,
                                        const std::string& revision, const fs::path& file) {
    std::string folder_name = repository_type + "s";
    for (const std::string& part : util::split(name, '/')) folder_name += "--" + part;
    const fs::path repository = cache / folder_name;
    looked_at.push_back(repository.string());
    if (!is_folder(repository)) return std::nullopt;

    std::string commit = revision;
    if (!is_commit(revision)) {
      const fs::path reference = repository / "refs" / revision;
      if (!is_file(reference)) {
        reason = cat("no revision ", in_quotes(revision), " in ", repository.string());
        return std::nullopt;
      }
      constexpr std::uint64_t kMaxReference = 1024;
      commit = util::trimmed(util::read_file(reference, kMaxReference));
      if (!is_commit(commit)) {
        throw util::format_error({.what = "damaged hub cache",
                                  .where = reference.string(),
                                  .expected = "a commit of 40 hex digits",
                                  .found = in_quotes(commit)});
      }
    }
    const fs::path snapshot = repository / "snapshots" / commit;
    if (is_file(snapshot / file)) return snapshot;
    if (util::exists(repository / ".no_exist" / commit / file)) {
      reason = cat("the hub has no ", file.string(), " in this repository");
    } else {
      reason = cat("no ", file.string(), " in ", snapshot.string());
    }
    return std::nullopt;
  }
};

void warn_of_legacy(const CacheFolder& cache) {
  if (!cache.legacy) return;
  util::log_warning("found in TRANSFORMERS_CACHE, which is deprecated: set HF_HUB_CACHE=" +
                    cache.path.string());
}

std::string places(const Search& search) {
  const std::string text = util::join(search.looked_at, ", ");
  return text.empty() ? "nowhere, since neither HF_HUB_CACHE, HF_HOME nor HOME is set" : text;
}

}  // namespace

std::filesystem::path resolve_model(const std::string& path_or_id) {
  const fs::path path(path_or_id);
  if (is_file(path / "config.json")) return path;
  const bool folder = is_folder(path);
  if (looks_like_path(path_or_id)) {
    throw util::input_error({.what = folder ? "no model in the folder " + in_quotes(path_or_id)
                                            : "no folder " + in_quotes(path_or_id),
                             .expected = folder ? "config.json in it" : ""});
  }

  const HubId id = parse_id(path_or_id);
  Search search{.repository_type = "model"};
  for (const CacheFolder& cache : cache_folders()) {
    for (const std::string& name : with_aliases(id.name)) {
      if (const auto snapshot = search.snapshot_with(cache.path, name, id.revision, "config.json")) {
        warn_of_legacy(cache);
        return *snapshot;
      }
    }
  }
  if (folder) search.reason = cat("a folder ", in_quotes(path_or_id), " without config.json");
  const std::string revision = id.revision == "main" ? "" : " --revision " + id.revision;
  throw util::input_error({.what = "the model " + in_quotes(path_or_id) + " is not on this machine",
                           .where = "looked in " + places(search),
                           .found = search.reason,
                           .hint = "get it with: huggingface-cli download " + id.name + revision});
}

std::filesystem::path resolve_tuned_lens(const std::string& path_or_id) {
  std::error_code ignored;
  if (!path_or_id.empty() && fs::exists(path_or_id, ignored)) return path_or_id;
  if (looks_like_path(path_or_id)) {
    throw util::input_error({.what = "no lens at " + in_quotes(path_or_id)});
  }

  const HubId id = parse_id(path_or_id);
  std::string repository = environment("TUNED_LENS_REPO_ID");
  if (repository.empty()) repository = "AlignmentResearch/tuned-lens";
  std::string type = environment("TUNED_LENS_REPO_TYPE");
  if (type.empty()) type = "space";
  if (!is_valid_id(repository)) {
    throw util::usage_error(
        {.what = "TUNED_LENS_REPO_ID is no hub id", .expected = "ORG/NAME", .found = in_quotes(repository)});
  }
  if (type != "space" && type != "model" && type != "dataset") {
    throw util::usage_error({.what = "unknown TUNED_LENS_REPO_TYPE",
                             .expected = "space, model or dataset",
                             .found = in_quotes(type)});
  }

  Search search{.repository_type = type};
  for (const CacheFolder& cache : cache_folders()) {
    for (const std::string& name : with_aliases(id.name)) {
      const fs::path lens = fs::path("lens") / name;
      if (const auto snapshot =
              search.snapshot_with(cache.path, repository, id.revision, lens / "config.json")) {
        warn_of_legacy(cache);
        return *snapshot / lens;
      }
    }
  }
  const std::string revision = id.revision == "main" ? "" : " --revision " + id.revision;
  throw util::input_error({.what = "no tuned lens for " + in_quotes(path_or_id) + " on this machine",
                           .where = "looked in " + places(search),
                           .found = search.reason,
                           .hint = cat("get it with: huggingface-cli download ", repository, " --repo-type ",
                                       type, revision, " --include 'lens/", id.name, "/*'")});
}

std::optional<std::string> hub_commit(const std::filesystem::path& folder) {
  std::error_code ignored;
  fs::path path = fs::weakly_canonical(folder, ignored);
  for (; path.has_relative_path(); path = path.parent_path()) {
    const fs::path snapshots = path.parent_path();
    if (snapshots.filename() == "snapshots" && is_commit(path.filename().string()) &&
        snapshots.parent_path().filename().string().find("--") != std::string::npos)
      return path.filename().string();
  }
  return std::nullopt;
}

}  // namespace depthlens::io
