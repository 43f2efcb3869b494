// Checks that the tests of the program share.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/program.hpp"
#include "support/small_model.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens::test {

namespace fs = std::filesystem;

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline std::vector<std::string> operator+(std::vector<std::string> all,
                                          const std::vector<std::string>& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// The program must end well.
inline Result check_done(const Start& start) {
  Result result = run_program(start);
  INFO(result.err);
  CHECK_FALSE(result.timed_out);
  CHECK(result.signal == 0);
  REQUIRE(result.status == 0);
  return result;
}
inline Result check_done(std::vector<std::string> arguments) {
  return check_done(Start{.arguments = std::move(arguments)});
}

/// The program must end with `status`, nothing on stdout, and on stderr one line `depthlens: error: …` that
/// holds `parts`, perhaps with a hint behind it. Warnings may stand before.
inline Result check_error(const Start& start, int status, const std::vector<std::string>& parts) {
  std::string command;
  for (const std::string& argument : start.arguments) command += " " + argument;
  Result result = run_program(start);
  INFO("depthlens" << command << "\n" << result.err);
  CHECK_FALSE(result.timed_out);
  CHECK(result.signal == 0);
  CHECK(result.status == status);
  CHECK(result.out.empty());
  const std::string prefix = "depthlens: error: ";
  const std::size_t begin = result.err.find(prefix);
  REQUIRE(begin != std::string::npos);
  CHECK((begin == 0 || result.err[begin - 1] == '\n'));
  const std::string message = result.err.substr(begin);
  const std::size_t end = message.find('\n');
  REQUIRE(end != std::string::npos);
  if (end + 1 < message.size()) {
    CHECK(message.compare(end + 1, 6, "hint: ") == 0);
    CHECK(message.find('\n', end + 1) == message.size() - 1);
  }
  for (const std::string& part : parts) {
    INFO("looked for: " << part);
    CHECK(contains(message, part));
  }
  return result;
}
inline Result check_error(std::vector<std::string> arguments, int status,
                          const std::vector<std::string>& parts) {
  return check_error(Start{.arguments = std::move(arguments)}, status, parts);
}

/// The folder, which was not there before a run, is not there after it: no file, whole or in the making, and
/// no empty folder either.
inline void check_nothing_written(const fs::path& folder) {
  INFO(folder.string());
  CHECK_FALSE(fs::exists(fs::symlink_status(folder)));
}

/// Whether a run has saved finished parts in its folder.
/// What the files below a folder hold, by their paths in it.
inline std::map<std::string, std::string> files_below(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file())
      files[entry.path().lexically_relative(folder).string()] = read_bytes(entry.path());
  }
  return files;
}

inline bool has_saved_parts(const fs::path& folder) {
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder / "parts", absent)) {
    if (entry.path().extension() == ".state") return true;
  }
  return false;
}

/// A text long enough for a run of it, by one thread, to be met in its middle: 6,000 documents.
inline std::string long_text() {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += small_text() + "\n";
  return text;
}

/// Waits until the run has saved something, which is before its end.
inline void await_saved_parts(Process& process, const fs::path& out) {
  while (process.running() && !has_saved_parts(out)) ::usleep(2000);
  REQUIRE(process.running());
}

}  // namespace depthlens::test
