// Threads that stay, for work that falls into pieces.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace depthlens::util {

/// Threads that call `work`: as many as wanted, or as the system allows. Throws std::system_error where that
/// is none. To be joined by the caller.
std::vector<std::thread> start_threads(std::size_t wanted, const std::function<void()>& work);

/// Deals out pieces of work, each long enough (tens of microseconds) to be worth the way to another thread.
class Threads {
 public:
  /// `count` ≥ 1, that of the caller among them. They are started when there is work for them.
  explicit Threads(int count);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int count() const { return count_; }

  /// Calls use(i) for 0 ≤ i < count, on the caller's thread and those that are free, each taking the next i.
  /// Returns when all is done. Of errors that of the lowest i is thrown; what had not begun by then is not
  /// done. May be called from within `use`, and by several threads: who waits helps the others.
  void for_each(std::int64_t count, const std::function<void(std::int64_t i)>& use);

 private:
  struct Job;
  using Lock = std::unique_lock<std::mutex>;

  void run();
  void do_next(Job& job, Lock& lock);
  void close(Job& job);

  const int count_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Job*> open_;  // of which pieces have not begun; the innermost last
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace depthlens::util
