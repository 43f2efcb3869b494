// Ctrl-C, SIGTERM and SIGHUP.
//
// A thread of its own waits for the signals, which are held back from all others. So the end of the program
// may remove unfinished files, under a lock, which a signal handler may not; and nothing that is slow
// (reading a prompt, copying a model) has to look at a flag.
#include "depthlens/util/interrupt.hpp"

#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::util {
namespace {

std::atomic<int> finishing = 0;  // number of FinishOnInterrupt
std::atomic<int> first_signal = 0;
std::atomic<bool> work_done = false;
constexpr auto kSameEnd = std::chrono::seconds(10);

/// That the signal was heard, unless it came too late for that. The file that completes the work may have its
/// name while that is not noted yet.
void tell() {
  const auto lock = hold_commits();
  if (work_done) return;
  if (::isatty(STDERR_FILENO) == 1) std::fputc('\n', stderr);  // a line of progress may stand there
  log_info("saving what is finished; a second Ctrl-C stops at once");
}

/// Whether a signal that comes after the first one belongs to the same end. A launcher under a scheduler
/// passes on the SIGTERM that its ranks have had already; when a terminal closes, the system and the shell
/// both say so.
bool is_same_end(int signal, std::chrono::steady_clock::duration since_first) {
  return signal == SIGHUP || (signal == SIGTERM && since_first < kSameEnd);
}

}  // namespace

void watch_interrupts(void (*end)()) {
  for (const int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    // A shell's background jobs ignore SIGINT, and it would never arrive; nohup ignores SIGHUP, and means it.
    const auto before = std::signal(signal, SIG_DFL);
    if (signal == SIGHUP && before == SIG_IGN) {
      std::signal(signal, SIG_IGN);
    } else {
      sigaddset(&signals, signal);
    }
  }
  pthread_sigmask(SIG_SETMASK, &signals, nullptr);  // whatever the caller held back
  std::thread([signals, end] {
    std::chrono::steady_clock::time_point first;
    while (true) {
      int signal = 0;
      if (sigwait(&signals, &signal) != 0) continue;
      const auto now = std::chrono::steady_clock::now();
      const bool again = first_signal != 0;
      if (!again) {
        first_signal = signal;
        first = now;
      }
      if (finishing > 0 && (!again || is_same_end(signal, now - first))) {
        if (!again) tell();
        continue;
      }
      end();
    }
  }).detach();
}

void end_with_parent(const char* process) {
  std::int64_t parent = 0;
  if (process == nullptr || !parse_int(process, parent) || parent <= 1) return;
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  // It may have died before. Where a script stands between, it is not the parent that getppid() names.
  if (::getppid() != parent && ::kill(static_cast<pid_t>(parent), 0) != 0 && errno == ESRCH)
    ::kill(::getpid(), SIGTERM);
}

FinishOnInterrupt::FinishOnInterrupt() {
  ++finishing;
}

FinishOnInterrupt::~FinishOnInterrupt() {
  --finishing;
}

void set_work_done() {
  work_done = true;
}

bool work_is_done() {
  return work_done;
}

bool interrupted() {
  return first_signal != 0 && !work_done;
}

int interrupted_status() {
  if (work_done) return 0;
  return first_signal == SIGHUP ? 128 + SIGHUP : static_cast<int>(ErrorCode::kInterrupted);
}

}  // namespace depthlens::util
