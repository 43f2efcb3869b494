// Starts build/bin/depthlens in a process group of its own.
#include "support/program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

namespace depthlens::test {
namespace {

using Clock = std::chrono::steady_clock;

int must(int result, const char* what) {
  if (result < 0) throw std::runtime_error(std::string(what) + " failed");
  return result;
}

int memory_file(const char* name) {
  return must(::memfd_create(name, MFD_CLOEXEC), "memfd_create");
}

std::string whole(int descriptor) {
  std::string text;
  std::array<char, 1 << 16> chunk;
  ::lseek(descriptor, 0, SEEK_SET);
  for (ssize_t count; (count = ::read(descriptor, chunk.data(), chunk.size())) > 0;)
    text.append(chunk.data(), static_cast<std::size_t>(count));
  return text;
}

/// Only what the program needs of the caller's environment, so that tests do not depend on whose it is.
std::vector<std::string> environment_of(const Start& start) {
  std::map<std::string, std::string> all = {
      {"TERM", "xterm-256color"}, {"HOME", "/nonexistent"}, {"HF_HUB_OFFLINE", "1"}};
  for (const char* name : {"PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "TMPDIR", "OMP_NUM_THREADS",
                           "ASAN_OPTIONS", "UBSAN_OPTIONS"}) {
    if (const char* value = std::getenv(name); value != nullptr) all[name] = value;
  }
  for (const auto& [name, value] : start.environment) all[name] = value;
  std::vector<std::string> lines;
  for (const auto& [name, value] : all) lines.push_back(name + "=" + value);
  return lines;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (std::string& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

}  // namespace

Process::Process(const Start& start) : seconds_(start.seconds) {
  std::vector<std::string> words = {DEPTHLENS_PROGRAM};
  words.insert(words.end(), start.arguments.begin(), start.arguments.end());
  std::vector<std::string> environment = environment_of(start);
  const std::vector<char*> argv = pointers(words), envp = pointers(environment);
  const std::string folder = start.folder.empty() ? std::string(DEPTHLENS_SOURCE_DIR) : start.folder.string();

  int pipe_ends[2] = {-1, -1};
  if (start.piped) must(::pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK), "pipe2");
  const int in = start.piped ? pipe_ends[0] : memory_file("stdin"), to = start.piped ? pipe_ends[1] : in;
  if (::write(to, start.input.data(), start.input.size()) != static_cast<ssize_t>(start.input.size()))
    throw std::runtime_error("cannot write stdin");
  if (start.piped) {
    ::close(to);
    must(::fcntl(in, F_SETFL, 0), "F_SETFL");
  } else {
    ::lseek(in, 0, SEEK_SET);
  }
  err_ = memory_file("stderr");
  int out;
  if (start.terminal) {
    terminal_ = must(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), "posix_openpt");
    must(::grantpt(terminal_), "grantpt");
    must(::unlockpt(terminal_), "unlockpt");
    const struct winsize size = {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
    out = must(::open(::ptsname(terminal_), O_RDWR | O_NOCTTY | O_CLOEXEC), "open of a terminal");
    must(::ioctl(out, TIOCSWINSZ, &size), "TIOCSWINSZ");
  } else if (!start.output.empty()) {
    out = must(::open(start.output.c_str(), O_WRONLY | O_CLOEXEC), "open of stdout");
  } else {
    out_ = out = memory_file("stdout");
  }

  int unread[2];
  must(::pipe2(unread, O_CLOEXEC), "pipe2");
  ::close(unread[0]);
  int started[2];  // closed when the program takes the place of the child
  must(::pipe2(started, O_CLOEXEC), "pipe2");
  pid_ = must(::fork(), "fork");
  if (pid_ == 0) {
    ::setpgid(0, 0);
    if (start.largest_file) {
      const struct rlimit limit = {*start.largest_file, *start.largest_file};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    bool ready =
        ::dup2(in, 0) == 0 && ::dup2(out, 1) == 1 && ::dup2(err_, 2) == 2 && ::chdir(folder.c_str()) == 0;
    for (const int stream : start.unread) ready = ready && ::dup2(unread[1], stream) == stream;
    for (const int stream : start.closed) ready = ready && ::close(stream) == 0;
    for (const int signal : start.ignored) std::signal(signal, SIG_IGN);
    if (ready) ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  ::setpgid(pid_, pid_);
  ::close(in);
  ::close(unread[1]);
  ::close(started[1]);
  char byte;
  while (::read(started[0], &byte, 1) < 0 && errno == EINTR) continue;
  ::close(started[0]);
  if (out != out_) ::close(out);
}

Process::~Process() {
  if (!result_) {
    ::kill(-pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
  }
  for (const int descriptor : {out_, err_, terminal_}) {
    if (descriptor >= 0) ::close(descriptor);
  }
}

void Process::send(int signal) {
  if (!result_) ::kill(pid_, signal);
}

bool Process::catches(int signal) const {
  std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("SigBlk:", 0) == 0)  // for the thread that waits for it
      return (std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1) != 0;
  }
  return false;
}

void Process::drain_terminal() {
  if (terminal_ < 0) return;
  std::array<char, 4096> chunk;
  struct pollfd waiting = {.fd = terminal_, .events = POLLIN, .revents = 0};
  while (::poll(&waiting, 1, 0) > 0 && (waiting.revents & POLLIN) != 0) {
    const ssize_t count = ::read(terminal_, chunk.data(), chunk.size());
    if (count <= 0) return;
    terminal_text_.append(chunk.data(), static_cast<std::size_t>(count));
  }
}

void Process::collect(int status) {
  drain_terminal();
  Result& result = result_.emplace();
  if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  if (out_ >= 0) result.out = whole(out_);
  if (terminal_ >= 0) result.out = terminal_text_;
  result.err = whole(err_);
}

bool Process::running() {
  if (result_) return false;
  drain_terminal();
  int status = 0;
  const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
  if (ended == pid_) collect(status);
  return ended != pid_;
}

Result Process::wait() {
  const auto started = Clock::now();
  while (running()) {
    if (std::chrono::duration<double>(Clock::now() - started).count() > seconds_) {
      ::kill(-pid_, SIGKILL);
      int status = 0;
      while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
      collect(status);
      result_->timed_out = true;
      break;
    }
    ::usleep(2000);
  }
  return *result_;
}

void Process::wait_unasked() {
  siginfo_t ignored;
  while (::waitid(P_PID, static_cast<id_t>(pid_), &ignored, WEXITED | WNOWAIT) < 0 && errno == EINTR)
    continue;
}

Result run_program(const Start& start) {
  return Process(start).wait();
}

}  // namespace depthlens::test
