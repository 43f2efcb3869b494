// SIGBUS → the file that was mapped there.
#include "depthlens/util/mapped_pages.hpp"

#include <semaphore.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace depthlens::util {
namespace {

namespace fs = std::filesystem;

struct Maps {
  std::mutex mutex;
  std::map<const std::byte*, std::pair<std::size_t, fs::path>> by_begin;
};

Maps& maps() {
  static auto* const all = new Maps;  // never destroyed: maps may live until the end
  return *all;
}

std::optional<fs::path> file_at(const void* address) {
  const auto* byte = static_cast<const std::byte*>(address);
  const std::scoped_lock lock(maps().mutex);
  auto next = maps().by_begin.upper_bound(byte);
  if (next == maps().by_begin.begin()) return std::nullopt;
  const auto& [begin, what] = *--next;
  if (byte >= begin + what.first) return std::nullopt;
  return what.second;
}

std::atomic<const void*> touched = nullptr;
sem_t was_touched;

/// Only what a signal handler may do. Then this thread is over, whatever comes of it.
void on_bus_error(int /*signal*/, siginfo_t* info, void* /*context*/) {
  const void* none = nullptr;
  if (touched.compare_exchange_strong(none, info->si_addr)) ::sem_post(&was_touched);
  while (true) ::pause();
}

}  // namespace

void watch_mapped_pages(void (*end)(const fs::path& file)) {
  ::sem_init(&was_touched, 0, 0);
  struct sigaction action = {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
  std::thread([end] {
    while (::sem_wait(&was_touched) != 0 && errno == EINTR) continue;
    if (const auto file = file_at(touched)) end(*file);
    std::signal(SIGBUS, SIG_DFL);
    ::kill(::getpid(), SIGBUS);
  }).detach();
}

void add_mapped(const void* address, std::size_t size, const fs::path& file) {
  const std::scoped_lock lock(maps().mutex);
  maps().by_begin[static_cast<const std::byte*>(address)] = {size, file};
}

void remove_mapped(const void* address) {
  const std::scoped_lock lock(maps().mutex);
  maps().by_begin.erase(static_cast<const std::byte*>(address));
}

}  // namespace depthlens::util
