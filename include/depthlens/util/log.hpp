// Logs and progress on stderr, in printable lines. Results never go through here.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace depthlens::util {

enum class Verbosity { kQuiet, kNormal, kVerbose };

/// Sets what is shown: quiet keeps warnings and errors, verbose adds details. Call once, early.
void set_verbosity(Verbosity verbosity);
Verbosity verbosity();

void log_detail(const std::string& text);
void log_info(const std::string& text);
/// A warning also stands in `warnings()`, from where it gets into run.json: what a run on a cluster prints is
/// lost. One line that says what was read and what was ignored; the same line is given once.
void log_warning(const std::string& text);

/// The distinct warnings so far, in order.
std::vector<std::string> warnings();

/// One line that is rewritten in place on a terminal, or printed every ten seconds into a pipe: done, rate,
/// time left. Nothing when quiet. Use on one thread.
class Progress {
 public:
  /// `total` units of work (0: unknown) called `unit` in the line that begins with `title`. Of "bytes" the
  /// line tells MiB and GiB.
  Progress(std::string title, std::string unit, std::int64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(std::int64_t units);
  void skip(std::int64_t units);    ///< done before this run: counted, but not in the rate
  void set_note(std::string note);  ///< shown at the end of the line from now on
  void finish();                    ///< prints the last line; later calls do nothing

 private:
  void print(bool last);
  std::string title_;
  std::string unit_;
  std::string note_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  std::int64_t skipped_ = 0;
  bool terminal_;
  bool finished_ = false;
  std::chrono::steady_clock::time_point started_;
  std::chrono::steady_clock::time_point printed_;
};

}  // namespace depthlens::util
