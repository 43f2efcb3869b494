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
#include "depthlens/util/folders.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "hub_environment.hpp"

namespace depthlens::io {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::Descriptor;
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
  std::error_code ignored;
  const std::string begin = blob.filename().string() + ".";
  for (const fs::path& path : util::entries_of(blob.parent_path())) {
    const std::string name = path.filename().string();
    if (name.starts_with(begin) && name.ends_with(end) &&
        fs::is_regular_file(fs::symlink_status(path, ignored)))
      found.push_back(path);
  }
  return found;
}

/// Seconds since a file was last written to.
double seconds_idle(const struct stat& status) {
  return std::difftime(std::time(nullptr), status.st_mtime);
}

/// Calls `take` with the pieces of a file, from its beginning.
template <typename Take>
void read_through(int descriptor, const fs::path& path, const Take& take) {
  std::vector<char> piece(std::size_t{1} << 20);
  for (off_t at = 0;;) {
    if (util::interrupted()) throw util::interrupted_error();
    const ssize_t count = ::pread(descriptor, piece.data(), piece.size(), at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw cannot_put(path, std::strerror(errno));
    if (count == 0) return;
    take(std::string_view(piece.data(), static_cast<std::size_t>(count)));
    at += count;
  }
}

}  // namespace

/// The hash of a blob's name: SHA-256, or git's SHA-1 of a line that tells the size and of the content.
class BlobHash {
 public:
  /// `size`: of the content, which git's hash begins with.
  BlobHash(const std::string& etag, std::optional<std::uint64_t> size) : git_(etag.size() != 64) {
    if (git_ && size) update(cat("blob ", *size, std::string_view("\0", 1)));
  }
  void update(std::string_view bytes) {
    git_ ? sha1_.update(bytes.data(), bytes.size()) : sha256_.update(bytes.data(), bytes.size());
  }
  std::string hex_digest() { return git_ ? sha1_.hex_digest() : sha256_.hex_digest(); }

 private:
  bool git_;
  util::Sha256 sha256_;
  util::Sha1 sha1_;
};

bool has_content(const fs::path& path, const HubFile& file) {
  const Descriptor opened(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status;
  if (!opened.is_open() || ::fstat(opened.get(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (file.size && size != *file.size) return false;
  BlobHash hash(file.etag, size);
  read_through(opened.get(), path, [&](std::string_view bytes) { hash.update(bytes); });
  return hash.hex_digest() == file.etag;
}

CachedRepository::CachedRepository(fs::path cache, Repository repository)
    : cache_(std::move(cache)),
      repository_(std::move(repository)),
      folder_(cache_ / repository_.folder_name()) {}

bool CachedRepository::exists() const {
  return util::is_folder(folder_);
}

std::string CachedRepository::reference(const std::string& revision) const {
  constexpr std::uint64_t kMaxReference = 1024;
  try {
    return std::string(util::trimmed(util::read_file(folder_ / "refs" / revision, kMaxReference)));
  } catch (const util::Error&) {
    return {};
  }
}

std::optional<std::string> CachedRepository::commit_of(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  const fs::path file = folder_ / "refs" / revision;
  if (!util::is_file(file)) return std::nullopt;
  std::string commit = reference(revision);
  if (!is_commit(commit)) {
    throw util::format_error({.what = "damaged hub cache",
                              .where = file.string(),
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
  const fs::path target = snapshot(commit) / path, content = blob(etag);
  create_folders(target.parent_path());
  mark_present(commit, path);
  const fs::path own = target.parent_path() / cat(".", util::unique_name(), ".tmp");
  const fs::path relative = content.lexically_relative(target.parent_path());
  const bool linked =
      (!is_hub_switch_on("HF_HUB_DISABLE_SYMLINKS") && ::symlink(relative.c_str(), own.c_str()) == 0) ||
      ::linkat(AT_FDCWD, content.c_str(), AT_FDCWD, own.c_str(), AT_SYMLINK_FOLLOW) == 0;
  if (linked) {
    const int renamed = ::rename(own.c_str(), target.c_str());
    const int error = errno;
    ::unlink(own.c_str());  // still there as well where it is the same file as the target was
    if (renamed != 0) throw cannot_put(target, std::strerror(error));
    return;
  }
  const Descriptor opened(::open(content.c_str(), O_RDONLY | O_CLOEXEC));
  if (!opened.is_open()) throw cannot_put(content, std::strerror(errno));
  put(target, [&] {
    util::AtomicFile copy(target);
    read_through(opened.get(), content, [&](std::string_view bytes) { copy.write(bytes); });
    copy.commit();
  });
}

void CachedRepository::write_reference(const std::string& revision, const std::string& commit,
                                       const std::string& before) const {
  if (revision == commit) return;
  const std::string now = reference(revision);
  if (now == commit) return;
  if (now != before) {
    util::log_detail(cat(repository_.name, ": ", revision, " has become ", now, " meanwhile, and stays so"));
    return;
  }
  write_whole(folder_ / "refs" / revision, commit);
}

void CachedRepository::mark_present(const std::string& commit, const std::string& path) const {
  std::error_code ignored;
  fs::remove(folder_ / ".no_exist" / commit / path, ignored);
}

void CachedRepository::mark_absent(const std::string& commit, const std::string& path) const {
  const fs::path mark = folder_ / ".no_exist" / commit / path;
  if (!util::exists(mark)) write_whole(mark, "");
}

BlobLock::BlobLock(const CachedRepository& repository, const std::string& etag,
                   const std::function<bool()>& stop) {
  const fs::path path =
      repository.cache_ / ".locks" / repository.repository_.folder_name() / (etag + ".lock");
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  file_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664));
  const std::string why = error              ? error.message()
                          : !file_.is_open() ? std::string(std::strerror(errno))
                                             : acquire(repository, etag, stop);
  if (why.empty()) return;
  file_.reset();
  if (util::interrupted()) throw util::interrupted_error();
  if (stop && stop()) return;
  util::log_warning(cat("no lock in ", path.parent_path().string(), ": ", why,
                        "; goes on without, so that another process may fetch the same again"));
}

std::string BlobLock::acquire(const CachedRepository& repository, const std::string& etag,
                              const std::function<bool()>& stop) const {
  using Clock = std::chrono::steady_clock;
  constexpr auto kStep = std::chrono::milliseconds(50);
  constexpr double kTold = 3, kIdle = 60;  // seconds
  const auto began = Clock::now();
  bool told = false;
  while (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
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
    const bool at_work = std::any_of(files.begin(), files.end(), [&](const fs::path& file) {
      struct stat status;
      return ::lstat(file.c_str(), &status) == 0 && seconds_idle(status) < kIdle;
    });
    if (waited > kIdle && !at_work) return "held by a process that makes no progress";
    std::this_thread::sleep_for(kStep);
  }
  return {};
}

UnfinishedBlob::UnfinishedBlob(const CachedRepository& repository, HubFile file)
    : final_(repository.blob(file.etag)), file_(std::move(file)) {
  const util::Descriptor foreign = take_over();
  if (!opened_.is_open()) create();
  begin_hash();
  if (foreign.is_open()) read_through(foreign.get(), own_, [&](std::string_view bytes) { write(bytes); });
}

fs::path UnfinishedBlob::new_name() const {
  return final_.string() + "." + machine_digits() + util::unique_name().substr(0, 4) + kUnfinished;
}

void UnfinishedBlob::create() {
  create_folders(final_.parent_path());
  own_ = new_name();
  opened_.reset(::open(own_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!opened_.is_open()) throw cannot_put(own_, std::strerror(errno));
  locked_ = ::flock(opened_.get(), LOCK_EX | LOCK_NB) == 0;
}

/// The longest beginning that nobody is at work on: who is holds a lock on the file. That of another machine
/// may not be seen here, so that its files must not have grown for a while. It is returned, to be copied: who
/// wakes up there still has it open, and may begin it anew when it is finished here.
Descriptor UnfinishedBlob::take_over() {
  constexpr double kAbandoned = 60;
  const std::string of_machine = final_.filename().string() + "." + machine_digits();
  fs::path longest;
  Descriptor kept;
  bool is_own = false;
  std::uint64_t most = 0;
  for (const fs::path& path : unfinished_files(final_, kUnfinished)) {
    Descriptor opened(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat status;
    if (!opened.is_open() || ::fstat(opened.get(), &status) != 0) continue;
    if (!S_ISREG(status.st_mode) || status.st_nlink != 1) continue;  // not of our making
    const bool own = path.filename().string().starts_with(of_machine);
    const bool begun = status.st_size > 0;  // or just made, and about to be locked
    if ((!own || !begun) && seconds_idle(status) < kAbandoned) continue;
    if (::flock(opened.get(), LOCK_EX | LOCK_NB) != 0) continue;
    const auto length = static_cast<std::uint64_t>(status.st_size);
    if (length <= most || (file_.size && length > *file_.size)) {
      ::unlink(path.c_str());
      continue;
    }
    if (!longest.empty()) ::unlink(longest.c_str());
    longest = path;
    most = length;
    kept = std::move(opened);
    is_own = own;
  }
  if (longest.empty()) return {};
  if (!is_own) {
    ::unlink(longest.c_str());
    return kept;
  }
  own_ = new_name();
  if (::rename(longest.c_str(), own_.c_str()) != 0) return {};
  opened_ = std::move(kept);
  locked_ = true;
  return {};
}

/// Over what is in the file.
void UnfinishedBlob::begin_hash() {
  hash_ = std::make_unique<BlobHash>(file_.etag, file_.size);
  size_ = 0;
  read_through(opened_.get(), own_, [&](std::string_view bytes) {
    hash_->update(bytes);
    size_ += bytes.size();
  });
}

UnfinishedBlob::~UnfinishedBlob() {
  opened_.reset();
  if (!finished_ && !kept_) ::unlink(own_.c_str());
}

util::Error UnfinishedBlob::cannot_write(int error) const {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  std::string hint = "HF_HUB_CACHE names another folder";
  if (full) hint = "make room, or name another folder with HF_HUB_CACHE";
  if (full && locked_ && size_ > 0)
    hint += "; what has come so far is kept, and the same command goes on from it";
  return util::output_error({.what = cat("cannot write ", in_quotes(file_.path), " into the hub cache"),
                             .where = own_.parent_path().string(),
                             .found = std::strerror(error),
                             .hint = hint});
}

void UnfinishedBlob::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(opened_.get(), bytes.data(), bytes.size(), static_cast<off_t>(size_));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw cannot_write(errno);
    const auto length = static_cast<std::size_t>(count);
    hash_->update(bytes.substr(0, length));
    size_ += length;
    bytes.remove_prefix(length);
  }
}

void UnfinishedBlob::restart() {
  if (::ftruncate(opened_.get(), 0) != 0) throw cannot_write(errno);
  begin_hash();
}

/// Whether the file still has the name that it was made under.
bool UnfinishedBlob::has_name() const {
  struct stat opened, named;
  return ::fstat(opened_.get(), &opened) == 0 && ::lstat(own_.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

UnfinishedBlob::End UnfinishedBlob::finish() {
  const std::optional<std::uint64_t> told = file_.size;
  if (!told) {  // git's hash begins with the size
    file_.size = size_;
    begin_hash();
  }
  const bool right = hash_->hex_digest() == file_.etag && size_ == *file_.size;
  file_.size = told;
  if (!right) {
    restart();
    return End::kOtherContent;
  }
  if (::fsync(opened_.get()) != 0 && errno != EINVAL) throw cannot_write(errno);
  const bool named = has_name();
  if (::close(opened_.release()) != 0) throw cannot_write(errno);
  if (named && ::rename(own_.c_str(), final_.c_str()) == 0) {
    finished_ = true;
    return End::kFinished;
  }
  if (named && errno != ENOENT) throw cannot_write(errno);
  // A process of another machine may have taken the file over, and finished it.
  if (has_content(final_, file_)) {
    finished_ = true;
    return End::kFinished;
  }
  create();
  begin_hash();
  return End::kGone;
}

void UnfinishedBlob::keep() {
  kept_ = size_ > 0 && locked_;
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
