// What folders hold. Nothing here throws: what may not be looked into, or breaks off, holds what was seen of
// it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <system_error>
#include <vector>

namespace depthlens::util {

/// The entries of a folder, in order. `error` tells why some of them, or all, could not be had.
std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder, std::error_code& error);
std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder);

/// How many entries `files_below` looks at.
inline constexpr std::size_t kMaxEntries = 20'000;

struct FilesBelow {
  std::vector<std::filesystem::path> files;  ///< in order
  bool cut = false;                          ///< there are more entries than were looked at
};

/// The regular files in a folder and below it, links to such among them. Links to folders, hidden folders and
/// those more than six deep are passed over, and no more than `most` entries are looked at.
FilesBelow files_below(const std::filesystem::path& folder, std::size_t most = kMaxEntries);

}  // namespace depthlens::util
