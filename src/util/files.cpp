// Files in and out.
#include "depthlens/util/files.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <random>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "depthlens/util/descriptor.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/folders.hpp"
#include "depthlens/util/mapped_pages.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::util {
namespace {

std::string reason() {
  return std::strerror(errno);
}

Error cannot_read(const fs::path& path, std::string why) {
  return input_error({.what = "cannot read " + in_quotes(path.string()), .found = std::move(why)});
}

Error cannot_write(const fs::path& path, std::string why) {
  return output_error({.what = "cannot write " + in_quotes(path.string()), .found = std::move(why)});
}

/// What `remove_unfinished` removes.
struct Unfinished {
  std::mutex mutex;
  std::set<fs::path> files;
  std::set<fs::path> trees;       ///< folders that go with all that they hold
  std::vector<fs::path> folders;  ///< in the order in which they were made
};

Unfinished& unfinished() {
  static auto* const all = new Unfinished;  // never destroyed: a signal may end the program while it ends
  return *all;
}

void write_all(int descriptor, std::string_view bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw cannot_write(path, reason());
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

constexpr std::size_t kUniqueLength = 16;
constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr const char* kTemporary = ".tmp";

/// The path of a file beside `path`, not longer than a file system takes, where `path` is not.
fs::path temporary_name(const fs::path& path) {
  constexpr std::size_t kMaxName = 255;
  const std::string end = cat(".", unique_name(), kTemporary);
  return path.parent_path() / (path.filename().string().substr(0, kMaxName - end.size()) + end);
}

/// Whether it has a name of that kind.
bool is_temporary(const fs::path& path) {
  const fs::path name = path.filename().stem();
  const std::string end = name.extension().string();
  return path.extension() == kTemporary && !name.stem().empty() && end.starts_with('.') &&
         is_unique_name(std::string_view(end).substr(1));
}

Descriptor open_to_read(const fs::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) throw cannot_read(path, reason());
  return file;
}

}  // namespace

bool exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

std::vector<fs::path> entries_with(const fs::path& folder, std::string_view extension) {
  std::vector<fs::path> entries = entries_of(folder);
  std::erase_if(entries, [&](const fs::path& entry) { return entry.extension() != extension; });
  return entries;
}

std::string read_file(const fs::path& path, std::uint64_t limit) {
  const Descriptor file = open_to_read(path);
  struct stat status;
  if (::fstat(file.get(), &status) != 0) throw cannot_read(path, reason());
  if (S_ISDIR(status.st_mode)) throw cannot_read(path, "a folder");
  std::string bytes;
  if (S_ISREG(status.st_mode)) {
    if (static_cast<std::uint64_t>(status.st_size) > limit) {
      throw input_error({.what = in_quotes(path.string()) + " is too large",
                         .expected = "at most " + as_bytes(limit),
                         .found = as_bytes(static_cast<std::uint64_t>(status.st_size))});
    }
    bytes.reserve(static_cast<std::size_t>(status.st_size));
  }
  std::array<char, 1 << 16> chunk;
  while (true) {
    const ssize_t count = ::read(file.get(), chunk.data(), chunk.size());
    if (count == 0) return bytes;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw cannot_read(path, reason());
    if (bytes.size() + static_cast<std::size_t>(count) > limit)
      throw cannot_read(path, "more than " + as_bytes(limit));
    bytes.append(chunk.data(), static_cast<std::size_t>(count));
  }
}

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
  const Descriptor file = open_to_read(path);
  struct stat status;
  if (::fstat(file.get(), &status) != 0) throw cannot_read(path, reason());
  if (!S_ISREG(status.st_mode))
    throw cannot_read(path, S_ISDIR(status.st_mode) ? "a folder" : "not a regular file");
  std::shared_ptr<MappedFile> mapped(new MappedFile());
  mapped->path_ = path;
  mapped->size_ = static_cast<std::size_t>(status.st_size);
  if (mapped->size_ > 0) {
    void* address = ::mmap(nullptr, mapped->size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (address == MAP_FAILED) {
      mapped->size_ = 0;
      if (errno == ENOMEM)
        throw std::system_error(errno, std::generic_category(), "mapping " + path.string());
      throw cannot_read(path, reason());
    }
    mapped->data_ = static_cast<const std::byte*>(address);
    add_mapped(address, mapped->size_, path);
  }
  return mapped;
}

MappedFile::~MappedFile() {
  if (size_ == 0) return;
  remove_mapped(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::size_t offset, std::size_t length) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t first = (offset + page - 1) / page * page;
  const std::size_t last = (offset + length) / page * page;
  if (last > first) ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

void MappedFile::read_ahead(std::size_t offset, std::size_t length) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t first = offset / page * page;
  if (length > 0) ::madvise(const_cast<std::byte*>(data_) + first, offset + length - first, MADV_WILLNEED);
}

std::string unique_name() {
  std::random_device random;
  std::string name;
  for (std::size_t i = 0; i < kUniqueLength; ++i) name += kHexDigits[random() % kHexDigits.size()];
  return name;
}

bool is_unique_name(std::string_view name) {
  return name.size() == kUniqueLength && name.find_first_not_of(kHexDigits) == std::string_view::npos;
}

std::string host_name() {
  std::array<char, 256> host = {};
  ::gethostname(host.data(), host.size() - 1);
  return host.data();
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)), temporary_(temporary_name(path_)) {
  const std::scoped_lock lock(unfinished().mutex);
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw cannot_write(path_, reason());
  unfinished().files.insert(temporary_);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  const std::scoped_lock lock(unfinished().mutex);
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
  unfinished().files.erase(temporary_);
}

void AtomicFile::write(std::string_view bytes) {
  constexpr std::size_t kBuffer = 1 << 20;
  while (!bytes.empty()) {  // in pieces: the buffer stays small
    const std::string_view piece = bytes.substr(0, kBuffer);
    buffer_.append(piece);
    if (buffer_.size() >= kBuffer) flush_buffer();
    bytes.remove_prefix(piece.size());
  }
}

void AtomicFile::flush_buffer() {
  write_all(descriptor_, buffer_, path_);
  buffer_.clear();
}

void AtomicFile::commit(const std::function<void()>& when_there) {
  flush_buffer();
  if (::fsync(descriptor_) != 0 && errno != EINVAL) throw cannot_write(path_, reason());
  const std::scoped_lock lock(unfinished().mutex);
  unfinished().files.erase(temporary_);
  const int closed = ::close(std::exchange(descriptor_, -1));
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const std::string why = reason();
    ::unlink(temporary_.c_str());
    throw cannot_write(path_, why);
  }
  when_there();
}

GrowingFile::GrowingFile(fs::path path) : path_(std::move(path)) {
  const std::scoped_lock lock(unfinished().mutex);
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw cannot_write(path_, reason());
  unfinished().files.insert(path_);
}

GrowingFile::~GrowingFile() {
  ::close(descriptor_);
  if (kept_) return;
  const std::scoped_lock lock(unfinished().mutex);
  ::unlink(path_.c_str());
  unfinished().files.erase(path_);
}

void GrowingFile::write(std::string_view bytes) {
  constexpr std::size_t kBuffer = 1 << 20;
  buffer_.append(bytes);
  size_ += bytes.size();
  if (buffer_.size() >= kBuffer) flush();
}

void GrowingFile::flush() {
  write_all(descriptor_, buffer_, path_);
  buffer_.clear();
}

void GrowingFile::truncate(std::uint64_t size) {
  DEPTHLENS_ASSERT(size <= size_);
  flush();
  if (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0) throw cannot_write(path_, reason());
  size_ = size;
}

void GrowingFile::sync() {
  flush();
  if (::fsync(descriptor_) != 0 && errno != EINVAL) throw cannot_write(path_, reason());
  struct stat own = {}, there = {};
  if (::fstat(descriptor_, &own) != 0 || ::stat(path_.c_str(), &there) != 0)
    throw cannot_write(path_, reason());
  if (own.st_dev != there.st_dev || own.st_ino != there.st_ino)
    throw cannot_write(path_, "another file in its place");
}

void GrowingFile::keep() {
  const std::scoped_lock lock(unfinished().mutex);
  unfinished().files.erase(path_);
  kept_ = true;
}

constexpr std::string_view kStagingPrefix = ".new-";

bool StagingFolder::is_one(const fs::path& path) {
  const std::string name = path.filename().string();
  const std::string_view rest = std::string_view(name).substr(std::min(name.size(), kStagingPrefix.size()));
  return name.rfind(kStagingPrefix, 0) == 0 && rest.size() == 16 &&
         rest.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

StagingFolder::StagingFolder(const fs::path& parent) : path_(parent / cat(kStagingPrefix, unique_name())) {
  const std::scoped_lock lock(unfinished().mutex);
  if (::mkdir(path_.c_str(), 0777) != 0) throw cannot_write(parent, reason());
  unfinished().trees.insert(path_);
}

StagingFolder::~StagingFolder() {
  const std::scoped_lock lock(unfinished().mutex);
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  unfinished().trees.erase(path_);
}

void remove_leftovers(const fs::path& folder) {
  for (const fs::path& entry : entries_of(folder)) {
    std::error_code ignored;
    if (StagingFolder::is_one(entry) || is_temporary(entry)) fs::remove_all(entry, ignored);
  }
}

void StagingFolder::replace(const fs::path& target, const fs::path& last,
                            const std::vector<fs::path>& superseded,
                            const std::function<void()>& when_there) {
  const std::scoped_lock lock(unfinished().mutex);
  std::error_code error;
  std::vector<fs::path> files;
  fs::recursive_directory_iterator item(path_, error), end;
  for (; !error && item != end; item.increment(error)) {
    const fs::path place = item->path().lexically_relative(path_);
    const bool in_the_way = is_folder(target / place), is_inside = is_folder(item->path());
    if (in_the_way != is_inside && fs::exists(fs::symlink_status(target / place, error)))
      throw cannot_write(target / place, in_the_way ? "a folder of that name" : "a file of that name");
    if (is_inside) {
      fs::create_directory(target / place, error);
      if (error) throw cannot_write(target / place, error.message());
    } else if (place != last) {
      files.push_back(place);
    }
    error.clear();
  }
  if (error) throw cannot_write(target, error.message());
  const auto move = [&](const fs::path& place) {
    fs::rename(path_ / place, target / place, error);
    if (error) throw cannot_write(target / place, error.message());
  };
  fs::remove(target / last, error);
  for (const fs::path& place : files) move(place);
  for (const fs::path& old : superseded) {
    if (std::find(files.begin(), files.end(), old) == files.end()) fs::remove(target / old, error);
  }
  move(last);
  when_there();
}

void write_file(const fs::path& path, std::string_view bytes, const std::function<void()>& when_there) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit(when_there);
}

void create_folders(const fs::path& path) {
  const std::scoped_lock lock(unfinished().mutex);
  std::error_code error, ignored;
  fs::path folder;
  for (const fs::path& part : path) {
    folder /= part;
    if (fs::create_directory(folder, error)) unfinished().folders.push_back(folder);
    if (fs::is_symlink(folder, ignored) && !fs::exists(folder, ignored))
      throw cannot_write(path, in_quotes(folder.string()) + " is a link to what is not there");
  }
  if (!fs::is_directory(path, ignored))
    throw cannot_write(path, error ? error.message() : "a file of that name");
}

std::unique_lock<std::mutex> hold_commits() {
  return std::unique_lock(unfinished().mutex);
}

std::unique_lock<std::mutex> remove_unfinished() {
  std::unique_lock lock = hold_commits();
  std::error_code ignored;
  for (const fs::path& file : unfinished().files) ::unlink(file.c_str());
  for (const fs::path& tree : unfinished().trees) fs::remove_all(tree, ignored);
  std::vector<fs::path>& folders = unfinished().folders;
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) ::rmdir(folder->c_str());
  unfinished().files.clear();
  unfinished().trees.clear();
  folders.clear();
  return lock;
}

MessageDigest::MessageDigest(const char* algorithm) : context_(EVP_MD_CTX_new()) {
  DEPTHLENS_ASSERT(context_ != nullptr);
  const EVP_MD* method = EVP_get_digestbyname(algorithm);
  DEPTHLENS_ASSERT(method != nullptr);
  DEPTHLENS_ASSERT(EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_), method, nullptr) == 1);
}

MessageDigest::~MessageDigest() {
  EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context_));
}

void MessageDigest::update(const void* data, std::size_t size) {
  DEPTHLENS_ASSERT(EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_), data, size) == 1);
}

std::string MessageDigest::hex_digest() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  DEPTHLENS_ASSERT(EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_), digest.data(), &size) == 1);
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    hex += kHex[digest[i] >> 4];
    hex += kHex[digest[i] & 15];
  }
  return hex;
}

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes.data(), bytes.size());
  return hash.hex_digest();
}

}  // namespace depthlens::util
