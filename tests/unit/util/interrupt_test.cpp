// Signals and the exit statuses that they bring, each in a process of its own.
#include "depthlens/util/interrupt.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <functional>

#include "support/catch.hpp"

namespace depthlens::util {
namespace {

constexpr int kNoSignal = 99;

/// The exit status of a process that watches for signals and does this.
int status_of(const std::function<void()>& work) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    watch_interrupts([] { ::_exit(interrupted_status()); });
    work();
    ::_exit(kNoSignal);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

void get(int signal) {
  ::kill(::getpid(), signal);
}

/// Until a signal is heard, or for long.
void wait_for_one() {
  constexpr int kTries = 10000;
  for (int i = 0; i < kTries && !interrupted(); ++i) ::usleep(1000);
}

}  // namespace

TEST_CASE("interrupt: a signal ends the program with a status of its own") {
  CHECK(status_of([] { get(SIGINT), wait_for_one(), ::sleep(10); }) == 130);
  CHECK(status_of([] { get(SIGTERM), wait_for_one(), ::sleep(10); }) == 130);
  CHECK(status_of([] { get(SIGHUP), wait_for_one(), ::sleep(10); }) == 129);
}

TEST_CASE("interrupt: when the work is done, a signal ends the program with success") {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    CHECK(status_of([&] { set_work_done(), get(signal), ::sleep(10); }) == 0);
  }
  // A second one too, while the program tidies up.
  CHECK(status_of([] {
          const FinishOnInterrupt finish;
          set_work_done();
          get(SIGINT), ::usleep(20000), get(SIGINT), ::sleep(10);
        }) == 0);
}

TEST_CASE("interrupt: a signal that came before the end of the work is forgotten with it") {
  CHECK(status_of([] {
          const FinishOnInterrupt finish;
          get(SIGINT), wait_for_one();
          const bool heard = interrupted();
          set_work_done();
          ::_exit(heard && !interrupted() && work_is_done() ? 7 : 1);
        }) == 7);
  CHECK(status_of([] {
          const FinishOnInterrupt finish;
          get(SIGINT), wait_for_one();
          get(SIGINT), ::sleep(10);
        }) == 130);
}

}  // namespace depthlens::util
