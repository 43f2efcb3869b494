// Files in: whole or mapped, with errors that name the path. Files out: written beside, synced, renamed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/util/error.hpp"

namespace depthlens::util {

namespace fs = std::filesystem;

/// Whether something is there. Never throws: what cannot be looked up (a name that is too long, a link to
/// itself, a folder without permission) is not there; reading it tells why.
bool exists(const fs::path& path);
bool is_file(const fs::path& path);  ///< a regular one
bool is_folder(const fs::path& path);

/// The entries of a folder whose names end so (".state"), in the order of their names; none where it cannot
/// be read.
std::vector<fs::path> entries_with(const fs::path& folder, std::string_view extension);

/// Bytes that a file of settings may have: a config, a record of what was done.
inline constexpr std::uint64_t kMaxSettingsFile = std::uint64_t{64} << 20;

/// The whole file. Throws an input error where it is missing, unreadable, a folder, or larger than `limit`
/// bytes.
std::string read_file(const fs::path& path, std::uint64_t limit = std::uint64_t{8} << 30);

/// A read-only map of a regular file; unmapped on destruction. Shared by what points into it.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const fs::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  const fs::path& path() const { return path_; }

  /// Tells the kernel that the pages wholly inside [offset, offset + length) are not needed for now: they
  /// leave the resident set and are read again from the file when touched.
  void release(std::size_t offset, std::size_t length) const;
  /// Asks for the bytes to be read from disk while something else goes on.
  void read_ahead(std::size_t offset, std::size_t length) const;

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  fs::path path_;
};

/// Sixteen hex digits that no other process takes, on whatever machine and whenever.
std::string unique_name();
/// Whether it has the form of one.
bool is_unique_name(std::string_view name);
/// The name of this machine.
std::string host_name();

/// A file that appears under its name only when `commit()` returns: written to NAME.….tmp, synced, renamed.
/// Without commit the temporary file is removed. Throws output errors. `when_there` is called when it has its
/// name, before a signal of this program's may end it.
class AtomicFile {
 public:
  explicit AtomicFile(fs::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);
  void commit(const std::function<void()>& when_there = [] {});

 private:
  void flush_buffer();
  fs::path path_;
  fs::path temporary_;
  std::string buffer_;
  int descriptor_ = -1;
};

/// Removes what writers of files and folders that were killed have left in `folder`, in which nobody else may
/// be writing.
void remove_leftovers(const fs::path& folder);

/// A new file that grows, and of which a beginning may be relied upon: what was written before `sync`. Goes
/// with the object, and when the program ends without success, unless it is kept. Throws output errors.
class GrowingFile {
 public:
  /// The file must not exist.
  explicit GrowingFile(fs::path path);
  ~GrowingFile();
  GrowingFile(const GrowingFile&) = delete;
  GrowingFile& operator=(const GrowingFile&) = delete;

  void write(std::string_view bytes);
  std::uint64_t size() const { return size_; }
  /// Cuts off what stands behind `size` bytes.
  void truncate(std::uint64_t size);
  /// Lets other readers of the file see what was written.
  void flush();
  /// Brings it to the disk. Throws where the file is not in its place any more.
  void sync();
  /// From now on the file stays.
  void keep();

 private:
  fs::path path_;
  std::string buffer_;
  std::uint64_t size_ = 0;
  int descriptor_ = -1;
  bool kept_ = false;
};

/// A new folder, beside what it will be or in the folder whose files it will replace: what is made in it
/// comes to its place as a whole. Goes, with all that it holds, with the object, and when the program ends
/// without success. Throws output errors.
class StagingFolder {
 public:
  /// `.new-…` in `parent`, which exists.
  explicit StagingFolder(const fs::path& parent);
  ~StagingFolder();
  StagingFolder(const StagingFolder&) = delete;
  StagingFolder& operator=(const StagingFolder&) = delete;

  const fs::path& path() const { return path_; }
  /// Whether `path` has the name of one, of this process or another.
  static bool is_one(const fs::path& path);

  /// Gives every file in it the same place in `target`, in one go that no signal of this program's
  /// interrupts: `last`, one of them, goes first and comes last, so that what is there without it is not
  /// whole; then `superseded` go. Where a folder is in the way of a file, nothing is changed. `when_there` is
  /// called at its end, in the same go.
  void replace(
      const fs::path& target, const fs::path& last, const std::vector<fs::path>& superseded = {},
      const std::function<void()>& when_there = [] {});

 private:
  fs::path path_;
};

void write_file(
    const fs::path& path, std::string_view bytes, const std::function<void()>& when_there = [] {});

/// What `read` returns, which reads back what this program has written itself: that something of it cannot be
/// read any more is an output error.
template <typename Read>
auto read_back(const Read& read) {
  try {
    return read();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInput) throw;
    ErrorText text = error.text();
    text.hint = "the program wrote it, and something changed or removed it meanwhile";
    throw output_error(text);
  }
}

/// The folder and those above it. Throws output errors.
void create_folders(const fs::path& path);

/// While the returned lock is held, no file gets its name, and none is on its way to it: what is to be done
/// once it has it (`when_there`) is done.
std::unique_lock<std::mutex> hold_commits();

/// Removes what this process began and did not finish: temporary files of AtomicFile, folders of
/// StagingFolder, and folders made by `create_folders` that are still empty. For a program that is about to
/// end without success, so that it leaves everything as it was. The lock is that of `hold_commits`.
std::unique_lock<std::mutex> remove_unfinished();

/// The digest, in lower-case hex digits, of bytes that come in pieces.
class MessageDigest {
 public:
  ~MessageDigest();
  MessageDigest(const MessageDigest&) = delete;
  MessageDigest& operator=(const MessageDigest&) = delete;
  void update(const void* data, std::size_t size);
  /// Ends it.
  std::string hex_digest();

 protected:
  explicit MessageDigest(const char* algorithm);

 private:
  void* context_;  // EVP_MD_CTX
};

/// 64 digits.
class Sha256 : public MessageDigest {
 public:
  Sha256() : MessageDigest("SHA256") {}
};

/// 40 digits. Where git and the hub name contents by it; nothing of our own.
class Sha1 : public MessageDigest {
 public:
  Sha1() : MessageDigest("SHA1") {}
};

std::string sha256(std::string_view bytes);

}  // namespace depthlens::util
