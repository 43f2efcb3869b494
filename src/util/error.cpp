// Wording and exit codes of errors.
#include "depthlens/util/error.hpp"

#include <utility>

#include "depthlens/util/text.hpp"

namespace depthlens::util {
namespace {

std::string sentence(const ErrorText& text) {
  std::string line = text.what;
  if (!text.where.empty()) line += ", " + text.where;
  if (!text.expected.empty()) line += "; expected " + text.expected;
  if (!text.found.empty()) line += std::string(text.expected.empty() ? ";" : ",") + " found " + text.found;
  return line;
}

}  // namespace

Error::Error(ErrorCode code, ErrorText text)
    : std::runtime_error(sentence(text)), code_(code), text_(std::move(text)) {}

Error usage_error(ErrorText text) {
  return {ErrorCode::kUsage, std::move(text)};
}
Error input_error(ErrorText text) {
  return {ErrorCode::kInput, std::move(text)};
}
Error format_error(ErrorText text) {
  return {ErrorCode::kFormat, std::move(text)};
}
Error output_error(ErrorText text) {
  return {ErrorCode::kOutput, std::move(text)};
}
Error self_check_error(ErrorText text) {
  return {ErrorCode::kSelfCheck, std::move(text)};
}

Error interrupted_error() {
  return {ErrorCode::kInterrupted, {.what = "interrupted"}};
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kMaxLength = 120;
  return "'" + printable(cut_utf8(text, kMaxLength)) + (text.size() > kMaxLength ? "…'" : "'");
}

void assertion_failed(const char* condition, const char* file, int line) {
  throw std::logic_error(cat("assertion failed: ", condition, " at ", file, ":", line));
}

}  // namespace depthlens::util
