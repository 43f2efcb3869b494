// Ctrl-C, SIGTERM and SIGHUP. The first signal ends the program at once, whatever it is doing, unless it
// holds work that is worth saving and says so by FinishOnInterrupt: then the signal only sets a flag that its
// loops look at. A second signal ends the program in any case, but for SIGHUP and for a SIGTERM within ten
// seconds of the first signal.
#pragma once

namespace depthlens::util {

/// Begins to watch for signals. To be called before any thread is started, since threads inherit which
/// signals are held back. `end` is called on a thread of its own, may use locks, and must not return.
///
/// SIGHUP is left alone where it is ignored already. SIGPIPE and SIGXFSZ are ignored from here on: writing to
/// a pipe that nobody reads, or beyond the size that is allowed (`ulimit -f`), fails like any other writing,
/// and a message that is lost does not cost the work.
void watch_interrupts(void (*end)());

/// Where `process`, which may be nullptr, is the number of the process that started this one: has the system
/// send a SIGTERM when that dies, so that a run does not outlive the Python that waits for it. The system
/// counts the death of the thread that started this process as that of the parent.
void end_with_parent(const char* process);

/// While one lives, the first signal leaves it to the program to finish what it is at and save it.
class FinishOnInterrupt {
 public:
  FinishOnInterrupt();
  ~FinishOnInterrupt();
  FinishOnInterrupt(const FinishOnInterrupt&) = delete;
  FinishOnInterrupt& operator=(const FinishOnInterrupt&) = delete;
};

/// Says that what the program was started for is there, whole and in its place: from now on a signal ends it
/// with success, one that came before is forgotten, and what is left to do is to tidy up.
void set_work_done();
bool work_is_done();

/// Whether a signal came that the program is to act on itself.
bool interrupted();

/// The exit status of an end by the signal that came first: 129 for SIGHUP, else 130; 0 where the work was
/// done.
int interrupted_status();

}  // namespace depthlens::util
