// Names on the hub, and what is no such name.
#include "depthlens/io/hub_id.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::io {
namespace {

constexpr std::size_t kMaxName = 96;  // of a repository, its organization included
constexpr std::size_t kMaxRevision = 255;
constexpr std::size_t kMaxPath = 1024;

bool is_one_of(char c, std::string_view others) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         others.find(c) != std::string_view::npos;
}

bool is_valid_part(std::string_view name) {
  return !name.empty() && is_one_of(name.front(), "_") && is_one_of(name.back(), "_") &&
         std::all_of(name.begin(), name.end(), [](char c) { return is_one_of(c, "_-."); }) &&
         name.find("..") == std::string_view::npos && name.find("--") == std::string_view::npos;
}

util::Error no_id(const std::string& text, const std::string& what, const std::string& expected) {
  return util::usage_error({.what = what, .expected = expected, .found = util::in_quotes(text)});
}

HubId split_id(const std::string& text) {
  const std::size_t at = text.find('@');
  return {text.substr(0, at), at == std::string::npos ? "main" : text.substr(at + 1)};
}

bool is_valid(const HubId& id) {
  return is_valid_repository_name(id.name) && is_valid_revision(id.revision);
}

}  // namespace

std::string Repository::folder_name() const {
  std::string folder = type == RepositoryType::kModel     ? "models"
                       : type == RepositoryType::kDataset ? "datasets"
                                                          : "spaces";
  for (const std::string& part : util::split(name, '/')) folder += "--" + part;
  return folder;
}

std::string Repository::address_prefix() const {
  return type == RepositoryType::kModel ? "" : type == RepositoryType::kDataset ? "datasets/" : "spaces/";
}

bool is_valid_repository_name(std::string_view name) {
  constexpr std::string_view kGit = ".git";
  const std::vector<std::string> parts = util::split(name, '/');
  const bool git = name.size() >= kGit.size() && name.substr(name.size() - kGit.size()) == kGit;
  return name.size() <= kMaxName && parts.size() <= 2 && !git &&
         std::all_of(parts.begin(), parts.end(), is_valid_part);
}

/// As git has names of branches and tags (git-check-ref-format).
bool is_valid_revision(std::string_view revision) {
  const std::vector<std::string> parts = util::split(revision, '/');
  const bool has_sign = std::any_of(revision.begin(), revision.end(), [](char c) {
    constexpr std::string_view kRefused = " ~^:?*[\\\x7f";
    return static_cast<unsigned char>(c) < 0x20 || kRefused.find(c) != std::string_view::npos;
  });
  return revision.size() <= kMaxRevision && util::is_valid_utf8(revision) && !has_sign && revision != "@" &&
         !revision.ends_with('.') && revision.find("..") == std::string_view::npos &&
         revision.find("@{") == std::string_view::npos &&
         std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
           return !part.empty() && part.front() != '.' && !part.ends_with(".lock");
         });
}

bool is_commit(std::string_view text) {
  return text.size() == 40 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_valid_hub_path(std::string_view path) {
  const bool drive = path.size() >= 2 && path[1] == ':';
  const std::vector<std::string> parts = util::split(path, '/');
  return path.size() <= kMaxPath && !drive && util::is_valid_utf8(path) &&
         std::none_of(
             path.begin(), path.end(),
             [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\'; }) &&
         std::none_of(parts.begin(), parts.end(), [](const std::string& part) {
           return part.empty() || part == "." || part == ".." || part.size() > 255;
         });
}

HubId parse_hub_id(const std::string& text) {
  HubId id = split_id(text);
  if (!is_valid(id))
    throw no_id(text, "neither a folder nor a hub id", "a folder, ORG/NAME or ORG/NAME@REVISION");
  return id;
}

HubFileId parse_hub_file_id(const std::string& text) {
  const std::size_t colon = text.find(':');
  HubFileId result{.id = split_id(text.substr(0, colon)),
                   .file = colon == std::string::npos ? "" : text.substr(colon + 1)};
  if (!is_valid(result.id) || !is_valid_hub_path(result.file))
    throw no_id(text, "neither a file nor one on the hub", "a file, ORG/NAME:FILE or ORG/NAME@REVISION:FILE");
  return result;
}

bool looks_like_path(const std::string& text) {
  const std::string id = text.substr(0, text.find_first_of("@:"));
  return text.empty() || text == "." || text == ".." || text.rfind("./", 0) == 0 ||
         text.rfind("../", 0) == 0 || text.front() == '/' || text.front() == '~' ||
         std::count(id.begin(), id.end(), '/') > 1;
}

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

}  // namespace depthlens::io
