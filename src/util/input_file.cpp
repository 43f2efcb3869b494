// Inputs: opened, decompressed, hashed, and copied where they can be read only once.
#include "depthlens/util/input_file.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "decompression.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::util {
namespace {

constexpr std::size_t kPiece = 1 << 16;

std::string name_of(const std::string& path) {
  return path == "-" ? "stdin" : in_quotes(path);
}

Error cannot_read(const std::string& path, std::string why, std::string where = {}) {
  return input_error(
      {.what = "cannot read " + name_of(path), .where = std::move(where), .found = std::move(why)});
}

/// What `path` is now. A pipe is not opened: that would wait for its writer.
struct stat status_of(const std::string& path) {
  struct stat status;
  const int result = path == "-" ? ::fstat(STDIN_FILENO, &status) : ::stat(path.c_str(), &status);
  if (result != 0) throw cannot_read(path, std::strerror(errno), "--input");
  if (S_ISDIR(status.st_mode)) throw cannot_read(path, "a folder", "--input");
  return status;
}

bool can_be_read_again(const std::string& path, const struct stat& status) {
  return path != "-" && S_ISREG(status.st_mode);
}

/// Until there is something to read, or its end. The first signal that asks the program to stop does not
/// break off a read, and for a pipe that stays silent nobody would look at it.
void wait_for_bytes(int descriptor) {
  constexpr int kMilliseconds = 200;
  struct pollfd waiting = {.fd = descriptor, .events = POLLIN, .revents = 0};
  while (true) {
    const int ready = ::poll(&waiting, 1, kMilliseconds);
    if (ready > 0 || (ready < 0 && errno != EINTR)) return;
    if (interrupted()) throw interrupted_error();
  }
}

int temporary_file(const fs::path& folder) {
  std::string name = (folder / ".depthlens-input-XXXXXX").string();
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor >= 0) ::unlink(name.c_str());  // at once, so that no crash leaves it behind
  return descriptor;
}

}  // namespace

void check_inputs(const std::vector<std::string>& paths) {
  struct Known {
    dev_t device;
    ino_t inode;
    bool once;
  };
  std::vector<Known> known;
  for (const std::string& path : paths) {
    const struct stat status = status_of(path);
    if (path != "-" && ::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) != 0)
      throw cannot_read(path, std::strerror(errno), "--input");
    const bool once = !can_be_read_again(path, status);
    for (const Known& other : known) {
      if (other.device != status.st_dev || other.inode != status.st_ino || !(once || other.once)) continue;
      throw usage_error(
          {.what = name_of(path) + " can be read only once, and is given twice", .where = "--input " + path});
    }
    known.push_back({.device = status.st_dev, .inode = status.st_ino, .once = once});
  }
}

bool can_be_read_again(const std::string& path) {
  return can_be_read_again(path, status_of(path));
}

std::string content_extension(const std::string& path) {
  const auto extension_of = [](const fs::path& name) {
    std::string extension = name.extension().string();
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return extension;
  };
  constexpr std::array<std::string_view, 4> kCompressed = {".gz", ".bgz", ".xz", ".zst"};
  const fs::path name = path;
  std::string extension = extension_of(name);
  if (std::find(kCompressed.begin(), kCompressed.end(), extension) != kCompressed.end())
    extension = extension_of(name.stem());
  return extension;
}

FileHandle& FileHandle::operator=(FileHandle&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(owned_, other.owned_);
  return *this;
}

FileHandle::~FileHandle() {
  if (owned_ && descriptor_ >= 0) ::close(descriptor_);
}

InputFile::InputFile(std::string path, fs::path spool_folder)
    : path_(std::move(path)), spool_folder_(std::move(spool_folder)) {}

InputFile::Opened InputFile::open() {
  if (spool_.get() >= 0) {
    DEPTHLENS_ASSERT(!sha256_.empty());  // else the copy is not whole
    return {.handle = {spool_.get(), false}, .offset = 0};
  }
  const bool is_stdin = path_ == "-";
  // A pipe without a writer opens at once, so that the wait for one can be broken off.
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  Opened opened{.handle = {is_stdin ? STDIN_FILENO : ::open(path_.c_str(), kFlags), !is_stdin}, .offset = 0};
  struct stat status;
  if (opened.handle.get() < 0 || ::fstat(opened.handle.get(), &status) != 0)
    throw cannot_read(path_, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) throw cannot_read(path_, "a folder");
  if (!S_ISREG(status.st_mode)) {
    if (!sha256_.empty()) fail_changed("no regular file");
    opened.offset = -1;
    return opened;
  }
  if (is_stdin) {  // the shell may have read some of it
    if (sha256_.empty()) stdin_start_ = std::max<std::int64_t>(0, ::lseek(STDIN_FILENO, 0, SEEK_CUR));
    opened.offset = stdin_start_;
  }
  if (sha256_.empty()) size_ = status.st_size;
  if (status.st_size != size_) fail_changed(cat(status.st_size, " bytes"));
  return opened;
}

void InputFile::open_spool() {
  // The folder may still be to be made.
  std::error_code error;
  fs::path folder = fs::absolute(spool_folder_, error);
  while (!fs::is_directory(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
  int descriptor = temporary_file(folder);
  const int reason = errno;
  if (descriptor < 0) descriptor = temporary_file(fs::temp_directory_path(error));
  if (descriptor < 0) {
    throw output_error({.what = "cannot make a temporary file for an input that can be read only once",
                        .where = in_quotes(folder.string()),
                        .found = std::strerror(reason)});
  }
  spool_ = {descriptor, true};
}

void InputFile::spool(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(spool_.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      throw output_error({.what = "cannot write the temporary copy of an input that can be read only once",
                          .where = name_of(path_),
                          .found = std::strerror(errno),
                          .hint = "make room beside the run folder, or name a file instead of a pipe"});
    }
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void InputFile::compare(const std::string& sha256) {
  if (sha256_.empty()) sha256_ = sha256;
  if (sha256_ != sha256) fail_changed("SHA-256 " + sha256);
}

void InputFile::fail_changed(const std::string& found) const {
  throw input_error({.what = name_of(path_) + " changed while the run was reading it",
                     .expected = cat(size_, " bytes with SHA-256 ", sha256_, " as at the first reading"),
                     .found = found,
                     .hint = "the run reads its inputs twice: give it files that stay as they are"});
}

InputReader::InputReader(InputFile& file) : file_(file), raw_storage_(kPiece) {
  InputFile::Opened opened = file_.open();
  handle_ = std::move(opened.handle);
  offset_ = opened.offset;
  if (offset_ < 0 && !file_.spool_folder_.empty()) {
    file_.open_spool();
    spooling_ = true;
  }
  read_raw();
  decompressor_ = make_decompressor(raw_);
  if (decompressor_) storage_.resize(kPiece);
  fill();
}

InputReader::~InputReader() = default;

void InputReader::fail_damaged(const std::string& found) const {
  throw input_error({.what = cat("damaged ", decompressor_->name(), " file"),
                     .where = cat(file_.path(), ", byte ", raw_bytes_ - raw_.size()),
                     .found = found});
}

/// A whole piece, but at the end.
void InputReader::read_raw() {
  std::size_t got = 0;
  while (got < raw_storage_.size() && !raw_ended_) {
    if (offset_ < 0) wait_for_bytes(handle_.get());
    char* to = raw_storage_.data() + got;
    const std::size_t room = raw_storage_.size() - got;
    const ssize_t count = offset_ < 0
                              ? ::read(handle_.get(), to, room)
                              : ::pread(handle_.get(), to, room, offset_ + static_cast<std::int64_t>(got));
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) throw cannot_read(file_.path(), std::strerror(errno));
    raw_ended_ = count == 0;
    got += static_cast<std::size_t>(count);
  }
  if (offset_ >= 0) offset_ += static_cast<std::int64_t>(got);
  raw_ = {raw_storage_.data(), got};
  raw_bytes_ += got;
  hash_.update(raw_.data(), raw_.size());
  if (spooling_) file_.spool(raw_);
}

/// Makes the next piece, empty at the end.
void InputReader::fill() {
  piece_ = {};
  if (ended_) return;
  if (!decompressor_) {
    if (raw_.empty() && !raw_ended_) read_raw();
    piece_ = std::exchange(raw_, {});
    ended_ = piece_.empty();
    return;
  }
  std::size_t filled = 0;
  while (filled < storage_.size() && !ended_) {
    if (raw_.empty() && !raw_ended_) read_raw();
    const Decompressor::Step step =
        decompressor_->step(raw_, raw_ended_, {storage_.data() + filled, storage_.size() - filled});
    raw_.remove_prefix(step.consumed);
    filled += step.produced;
    const bool stuck = step.consumed == 0 && step.produced == 0;
    if (!step.problem.empty() || (stuck && !raw_.empty()))
      fail_damaged(step.problem.empty() ? "bad data" : step.problem);
    if (stuck && raw_ended_ && step.inside) fail_damaged("an end in the middle");
    ended_ = stuck && raw_ended_;
  }
  piece_ = {storage_.data(), filled};
}

std::string_view InputReader::next_piece() {
  if (piece_.empty()) fill();
  return std::exchange(piece_, {});
}

bool InputReader::next_line(std::string& line) {
  line.clear();
  while (true) {
    if (piece_.empty()) fill();
    if (piece_.empty()) return !line.empty();
    const std::size_t end = piece_.find('\n');
    line.append(piece_.substr(0, end));
    if (line.size() > kMaxLine) {
      throw input_error({.what = "a line is too long",
                         .where = cat(file_.path(), ", line ", line_feeds_ + 1),
                         .expected = "at most " + as_bytes(kMaxLine)});
    }
    if (end == std::string_view::npos) {
      piece_ = {};
      continue;
    }
    piece_.remove_prefix(end + 1);
    ++line_feeds_;
    return true;
  }
}

std::string InputReader::rest(std::uint64_t limit) {
  std::string bytes;
  while (true) {
    const std::string_view piece = next_piece();
    if (piece.empty()) return bytes;
    if (bytes.size() + piece.size() > limit) {
      throw input_error(
          {.what = name_of(file_.path()) + " is too large" + (decompressor_ ? " when decompressed" : ""),
           .expected = "at most " + as_bytes(limit)});
    }
    bytes += piece;
  }
}

std::string InputReader::finish() {
  if (!sha256_.empty()) return sha256_;
  while (!raw_ended_) {
    // In a second reading the run goes on, to save what it has.
    if (file_.sha256_.empty() && interrupted()) throw interrupted_error();
    read_raw();
  }
  sha256_ = hash_.hex_digest();
  file_.compare(sha256_);
  return sha256_;
}

}  // namespace depthlens::util
