// Ctrl-C and SIGTERM.
//
// A thread of its own waits for the signals, which are held back from all others. So the end of the program
// may remove unfinished files, under a lock, which a signal handler may not; and nothing that is slow
// (reading a prompt, copying a model) has to look at a flag.
#include "depthlens/util/interrupt.hpp"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "depthlens/util/log.hpp"

namespace depthlens::util {
namespace {

std::atomic<int> finishing = 0;  // number of FinishOnInterrupt
std::atomic<bool> asked = false;
constexpr auto kSameEnd = std::chrono::seconds(10);

/// That the signal was heard.
void tell() {
  if (::isatty(STDERR_FILENO) == 1) std::fputc('\n', stderr);  // a line of progress may stand there
  log_info("saving what is finished; a second Ctrl-C stops at once");
}

}  // namespace

void watch_interrupts(void (*end)()) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM}) {
    std::signal(signal, SIG_DFL);  // a shell's background jobs ignore SIGINT, and it would never arrive
    sigaddset(&signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals, end] {
    std::chrono::steady_clock::time_point first;
    while (true) {
      int signal = 0;
      if (sigwait(&signals, &signal) != 0) continue;
      const auto now = std::chrono::steady_clock::now();
      const bool again = asked.exchange(true);
      if (!again) first = now;
      // A launcher under a scheduler passes on the SIGTERM that its ranks have had already.
      if (finishing > 0 && (!again || (signal == SIGTERM && now - first < kSameEnd))) {
        if (!again) tell();
        continue;
      }
      end();
    }
  }).detach();
}

FinishOnInterrupt::FinishOnInterrupt() {
  ++finishing;
}

FinishOnInterrupt::~FinishOnInterrupt() {
  --finishing;
}

bool interrupted() {
  return asked;
}

}  // namespace depthlens::util
