// Ctrl-C and SIGTERM. The first signal ends the program at once, whatever it is doing, unless it holds work
// that is worth saving and says so by FinishOnInterrupt: then the signal only sets a flag that its loops look
// at. A second signal ends the program in any case, but for a SIGTERM within ten seconds of the first signal.
#pragma once

namespace depthlens::util {

/// Begins to watch for signals. To be called before any thread is started, since threads inherit which
/// signals are held back. `end` is called on a thread of its own, may use locks, and must not return.
void watch_interrupts(void (*end)());

/// While one lives, the first signal leaves it to the program to finish what it is at and save it.
class FinishOnInterrupt {
 public:
  FinishOnInterrupt();
  ~FinishOnInterrupt();
  FinishOnInterrupt(const FinishOnInterrupt&) = delete;
  FinishOnInterrupt& operator=(const FinishOnInterrupt&) = delete;
};

/// Whether a signal came that the program is to act on itself.
bool interrupted();

}  // namespace depthlens::util
