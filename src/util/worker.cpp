// A thread with room for one more piece of work than it is doing.
#include "depthlens/util/worker.hpp"

#include <utility>

namespace depthlens::util {

Worker::Worker(Where where) : where_(where) {
  if (where_ == Where::kOwnThread) thread_ = std::thread([this] { run(); });
}

Worker::~Worker() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Worker::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return waiting_ || ends_; });
    if (!waiting_) return;
    Work work = std::exchange(waiting_, nullptr);
    busy_ = !failed_;
    changed_.notify_all();
    if (!busy_) continue;
    lock.unlock();
    std::exception_ptr error;
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    work = nullptr;  // what it holds is not held any longer than it takes
    lock.lock();
    busy_ = false;
    if (error) failed_ = true;
    error_ = error;
    changed_.notify_all();
  }
}

void Worker::throw_error() {
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void Worker::submit(Work work) {
  if (where_ == Where::kHere) return work();
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !waiting_; });
    throw_error();
    if (failed_) return;
    waiting_ = std::move(work);
  }
  changed_.notify_all();
}

void Worker::wait() {
  settle();
  const std::lock_guard lock(mutex_);
  throw_error();
}

void Worker::settle() {
  if (where_ == Where::kHere) return;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !waiting_ && !busy_; });
}

}  // namespace depthlens::util
