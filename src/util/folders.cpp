// Walks through folders without exceptions: a range-for over an iterator throws where a step fails.
#include "depthlens/util/folders.hpp"

#include <algorithm>

#include "depthlens/util/files.hpp"

namespace depthlens::util {

std::vector<fs::path> entries_of(const fs::path& folder, std::error_code& error) {
  std::vector<fs::path> entries;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    entries.push_back(entry->path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::vector<fs::path> entries_of(const fs::path& folder) {
  std::error_code ignored;
  return entries_of(folder, ignored);
}

FilesBelow files_below(const fs::path& folder, std::size_t most) {
  constexpr int kDeepest = 6;
  FilesBelow found;
  std::error_code error;
  std::size_t seen = 0;
  fs::recursive_directory_iterator entry(folder, fs::directory_options::skip_permission_denied, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    if (seen++ == most) {
      found.cut = true;
      break;
    }
    const fs::path& path = entry->path();
    if (is_folder(path)) {
      const bool hidden = path.filename().string().starts_with('.');
      if (hidden || entry.depth() >= kDeepest) entry.disable_recursion_pending();
    } else if (is_file(path)) {
      found.files.push_back(path);
    }
  }
  std::sort(found.files.begin(), found.files.end());
  return found;
}

}  // namespace depthlens::util
