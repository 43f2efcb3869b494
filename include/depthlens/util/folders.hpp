// What folders hold. Nothing here throws: what may not be looked into, or breaks off, holds what was seen of
// it.
#pragma once

#include <filesystem>
#include <system_error>
#include <vector>

namespace depthlens::util {

/// The entries of a folder, in order. `error` tells why some of them, or all, could not be had.
std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder, std::error_code& error);
std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder);

/// The regular files in a folder and below it, links to such among them, in order. Links to folders, hidden
/// folders and those more than six deep are passed over, and no more than 20,000 entries are looked at.
std::vector<std::filesystem::path> files_below(const std::filesystem::path& folder);

}  // namespace depthlens::util
