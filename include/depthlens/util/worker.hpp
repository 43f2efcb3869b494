// A thread beside the caller's, for work that goes on while the caller does something else.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace depthlens::util {

/// Does pieces of work one after the other, in the order in which they are given. While one is done, one more
/// at most is waiting. For one caller: no two threads may call the same worker.
class Worker {
 public:
  using Work = std::function<void()>;

  enum class Where {
    kOwnThread,
    kHere,  ///< on the caller's thread: `submit` does the work before it returns, and throws what it throws
  };
  explicit Worker(Where where);
  /// Waits for all work that was given. An error of which nobody was told is lost.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Gives it work; where a piece is waiting already, waits until that has been taken up. Throws what work
  /// before has thrown, once; whatever is given after that is not done.
  void submit(Work work);
  /// Waits until all work is done. Throws as `submit`.
  void wait();
  /// Waits likewise, and leaves an error to the next call: for destructors.
  void settle();

 private:
  void run();
  void throw_error();

  const Where where_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Work waiting_;              // empty: none
  bool busy_ = false;         // with a piece that is no longer waiting
  bool ends_ = false;         // the thread shall end when nothing is waiting
  bool failed_ = false;       // nothing more is done
  std::exception_ptr error_;  // of which the caller has not been told
  std::thread thread_;        // last: begins when all else is there
};

}  // namespace depthlens::util
