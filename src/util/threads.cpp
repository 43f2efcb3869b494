// Open jobs in a list, of which every free thread takes the next piece. A piece waits only for pieces that
// began after it: there is no circle of threads that wait for each other.
#include "depthlens/util/threads.hpp"

#include <algorithm>
#include <limits>
#include <system_error>

#include "depthlens/util/error.hpp"

namespace depthlens::util {

std::vector<std::thread> start_threads(std::size_t wanted, const std::function<void()>& work) {
  std::vector<std::thread> threads;
  threads.reserve(wanted);
  while (threads.size() < wanted) {
    try {
      threads.emplace_back(work);
    } catch (const std::system_error&) {
      if (threads.empty()) throw;
      break;
    }
  }
  return threads;
}

struct Threads::Job {
  const std::function<void(std::int64_t)>& use;
  std::int64_t count;
  std::int64_t next = 0;     // == count: all have begun, or nothing more shall
  std::int64_t running = 0;  // pieces
  std::int64_t failed = std::numeric_limits<std::int64_t>::max();
  std::exception_ptr error = nullptr;  // of piece `failed`
};

Threads::Threads(int count) : count_(count) {
  DEPTHLENS_ASSERT(count >= 1);
}

Threads::~Threads() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Threads::close(Job& job) {
  job.next = job.count;
  std::erase(open_, &job);
}

void Threads::do_next(Job& job, Lock& lock) {
  const std::int64_t i = job.next++;
  if (job.next == job.count) close(job);
  ++job.running;
  lock.unlock();
  std::exception_ptr error;
  try {
    job.use(i);
  } catch (...) {
    error = std::current_exception();
  }
  lock.lock();
  --job.running;
  if (error) {
    close(job);
    // Pieces begin in their order, so that the lowest that fails has always begun.
    if (i < job.failed) {
      job.failed = i;
      job.error = error;
    }
  }
  if (job.running == 0 && job.next == job.count) changed_.notify_all();
}

void Threads::run() {
  Lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ends_ || !open_.empty(); });
    if (open_.empty()) return;
    do_next(*open_.back(), lock);
  }
}

void Threads::for_each(std::int64_t count, const std::function<void(std::int64_t i)>& use) {
  if (count_ == 1 || count <= 1) {
    for (std::int64_t i = 0; i < count; ++i) use(i);
    return;
  }
  Job job{.use = use, .count = count};
  Lock lock(mutex_);
  while (static_cast<std::int64_t>(threads_.size()) < std::min<std::int64_t>(count_, count) - 1)
    threads_.emplace_back([this] { run(); });
  open_.push_back(&job);
  changed_.notify_all();
  while (job.next < job.count) do_next(job, lock);
  while (job.running > 0) {
    if (open_.empty()) {
      changed_.wait(lock);
    } else {
      do_next(*open_.back(), lock);
    }
  }
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace depthlens::util
