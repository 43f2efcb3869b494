// Runs the program as a user does: arguments, stdin and environment in; stdout, stderr and exit status out.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace depthlens::test {

struct Start {
  std::vector<std::string> arguments;
  std::string input = {};                               ///< what stdin, a file, holds
  bool piped = false;                                   ///< stdin is a pipe; `input` is at most 64 KiB then
  std::map<std::string, std::string> environment = {};  ///< added to a plain one; see program.cpp
  std::filesystem::path folder = {};                    ///< working folder; empty: the project's
  double seconds = 60;                                  ///< time limit; then the program is killed
  std::filesystem::path output = {};                    ///< an existing file, such as a device, as stdout
  bool terminal = false;                                ///< stdout is a terminal of 80 columns
  std::vector<int> unread = {};                         ///< of 1 and 2: pipes whose reader is gone
  std::vector<int> closed = {};                         ///< of 0, 1 and 2: not open at all
  std::vector<int> ignored = {};                        ///< signals that are ignored, as nohup does
  std::optional<std::uint64_t> largest_file = {};       ///< writing beyond that many bytes fails
};

struct Result {
  int status = -1;  ///< exit status, -1 where a signal ended the program
  int signal = 0;
  bool timed_out = false;
  std::string out = {};
  std::string err = {};
};

/// The program while it runs. Killed and waited for on destruction.
class Process {
 public:
  explicit Process(const Start& start);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal);
  bool catches(int signal) const;  ///< whether the program has come so far as to handle it
  bool running();                  ///< also collects the end
  /// Waits for the end.
  Result wait();
  /// Waits for the end without asking for it: until then the program is a zombie.
  void wait_unasked();

 private:
  void collect(int status);
  void drain_terminal();

  pid_t pid_ = -1;
  double seconds_;
  int out_ = -1, err_ = -1, terminal_ = -1;
  std::string terminal_text_;
  std::optional<Result> result_;
};

Result run_program(const Start& start);
inline Result run_program(std::vector<std::string> arguments) {
  return run_program(Start{.arguments = std::move(arguments)});
}

}  // namespace depthlens::test
