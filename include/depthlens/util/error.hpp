// The one exception type of the library. A user's mistake or a bad file throws `Error`; a defect of depthlens
// trips `DEPTHLENS_ASSERT`. Only the program's main() turns either into text and an exit status.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace depthlens::util {

/// The kind of an error; its value is the exit status of the program.
enum class ErrorCode {
  kUsage = 2,         ///< wrong flag, configuration or combination
  kInput = 3,         ///< an input or model file is missing or unreadable
  kFormat = 4,        ///< an unsupported or damaged model, lens, tokenizer or data file
  kSelfCheck = 5,     ///< results do not pass their own check
  kOutput = 6,        ///< the run folder cannot be written
  kInternal = 70,     ///< a defect of depthlens
  kInterrupted = 130  ///< stopped by SIGINT or SIGTERM after the state was saved
};

/// The parts of a message: `WHAT, WHERE; expected EXPECTED, found FOUND`. Empty parts are left out.
struct ErrorText {
  std::string what = {};   ///< what is wrong, in words of the user
  std::string where = {};  ///< file and place in it (line, byte, key, tensor), or the flag
  std::string expected = {};
  std::string found = {};
  std::string hint = {};  ///< what to do about it; printed on a line of its own
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, ErrorText text);

  ErrorCode code() const { return code_; }
  const std::string& hint() const { return text_.hint; }
  const ErrorText& text() const { return text_; }

 private:
  ErrorCode code_;
  ErrorText text_;
};

/// Named makers own the code, so that a caller only states the facts.
Error usage_error(ErrorText text);
Error input_error(ErrorText text);
Error format_error(ErrorText text);
Error output_error(ErrorText text);
Error self_check_error(ErrorText text);
Error interrupted_error();

/// Quotes for a message: 'text', printable and cut to a readable length.
std::string in_quotes(std::string_view text);

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace depthlens::util

/// A condition that no input may break. Reachable from a file or a flag, it is a defect.
#define DEPTHLENS_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::depthlens::util::assertion_failed(#condition, __FILE__, __LINE__))
