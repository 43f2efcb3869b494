// Names on the Hugging Face hub: repositories, revisions, files. What comes from a flag, a file or the
// network is checked here before it becomes part of a path or of an address.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace depthlens::io {

enum class RepositoryType { kModel, kDataset, kSpace };

struct Repository {
  RepositoryType type = RepositoryType::kModel;
  std::string name = {};  ///< ORG/NAME or NAME

  /// "models--ORG--NAME": its folder in the cache.
  std::string folder_name() const;
  /// "", "datasets/" or "spaces/": what stands before the name in an address.
  std::string address_prefix() const;
};

/// ORG/NAME[@REVISION] as it is written in a flag.
struct HubId {
  std::string name;
  std::string revision = "main";  ///< a branch, a tag, refs/pr/N or a commit
};

/// ORG/NAME[@REVISION]:FILE.
struct HubFileId {
  HubId id;
  std::string file;  ///< relative to the repository
};

/// Throw a usage error for what could name something outside the cache, or nothing at all.
HubId parse_hub_id(const std::string& text);
HubFileId parse_hub_file_id(const std::string& text);

/// As the hub allows it: at most one '/', and in each part no leading or trailing '-' or '.', no "--", no
/// "..".
bool is_valid_repository_name(std::string_view name);
bool is_valid_revision(std::string_view revision);
/// 40 hex digits.
bool is_commit(std::string_view text);
/// A path that stays below the folder that it is put in, whatever system reads it: relative, no "..", no
/// backslash, no drive, no control characters.
bool is_valid_hub_path(std::string_view path);

/// "./x", "/x", "../x", "~/x" and "a/b/c" are paths whether or not they exist; "a/b" may be an id.
bool looks_like_path(const std::string& text);

/// The name as given, then others under which the same repository is or was known.
std::vector<std::string> with_aliases(const std::string& name);

}  // namespace depthlens::io
