// SHA-256 of files, beside other work.
#include "depthlens/util/digest.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/input_file.hpp"
#include "depthlens/util/text.hpp"
#include "depthlens/util/threads.hpp"

namespace depthlens::util {
namespace {

/// Up to this size a file is hashed whatever its name says: it takes less than a tenth of a second, and holds
/// also where somebody has changed a blob in place.
constexpr std::uint64_t kHashedAnyway = std::uint64_t{64} << 20;
constexpr std::size_t kDigestPiece = std::size_t{1} << 20;

/// The name of the blob that a file of the hub cache links to, where that is a SHA-256; else "". (Small files
/// are named by 40 digits, the SHA-1 that git gives them.)
std::string blob_sha256(const fs::path& path) {
  std::error_code error;
  const fs::path blob = fs::canonical(path, error);
  if (error || !fs::is_symlink(path, error) || blob.parent_path().filename() != "blobs") return {};
  const std::string name = blob.filename().string();
  const bool is_hash = name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
  return is_hash ? name : std::string();
}

void hash_file(const fs::path& path, const std::atomic<bool>& stop, FileDigest& file) {
  const auto fail = [&](const std::string& why) {
    return input_error({.what = "cannot read " + in_quotes(path.string()), .found = why});
  };
  // Does not wait for the writer of a pipe.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) throw fail(std::strerror(errno));
  const FileHandle handle(descriptor, /*owned=*/true);
  struct stat status;
  if (::fstat(descriptor, &status) != 0) throw fail(std::strerror(errno));
  if (!S_ISREG(status.st_mode)) throw fail("no regular file");
  file.bytes = static_cast<std::uint64_t>(status.st_size);
  if (file.bytes > kHashedAnyway) file.sha256 = blob_sha256(path);
  if (!file.sha256.empty()) return;
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);
  Sha256 hash;
  std::vector<char> piece(kDigestPiece);
  while (!stop) {
    const ssize_t count = ::read(descriptor, piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw fail(std::strerror(errno));
    if (count == 0) break;
    hash.update(piece.data(), static_cast<std::size_t>(count));
  }
  file.sha256 = hash.hex_digest();
}

}  // namespace

std::string digest_of(std::vector<FileDigest> files) {
  std::sort(files.begin(), files.end(),
            [](const FileDigest& a, const FileDigest& b) { return a.name < b.name; });
  std::string lines;
  for (const FileDigest& file : files) lines += file.sha256 + "  " + file.name + "\n";
  return sha256(lines);
}

OrderedJson digest_json(const std::vector<FileDigest>& files) {
  OrderedJson list = OrderedJson::array();
  for (const FileDigest& file : files)
    list.push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  return {{"digest", digest_of(files)}, {"files", list}};
}

FileDigests::FileDigests(fs::path folder, std::vector<std::string> names, int num_threads)
    : folder_(std::move(folder)), errors_(names.size()) {
  for (std::string& name : names) files_.push_back({.name = std::move(name), .bytes = 0, .sha256 = {}});
  const auto wanted = std::min(files_.size(), static_cast<std::size_t>(std::max(1, num_threads)));
  threads_ = start_threads(wanted, [this] { work(); });
}

FileDigests::~FileDigests() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
}

void FileDigests::work() {
  for (std::size_t i = next_++; i < files_.size() && !stop_; i = next_++) {
    try {
      hash_file(folder_ / files_[i].name, stop_, files_[i]);
    } catch (...) {
      errors_[i] = std::current_exception();
    }
  }
}

const std::vector<FileDigest>& FileDigests::get() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  for (const std::exception_ptr& error : errors_) {
    if (error) std::rethrow_exception(error);
  }
  return files_;
}

}  // namespace depthlens::util
