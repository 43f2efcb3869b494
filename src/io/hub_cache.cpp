// The hub's cache: what is there, and what is put there.
#include "depthlens/io/hub_cache.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <system_error>
#include <thread>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "hub_environment.hpp"

namespace depthlens::io {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::in_quotes;

util::Error cannot_put(const fs::path& path, const std::string& why) {
  return util::output_error({.what = "cannot write into the hub cache",
                             .where = path.string(),
                             .found = why,
                             .hint = "HF_HUB_CACHE names another folder"});
}

/// Writes by `write`, whose errors become those of the cache.
template <typename Write>
void put(const fs::path& path, const Write& write) {
  try {
    write();
  } catch (const util::Error& error) {
    throw cannot_put(path, error.text().found);
  }
}

void create_folders(const fs::path& path) {
  put(path, [&] { util::create_folders(path); });
}

/// Four digits that processes of this machine share since it was started, and those of others mostly do not.
std::string machine_digits() {
  const fs::path boot = "/proc/sys/kernel/random/boot_id";
  return util::sha256(util::exists(boot) ? util::read_file(boot) : util::host_name()).substr(0, 4);
}

/// Writes a small file.
void write_whole(const fs::path& path, const std::string& bytes) {
  create_folders(path.parent_path());
  put(path, [&] { util::write_file(path, bytes); });
}

constexpr const char* kUnfinished = ".dl.incomplete";

/// Files of ours that hold the beginning of a blob, `ETAG.XXXXXXXX.dl.incomplete`, and those of others.
std::vector<fs::path> unfinished_files(const fs::path& blob, const std::string& end) {
  std::vector<fs::path> found;
  std::error_code error;
  const std::string begin = blob.filename().string() + ".";
  for (const auto& entry : fs::directory_iterator(blob.parent_path(), error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(begin) && name.ends_with(end)) found.push_back(entry.path());
  }
  return found;
}

/// Seconds since a file was last written to.
double seconds_idle(const fs::path& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return 0;
  return std::difftime(std::time(nullptr), status.st_mtime);
}

}  // namespace

CachedRepository::CachedRepository(fs::path cache, Repository repository)
    : cache_(std::move(cache)),
      repository_(std::move(repository)),
      folder_(cache_ / repository_.folder_name()) {}

bool CachedRepository::exists() const {
  return util::is_folder(folder_);
}

std::optional<std::string> CachedRepository::commit_of(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  const fs::path reference = folder_ / "refs" / revision;
  if (!util::is_file(reference)) return std::nullopt;
  constexpr std::uint64_t kMaxReference = 1024;
  std::string commit(util::trimmed(util::read_file(reference, kMaxReference)));
  if (!is_commit(commit)) {
    throw util::format_error({.what = "damaged hub cache",
                              .where = reference.string(),
                              .expected = "a commit of 40 hex digits",
                              .found = in_quotes(commit)});
  }
  return commit;
}

fs::path CachedRepository::snapshot(const std::string& commit) const {
  return folder_ / "snapshots" / commit;
}

bool CachedRepository::has(const std::string& commit, const std::string& path) const {
  return util::is_file(snapshot(commit) / path);
}

bool CachedRepository::knows_absent(const std::string& commit, const std::string& path) const {
  if (util::exists(folder_ / ".no_exist" / commit / path)) return true;
  // The list of a commit's files that newer versions of huggingface_hub keep.
  const fs::path tree = folder_ / "trees" / (commit + ".json");
  if (!util::is_file(tree)) return false;
  try {
    const util::Json document =
        util::parse_json(util::read_file(tree, std::uint64_t{256} << 20), tree.string());
    const util::JsonView root(document, tree.string());
    return root.at("format_version").as_integer(0, 1000) == 1 && root.at("files").is_object() &&
           !root.at("files").has(path);
  } catch (const util::Error& error) {
    util::log_detail(cat("not understood: ", error.what()));
    return false;
  }
}

fs::path CachedRepository::blob(const std::string& etag) const {
  return folder_ / "blobs" / etag;
}

void CachedRepository::put_in_snapshot(const std::string& commit, const std::string& path,
                                       const std::string& etag) const {
  const fs::path target = snapshot(commit) / path;
  create_folders(target.parent_path());
  if (!is_hub_switch_on("HF_HUB_DISABLE_SYMLINKS")) {
    const fs::path content = fs::path(blob(etag)).lexically_relative(target.parent_path());
    const fs::path own = target.string() + "." + util::unique_name() + ".tmp";
    if (::symlink(content.c_str(), own.c_str()) == 0) {
      if (::rename(own.c_str(), target.c_str()) == 0) return;
      const std::string why = std::strerror(errno);
      ::unlink(own.c_str());
      throw cannot_put(target, why);
    }
    if (errno != EPERM && errno != ENOTSUP && errno != EOPNOTSUPP && errno != ENOSYS && errno != EACCES)
      throw cannot_put(target, std::strerror(errno));
  }
  if (::rename(blob(etag).c_str(), target.c_str()) != 0) throw cannot_put(target, std::strerror(errno));
}

void CachedRepository::write_reference(const std::string& revision, const std::string& commit) const {
  if (revision != commit && commit_of(revision) != commit) write_whole(folder_ / "refs" / revision, commit);
}

void CachedRepository::mark_absent(const std::string& commit, const std::string& path) const {
  const fs::path mark = folder_ / ".no_exist" / commit / path;
  if (!util::exists(mark)) write_whole(mark, "");
}

BlobLock::BlobLock(const CachedRepository& repository, const std::string& etag,
                   const std::function<bool()>& stop) {
  const fs::path path =
      repository.cache_ / ".locks" / repository.repository_.folder_name() / (etag + ".lock");
  create_folders(path.parent_path());
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664);
  const std::string why =
      descriptor_ < 0 ? std::string(std::strerror(errno)) : acquire(repository, etag, stop);
  if (why.empty()) return;
  util::log_detail(cat("without a lock: ", path.string(), ": ", why));
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  if (util::interrupted()) throw util::interrupted_error();
}

std::string BlobLock::acquire(const CachedRepository& repository, const std::string& etag,
                              const std::function<bool()>& stop) const {
  using Clock = std::chrono::steady_clock;
  constexpr auto kStep = std::chrono::milliseconds(50);
  constexpr double kTold = 3, kIdle = 60;  // seconds
  const auto began = Clock::now();
  bool told = false;
  while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return std::strerror(errno);
    if (util::interrupted()) return "interrupted";
    if (stop && stop()) return "no longer needed";
    const double waited = std::chrono::duration<double>(Clock::now() - began).count();
    if (waited > kTold && !told) {
      util::log_info(cat("waiting for another process that fetches ", etag.substr(0, 12), "… of ",
                         repository.repository_.name));
      told = true;
    }
    const std::vector<fs::path> files = unfinished_files(repository.blob(etag), ".incomplete");
    const bool at_work = std::any_of(files.begin(), files.end(),
                                     [&](const fs::path& file) { return seconds_idle(file) < kIdle; });
    if (waited > kIdle && !at_work) return "held by a process that makes no progress";
    std::this_thread::sleep_for(kStep);
  }
  return {};
}

BlobLock::~BlobLock() {
  if (descriptor_ >= 0) ::close(descriptor_);  // and with it the lock; the file stays
}

/// The hash of a blob's name: SHA-256, or git's SHA-1 of a line that tells the size and of the content.
struct UnfinishedBlob::Hashes {
  util::Sha256 sha256;
  util::Sha1 sha1;
};

UnfinishedBlob::UnfinishedBlob(const CachedRepository& repository, HubFile file, bool lock_held)
    : final_(repository.blob(file.etag)), file_(std::move(file)) {
  create_folders(final_.parent_path());
  own_ = final_.string() + "." + machine_digits() + util::unique_name().substr(0, 4) + kUnfinished;
  take_over(lock_held);
  if (descriptor_ < 0) descriptor_ = ::open(own_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw cannot_put(own_, std::strerror(errno));
  begin_hash();
}

/// The longest beginning that nobody is at work on: of a process of this machine, which would hold the lock;
/// of another, whose lock may not be seen here, where it has not grown for a while.
void UnfinishedBlob::take_over(bool lock_held) {
  if (!lock_held) return;
  constexpr double kAbandoned = 60;
  const std::string of_machine = final_.filename().string() + "." + machine_digits();
  std::error_code ignored;
  fs::path longest;
  std::uintmax_t most = 0;
  std::vector<fs::path> left;
  for (const fs::path& path : unfinished_files(final_, kUnfinished)) {
    const bool own = path.filename().string().rfind(of_machine, 0) == 0;
    if (!own && seconds_idle(path) < kAbandoned) continue;
    left.push_back(path);
    const std::uintmax_t length = fs::file_size(path, ignored);
    if (ignored || length <= most || (file_.size && length > *file_.size)) continue;
    longest = path;
    most = length;
  }
  for (const fs::path& path : left) {
    if (path != longest) ::unlink(path.c_str());
  }
  if (longest.empty() || ::rename(longest.c_str(), own_.c_str()) != 0) return;
  descriptor_ = ::open(own_.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor_ < 0) ::unlink(own_.c_str());
}

/// Over what is in the file.
void UnfinishedBlob::begin_hash() {
  hashes_ = std::make_unique<Hashes>();
  if (file_.size) {
    const std::string head = cat("blob ", *file_.size, std::string_view("\0", 1));
    hashes_->sha1.update(head.data(), head.size());
  }
  size_ = 0;
  std::vector<char> piece(std::size_t{1} << 20);
  while (true) {
    const ssize_t count = ::pread(descriptor_, piece.data(), piece.size(), static_cast<off_t>(size_));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw cannot_put(own_, std::strerror(errno));
    if (count == 0) break;
    const auto length = static_cast<std::size_t>(count);
    file_.etag.size() == 64 ? hashes_->sha256.update(piece.data(), length)
                            : hashes_->sha1.update(piece.data(), length);
    size_ += length;
  }
}

UnfinishedBlob::~UnfinishedBlob() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!finished_ && !kept_) ::unlink(own_.c_str());
}

util::Error UnfinishedBlob::cannot_write(int error) const {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return util::output_error({.what = cat("cannot write ", in_quotes(file_.path), " into the hub cache"),
                             .where = own_.parent_path().string(),
                             .found = std::strerror(error),
                             .hint = full ? "make room, or name another folder with HF_HUB_CACHE; what has "
                                            "come so far is kept, and the same command goes on from it"
                                          : "HF_HUB_CACHE names another folder"});
}

void UnfinishedBlob::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw cannot_write(errno);
    const auto length = static_cast<std::size_t>(count);
    file_.etag.size() == 64 ? hashes_->sha256.update(bytes.data(), length)
                            : hashes_->sha1.update(bytes.data(), length);
    size_ += length;
    bytes.remove_prefix(length);
  }
}

void UnfinishedBlob::restart() {
  if (::ftruncate(descriptor_, 0) != 0) throw cannot_write(errno);
  begin_hash();
}

bool UnfinishedBlob::finish() {
  const std::optional<std::uint64_t> told = file_.size;
  if (!told) {  // git's hash begins with the size
    file_.size = size_;
    begin_hash();
  }
  const std::string hash =
      file_.etag.size() == 64 ? hashes_->sha256.hex_digest() : hashes_->sha1.hex_digest();
  if (hash != file_.etag || size_ != *file_.size) {
    file_.size = told;
    restart();
    return false;
  }
  if (::fsync(descriptor_) != 0 && errno != EINVAL) throw cannot_write(errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) throw cannot_write(errno);
  if (::rename(own_.c_str(), final_.c_str()) != 0) {
    // A process of another machine may have taken the file over and finished it.
    if (errno != ENOENT || !util::is_file(final_)) throw cannot_write(errno);
  }
  finished_ = true;
  return true;
}

void UnfinishedBlob::keep() {
  kept_ = size_ > 0;
}

std::optional<std::string> hub_commit(const fs::path& folder) {
  std::error_code ignored;
  // A file of a snapshot is a link out of it.
  fs::path path = util::is_folder(folder) || !folder.has_filename()
                      ? fs::weakly_canonical(folder, ignored)
                      : fs::weakly_canonical(folder.parent_path(), ignored) / folder.filename();
  for (; path.has_relative_path(); path = path.parent_path()) {
    const fs::path snapshots = path.parent_path();
    if (snapshots.filename() == "snapshots" && is_commit(path.filename().string()) &&
        snapshots.parent_path().filename().string().find("--") != std::string::npos)
      return path.filename().string();
  }
  return std::nullopt;
}

}  // namespace depthlens::io
