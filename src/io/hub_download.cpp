// Several files at once, each under its lock, and one line of progress.
#include "hub_download.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/folders.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "depthlens/util/threads.hpp"

namespace depthlens::io {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::in_quotes;

constexpr std::size_t kAtOnce = 4;

/// Whether the blob is there and right, whoever has put it there.
bool has_blob(const CachedRepository& cached, const HubFile& file, bool tells) {
  const fs::path blob = cached.blob(file.etag);
  if (!util::exists(blob)) return false;
  constexpr std::uint64_t kLong = std::uint64_t{1} << 30;
  if (tells && file.size.value_or(0) > kLong)
    util::log_info(cat(file.path, ": ", util::as_bytes(*file.size), " are here; their hash is compared"));
  const bool right = has_content(blob, file);
  if (tells && !right) util::log_info(cat(blob.string(), ": damaged, and fetched anew for ", file.path));
  return right;
}

/// Throws where the known sizes are more than the disk has left.
void check_room(const CachedRepository& cached, const std::vector<HubFile>& files) {
  std::uint64_t needed = 0;
  for (const HubFile& file : files) needed += file.size.value_or(0);
  std::error_code error;
  fs::path place = fs::absolute(cached.folder(), error);
  while (place.has_relative_path() && !fs::exists(place, error)) place = place.parent_path();
  const fs::space_info room = fs::space(place, error);
  if (error || needed <= room.available) return;
  // What an earlier try has left counts as done.
  for (const fs::path& path : util::entries_of(cached.folder() / "blobs")) {
    const std::string name = path.filename().string();
    const bool begun = std::any_of(files.begin(), files.end(),
                                   [&](const HubFile& file) { return name.rfind(file.etag + ".", 0) == 0; });
    std::error_code ignored;
    const std::uintmax_t size = begun ? fs::file_size(path, ignored) : 0;
    if (begun && !ignored) needed -= std::min<std::uint64_t>(needed, size);
  }
  if (needed <= room.available) return;
  throw util::output_error({.what = "no room for " + in_quotes(cached.repository().name),
                            .where = cached.folder().parent_path().string(),
                            .expected = util::as_bytes(needed),
                            .found = util::as_bytes(room.available) + " left",
                            .hint = "HF_HUB_CACHE names another folder"});
}

/// What the threads share.
struct Work {
  std::vector<HubFile> files;
  std::atomic<std::size_t> next = 0;
  std::atomic<std::int64_t> there = 0;  ///< bytes, those of earlier tries included
  std::atomic<std::int64_t> found = 0;  ///< of these, what did not come over the network now
  std::atomic<bool> stop = false;
  std::mutex mutex;
  std::condition_variable ended;
  std::size_t running = 0;
  std::exception_ptr error = nullptr;  ///< the first
};

/// Counts what goes into a blob.
class CountingSink : public HubSink {
 public:
  CountingSink(HubSink& sink, std::atomic<std::int64_t>& count) : sink_(sink), count_(count) {}
  std::uint64_t size() const override { return sink_.size(); }
  void write(std::string_view bytes) override {
    sink_.write(bytes);
    count_ += static_cast<std::int64_t>(bytes.size());
  }
  void restart() override {
    count_ -= static_cast<std::int64_t>(sink_.size());
    sink_.restart();
  }

 private:
  HubSink& sink_;
  std::atomic<std::int64_t>& count_;
};

void fetch_one(const CachedRepository& cached, const HubFile& file, HubClient& client, Work& work) {
  const BlobLock lock(cached, file.etag, [&] { return work.stop.load(); });
  if (work.stop) return;
  if (has_blob(cached, file, /*tells=*/false)) {  // by now
    work.there += static_cast<std::int64_t>(file.size.value_or(0));
    work.found += static_cast<std::int64_t>(file.size.value_or(0));
    return;
  }
  UnfinishedBlob blob(cached, file);
  if (blob.size() > 0)
    util::log_info(cat(file.path, ": goes on after ", util::as_bytes(blob.size()), " that are here"));
  work.there += static_cast<std::int64_t>(blob.size());
  work.found += static_cast<std::int64_t>(blob.size());
  CountingSink sink(blob, work.there);
  try {
    constexpr int kMaxFetches = 2;
    for (int tries = 1;; ++tries) {
      client.fetch(cached.repository(), file, sink);
      const auto received = static_cast<std::int64_t>(blob.size());
      const UnfinishedBlob::End end = blob.finish();
      if (end == UnfinishedBlob::End::kFinished) return;
      const bool gone = end == UnfinishedBlob::End::kGone;
      work.there -= received;
      if (tries == kMaxFetches && gone) {
        throw util::output_error({.what = cat("what has come of ", in_quotes(file.path), " was taken away"),
                                  .where = cached.blob(file.etag).parent_path().string(),
                                  .hint = "run the command again when nobody clears the cache"});
      }
      if (tries == kMaxFetches) {
        throw util::format_error(
            {.what = cat("the hub gives another content than it has announced for ", in_quotes(file.path)),
             .where = cached.repository().name,
             .expected = (file.etag.size() == 64 ? "SHA-256 " : "git SHA-1 ") + file.etag,
             .hint = "something on the way may have changed it; try again later"});
      }
      util::log_info(cat(file.path, gone ? ": taken away by another" : ": damaged on the way",
                         "; once more from its beginning"));
    }
  } catch (...) {
    blob.keep();
    throw;
  }
}

void work_through(const CachedRepository& cached, const HubClientSettings& settings, Work& work) {
  try {
    HubClient client(settings, [&] { return work.stop.load(); });
    for (std::size_t i = work.next++; i < work.files.size() && !work.stop; i = work.next++)
      fetch_one(cached, work.files[i], client, work);
  } catch (...) {
    const std::scoped_lock lock(work.mutex);
    if (!work.error) work.error = std::current_exception();
    work.stop = true;
  }
  const std::scoped_lock lock(work.mutex);
  --work.running;
  work.ended.notify_all();
}

}  // namespace

std::uint64_t fetch_blobs(const CachedRepository& cached, const std::vector<HubFile>& files,
                          const HubClientSettings& settings, bool shows_progress) {
  Work work;
  std::set<std::string> seen;
  std::int64_t total = 0;
  bool all_known = true;
  for (const HubFile& file : files) {
    if (!seen.insert(file.etag).second || has_blob(cached, file, /*tells=*/true)) continue;
    work.files.push_back(file);
    all_known = all_known && file.size.has_value();
    total += static_cast<std::int64_t>(file.size.value_or(0));
  }
  if (work.files.empty()) return 0;
  check_room(cached, work.files);

  constexpr std::int64_t kSoon = std::int64_t{4} << 20;
  std::optional<util::Progress> progress;
  if (shows_progress && (total > kSoon || !all_known))
    progress.emplace(cached.repository().name, "bytes", all_known ? total : 0);
  std::int64_t shown = 0, shown_found = 0;
  const auto show = [&] {
    if (!progress) return;
    const std::int64_t found = work.found, there = work.there;
    progress->skip(found - shown_found);
    shown += found - shown_found;
    shown_found = found;
    progress->advance(there - shown);
    shown = there;
  };
  const std::size_t wanted = std::min(kAtOnce, work.files.size());
  work.running = wanted;
  std::vector<std::thread> threads =
      util::start_threads(wanted, [&] { work_through(cached, settings, work); });
  {
    std::unique_lock lock(work.mutex);
    work.running -= wanted - threads.size();
    while (!work.ended.wait_for(lock, std::chrono::milliseconds(200), [&] { return work.running == 0; })) {
      lock.unlock();
      show();
      lock.lock();
    }
  }
  for (std::thread& thread : threads) thread.join();
  show();
  if (work.error) {
    progress.reset();
    std::rethrow_exception(work.error);
  }
  if (progress) progress->finish();
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, work.there - work.found));
}

}  // namespace depthlens::io
