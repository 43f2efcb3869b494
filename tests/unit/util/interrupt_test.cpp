// Signals and the exit statuses that they bring, each in a process of its own.
#include "depthlens/util/interrupt.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <functional>

#include "depthlens/util/files.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

namespace fs = std::filesystem;

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

TEST_CASE("interrupt: a signal between the last file and the note that all is there is not told") {
  const test::TemporaryFolder folder;
  const auto told = [&](bool is_last) {
    const fs::path messages = folder.path() / "messages";
    const int status = status_of([&] {
      const FinishOnInterrupt finish;
      const int file = ::open(messages.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      ::dup2(file, STDERR_FILENO);
      write_file(folder.path() / "file", "bytes", [&] {
        get(SIGINT), wait_for_one(), ::usleep(20000);
        if (is_last) set_work_done();
      });
      ::usleep(200000);
      ::_exit(interrupted_status());
    });
    CHECK(status == (is_last ? 0 : 130));
    return fs::file_size(messages) > 0;
  };
  CHECK(told(false));
  CHECK_FALSE(told(true));
}

}  // namespace depthlens::util
