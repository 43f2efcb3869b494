// What files hold, in a few characters: SHA-256 of each, and of several together.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "depthlens/util/json.hpp"

namespace depthlens::util {

struct FileDigest {
  std::string name;  ///< within its folder
  std::uint64_t bytes = 0;
  std::string sha256;  ///< 64 hex digits

  bool operator==(const FileDigest&) const = default;
};

/// SHA-256 of the lines "SHA256  NAME", files in order of name: what `sha256sum NAME… | sha256sum` prints. It
/// depends on names and contents, not on the folder.
std::string digest_of(std::vector<FileDigest> files);

/// `digest`, then `files` as a list of `name`, `bytes`, `sha256`.
OrderedJson digest_json(const std::vector<FileDigest>& files);

/// SHA-256 of several files of a folder, computed on threads of its own while something else goes on.
/// A large file of the Hugging Face hub cache is not read: the blob that it links to is named by its SHA-256.
class FileDigests {
 public:
  /// Begins at once, with `num_threads` threads at the most: each takes whole files.
  FileDigests(std::filesystem::path folder, std::vector<std::string> names, int num_threads = 1);
  /// Gives up what is not done.
  ~FileDigests();
  FileDigests(const FileDigests&) = delete;
  FileDigests& operator=(const FileDigests&) = delete;

  /// In the order of the names. Waits for the end. Throws an input error for a file that cannot be read or is
  /// no regular file.
  const std::vector<FileDigest>& get();

 private:
  void work();

  std::filesystem::path folder_;
  std::vector<FileDigest> files_;
  std::vector<std::exception_ptr> errors_;  // by file
  std::atomic<std::size_t> next_ = 0;
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace depthlens::util
