// The bytes of a user's inputs: regular files, pipes, stdin, compressed or not, as often as a command needs
// them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "depthlens/util/files.hpp"

namespace depthlens::util {

class Decompressor;

/// Throws an input error for the first of `paths` that is missing, unreadable or a folder, and a usage error
/// where one that can be read only once (a pipe, a device, stdin) is named twice, whatever it is called.
/// Opens no pipe.
void check_inputs(const std::vector<std::string>& paths);

/// Whether a second reading of `path` would find the bytes of the first: a regular file, but not "-".
bool can_be_read_again(const std::string& path);

/// The end of the name that tells what an input holds, in lower case: ".jsonl" of "TRAIN.JSONL" and of
/// "train.jsonl.xz". What a compressed file is called does not tell that it is compressed: its bytes do.
std::string content_extension(const std::string& path);

/// An open file, closed on destruction unless it is somebody else's.
class FileHandle {
 public:
  FileHandle() = default;
  FileHandle(int descriptor, bool owned) : descriptor_(descriptor), owned_(owned) {}
  FileHandle(FileHandle&& other) noexcept { *this = std::move(other); }
  FileHandle& operator=(FileHandle&& other) noexcept;
  ~FileHandle();
  int get() const { return descriptor_; }  ///< -1: none

 private:
  int descriptor_ = -1;
  bool owned_ = false;
};

/// An input that may be read several times; "-" is stdin. What every reading finds is held against the first.
class InputFile {
 public:
  /// Opens nothing. With a `spool_folder`, an input that can be read only once is copied, as it is read, into
  /// a temporary file there (or in the system's folder for such files where that one takes none), which has
  /// no name and is gone with the process. Without, it can be read once.
  explicit InputFile(std::string path, std::filesystem::path spool_folder = {});

  const std::string& path() const { return path_; }

 private:
  friend class InputReader;
  struct Opened {
    FileHandle handle;
    std::int64_t offset = 0;  // of the first byte; -1: a pipe or the like, which has none
  };
  Opened open();
  void open_spool();
  void spool(std::string_view bytes);
  void compare(const std::string& sha256);
  [[noreturn]] void fail_changed(const std::string& found) const;

  std::string path_;
  std::filesystem::path spool_folder_;
  FileHandle spool_;
  std::string sha256_;            // of the first reading; "" before its end
  std::int64_t size_ = 0;         // in bytes, when the first reading began
  std::int64_t stdin_start_ = 0;  // stdin may be a file in the middle
};

/// One reading of an input from its beginning, decompressed where its first bytes say gzip, xz or zstd. Keeps
/// a few hundred KiB, whatever the size. Throws input errors for what cannot be read or is damaged, with the
/// place; output errors where the copy of a pipe cannot be written; the interrupted error where the user
/// stops the program while it waits for a pipe.
class InputReader {
 public:
  /// `file` must outlive the reading. Waits for the first bytes.
  explicit InputReader(InputFile& file);
  ~InputReader();
  InputReader(const InputReader&) = delete;
  InputReader& operator=(const InputReader&) = delete;

  /// The first bytes, all of them if they are fewer than 64 KiB. Before anything is taken.
  std::string_view head() const { return piece_; }

  /// The next bytes; none at the end. Valid until the next call.
  std::string_view next_piece();
  /// The next line, without its line feed. False at the end. Lines may have 1 GiB at most.
  bool next_line(std::string& line);
  /// All that is left, `limit` bytes at most.
  std::string rest(std::uint64_t limit);

  std::int64_t line_feeds() const { return line_feeds_; }  ///< taken by next_line

  /// SHA-256 of the whole input as it lies on the disk; skips what was not taken. Throws an input error where
  /// an earlier reading found other bytes.
  std::string finish();

 private:
  void read_raw();
  void fill();
  [[noreturn]] void fail_damaged(const std::string& found) const;

  InputFile& file_;
  std::int64_t offset_ = -1;  // of the next byte in a file that has offsets
  FileHandle handle_;
  bool spooling_ = false;
  Sha256 hash_;
  std::uint64_t raw_bytes_ = 0;  // read so far
  bool raw_ended_ = false, ended_ = false;
  std::unique_ptr<Decompressor> decompressor_;
  std::vector<char> raw_storage_, storage_;
  std::string_view raw_;    // of raw_storage_, not yet decompressed
  std::string_view piece_;  // not yet taken
  std::int64_t line_feeds_ = 0;
  std::string sha256_;
};

}  // namespace depthlens::util
