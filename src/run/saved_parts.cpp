// Reads and writes saved states.
#include "depthlens/run/saved_parts.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/folders.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::run {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxState = std::uint64_t{64} << 30;

/// "lock", "lock-3" of a rank, and both on their way out, with a unique name behind a point.
bool is_lock(const fs::path& file) {
  const std::vector<std::string> parts = util::split(file.filename().string(), '.');
  std::int64_t rank = 0;
  const bool is_named = parts[0] == "lock" || (parts[0].starts_with("lock-") &&
                                               util::parse_int(parts[0].substr(5), rank) && rank >= 0);
  return is_named && (parts.size() == 1 || (parts.size() == 2 && util::is_unique_name(parts[1])));
}

/// Whether it has the name of a file of a run's `parts`: states, records, unfinished ones, locks.
bool is_saved(const fs::path& file) {
  std::error_code ignored;
  if (fs::is_directory(file, ignored)) return false;
  if (is_lock(file)) return true;
  const std::vector<std::string> parts = util::split(file.filename().string(), '.');
  return parts.size() >= 2 && util::is_unique_name(parts[0]) &&
         (parts[1] == "state" || parts[1] == "records") &&
         (parts.size() == 2 || (parts.size() == 4 && util::is_unique_name(parts[2]) && parts[3] == "tmp"));
}

/// Throws where the records of a state are not as long as they have to be: when the run is written it would
/// be too late. Their contents are checked then.
void check_records(const SavedState& state) {
  for (const RecordSegment& segment : state.records) {
    const fs::path file = state.path.parent_path() / segment.file;
    std::error_code error;
    const std::uintmax_t size = fs::file_size(file, error);
    if (!error && size >= segment.offset + segment.length) continue;
    throw util::format_error({.what = "the records that belong to a saved state are not whole",
                              .where = util::in_quotes(file.string()),
                              .expected = util::cat(segment.offset + segment.length, " bytes or more"),
                              .found = error ? error.message() : util::cat(size),
                              .hint = "begin anew with --overwrite"});
  }
}

}  // namespace

void Arithmetic::add(const Arithmetic& other) {
  kernels.insert(other.kernels.begin(), other.kernels.end());
  is_fast = is_fast || other.is_fast;
}

util::OrderedJson Arithmetic::json() const {
  return {{"kernels", kernels}, {"is_fast", is_fast}};
}

Arithmetic Arithmetic::from_json(const util::JsonView& json) {
  Arithmetic arithmetic{.is_fast = json.at("is_fast").as_bool()};
  const util::JsonView kernels = json.at("kernels");
  for (std::size_t i = 0; i < kernels.size(); ++i) arithmetic.kernels.insert(kernels.at(i).as_string());
  return arithmetic;
}

SavedParts::SavedParts(const fs::path& run) : folder_(run / "parts"), name_(util::unique_name()) {}

std::vector<fs::path> SavedParts::paths() const {
  return util::entries_with(folder_, ".state");
}

SavedState SavedParts::read(const fs::path& path) {
  SavedState saved;
  std::string header;
  saved.state = tables::State::from_bytes(util::read_file(path, kMaxState), path.string(), header);
  saved.path = path;
  util::OrderedJson document = util::parse_ordered_json(header, path.string());
  using Type = util::OrderedJson::value_t;
  const auto take = [&](const char* key, Type type) {
    if (document.is_object() && document.contains(key) && document.at(key).type() == type)
      return std::move(document.at(key));
    throw util::format_error({.what = "not a saved state of a run",
                              .where = path.string(),
                              .expected = util::cat("a header with \"", key, "\""),
                              .hint = "remove the file where no run has left it there"});
  };
  saved.description.run = take("run", Type::object);
  saved.description.context = take("context", Type::object);
  const util::Json parts(take("parts", Type::array)), segments(take("records", Type::array));
  if (document.contains("share")) {
    const util::Json share(take("share", Type::object));
    saved.description.share = Shard::from_json({share, path.string()});
  }
  if (document.contains("arithmetic")) {
    const util::Json arithmetic(take("arithmetic", Type::object));
    saved.description.arithmetic = Arithmetic::from_json({arithmetic, path.string()});
  }
  saved.parts = PartSet::from_json({parts, path.string()});
  const util::JsonView records(segments, path.string());
  for (std::size_t i = 0; i < records.size(); ++i)
    saved.records.push_back(RecordSegment::from_json(records.at(i)));
  return saved;
}

std::vector<SavedState> SavedParts::read() const {
  std::vector<SavedState> all;
  for (const fs::path& path : paths()) {
    all.push_back(read(path));
    check_records(all.back());
  }
  return all;
}

fs::path SavedParts::new_records() const {
  return folder_ / (name_ + ".records");
}

SavedState SavedParts::read_when_there(const std::string& name, std::chrono::seconds timeout,
                                       const std::function<bool()>& should_stop) const {
  const fs::path path = folder_ / name;
  const auto begin = std::chrono::steady_clock::now();
  while (!util::exists(path) && std::chrono::steady_clock::now() - begin < timeout) {
    if (should_stop()) throw util::interrupted_error();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  return read(path);
}

void SavedParts::save(const tables::State& state, const PartSet& parts,
                      const std::vector<RecordSegment>& records, const SavedDescription& description) {
  util::OrderedJson header = {{"parts", parts.json()},
                              {"records", util::OrderedJson::array()},
                              {"run", description.run},
                              {"context", description.context},
                              {"arithmetic", description.arithmetic.json()}};
  if (description.share) header["share"] = description.share->json();
  for (const RecordSegment& segment : records) header["records"].push_back(segment.json());
  util::create_folders(folder_);
  const fs::path path = folder_ / (name_ + ".state");
  util::write_file(path, state.to_bytes(util::json_text(header)));
  saved_ = path;
  std::error_code ignored;
  for (const fs::path& other : absorbed_) fs::remove(other, ignored);
  absorbed_.clear();
}

void SavedParts::absorb(const std::vector<SavedState>& states) {
  for (const SavedState& state : states) absorbed_.push_back(state.path);
}

void SavedParts::absorb_all() {
  for (const fs::path& file : util::entries_of(folder_)) {
    if (is_saved(file) && !is_lock(file)) absorbed_.push_back(file);
  }
}

void SavedParts::remove() {
  std::error_code ignored;
  // States first: one whose records are gone would be in the way of everything.
  for (const fs::path& state : paths()) fs::remove(state, ignored);
  for (const fs::path& file : util::entries_of(folder_)) {
    if (is_saved(file)) fs::remove(file, ignored);
  }
  fs::remove(folder_, ignored);
}

void SavedParts::check_own(const fs::path& run) {
  for (const fs::path& entry : util::entries_of(run / "parts")) {
    if (is_saved(entry)) continue;
    throw util::output_error({.what = "no saved state of a run, and nothing else is replaced",
                              .where = util::in_quotes(entry.string()),
                              .hint = "choose another --out, or move that folder elsewhere"});
  }
}

/// The file, and a thread that touches it.
struct FolderLock::Keeper {
  static constexpr auto kEvery = std::chrono::seconds(10);
  // Of another machine: how long the file may stay as it is before its process is taken to be gone.
  static constexpr auto kGone = std::chrono::seconds(45);

  Keeper(const fs::path& kept, const std::string& below, const std::string& name)
      : folder(kept),
        path(kept / below / name),
        text(util::cat(util::host_name(), "\n", ::getpid(), "\n", start_of(::getpid()), "\n",
                       util::unique_name())) {
    while (!create()) {
      const std::string other = checked_content();
      if (is_at_work(other)) refuse(other);
      util::log_info(util::cat(path.string(), " was left by a process that is gone"));
      // Renaming is atomic: of several that take over, one has it. Another may have come before, whose lock
      // this is now: it gets it back.
      const fs::path aside = path.string() + "." + util::unique_name();
      if (::rename(path.c_str(), aside.c_str()) != 0) continue;
      if (content_of(aside) != other) ::link(aside.c_str(), path.c_str());
      ::unlink(aside.c_str());
    }
    toucher = std::thread([this] {
      std::unique_lock lock(mutex);
      while (!ended.wait_for(lock, kEvery, [this] { return done; }))
        ::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
    });
  }

  ~Keeper() {
    {
      const std::scoped_lock lock(mutex);
      done = true;
    }
    ended.notify_all();
    toucher.join();
    if (content() != text) file->keep();  // somebody else's
  }

  /// False where there is one.
  bool create() {
    try {
      file = std::make_unique<util::GrowingFile>(path);  // which also goes when a signal ends the program
    } catch (const util::Error&) {
      if (util::exists(path)) return false;
      throw;
    }
    file->write(text);
    file->flush();
    return true;
  }

  /// Whether a lock of ours says so; it says nothing where it is about to be written.
  static bool is_of_lock(const std::string& text) {
    const std::vector<std::string> lines = util::split(text, '\n');
    std::int64_t pid = 0;
    return text.empty() ||
           (lines.size() == 4 && util::parse_int(lines[1], pid) && util::is_unique_name(lines[3]));
  }

  /// What is in the file. Throws an output error for one that somebody else has called so.
  std::string checked_content() const {
    std::string there = content();
    if (is_of_lock(there)) return there;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // it may have been half written
    there = content();
    if (is_of_lock(there)) return there;
    throw util::output_error({.what = "a file that is no lock of depthlens, and nothing else is replaced",
                              .where = util::in_quotes(path.string()),
                              .hint = "choose another --out, or remove that file"});
  }

  std::string content() const { return content_of(path); }
  static std::string content_of(const fs::path& path) {
    std::ifstream there(path);
    std::ostringstream bytes;
    bytes << there.rdbuf();
    return bytes.str();
  }

  /// When a process of this machine was started, in the kernel's count; "" where there is none, or where it
  /// has ended and only its parent has not asked how.
  static std::string start_of(std::int64_t pid) {
    std::ifstream status(util::cat("/proc/", pid, "/stat"));
    std::string text;
    std::getline(status, text);
    const std::size_t name_end = text.rfind(')');  // the name may hold anything
    if (name_end == text.npos) return "";
    std::istringstream fields(text.substr(name_end + 1));
    std::string field;
    fields >> field;  // the third: its state
    if (field == "Z" || field == "X") return "";
    for (int i = 4; i <= 22; ++i) fields >> field;
    return field;
  }

  bool is_at_work(const std::string& other) const {
    const std::vector<std::string> lines = util::split(other, '\n');
    std::int64_t pid = 0;
    if (lines.size() >= 3 && lines[0] == util::host_name() && util::parse_int(lines[1], pid))
      return start_of(pid) == lines[2];
    struct stat before = {};
    if (::stat(path.c_str(), &before) != 0) return false;
    util::log_info(util::cat("waiting: ", path.string(), " says that a process on ",
                             lines.empty() ? "another machine" : lines[0], " is at work here"));
    for (auto waited = std::chrono::seconds(0); waited < kGone; waited += std::chrono::seconds(1)) {
      std::this_thread::sleep_for(std::chrono::seconds(1));
      struct stat now = {};
      if (::stat(path.c_str(), &now) != 0) return false;
      if (now.st_mtim.tv_sec != before.st_mtim.tv_sec || now.st_mtim.tv_nsec != before.st_mtim.tv_nsec)
        return true;
    }
    return false;
  }

  [[noreturn]] void refuse(const std::string& other) const {
    const std::vector<std::string> lines = util::split(other, '\n');
    throw util::output_error(
        {.what = "another process is at work in the folder",
         .where = util::in_quotes(folder.string()),
         .found = lines.size() >= 2 ? util::cat("process ", lines[1], " on ", lines[0]) : "",
         .hint = "wait for its end, or choose another --out"});
  }

  fs::path folder, path;
  std::string text;
  std::unique_ptr<util::GrowingFile> file;
  std::mutex mutex;
  std::condition_variable ended;
  bool done = false;
  std::thread toucher;
};

FolderLock::FolderLock(const fs::path& folder, const std::string& below, const std::string& name) {
  util::create_folders(folder / below);
  keeper_ = std::make_unique<Keeper>(folder, below, name);
}

const std::string& FolderLock::text() const {
  return keeper_->text;
}

std::string FolderLock::text_in(const fs::path& folder) {
  return Keeper::content_of(folder / kOfRuns / kName);
}

FolderLock::~FolderLock() {
  if (!keeper_) return;
  const fs::path folder = keeper_->path.parent_path();
  keeper_.reset();
  std::error_code ignored;
  fs::remove(folder, ignored);  // where nothing was saved
}

}  // namespace depthlens::run
