// The two files that describe a finished run, read and checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "depthlens/util/json.hpp"

namespace depthlens::report {

/// Bytes of each of them.
inline constexpr std::uint64_t kLargestDescription = std::uint64_t{256} << 20;

/// Throws a format error where the document has another schema_version than this program's.
void check_schema(const util::JsonView& document);

/// run.json and summary.json; their views live as long as it does.
class RunFiles {
 public:
  /// Throws an input error where `folder` holds no run, and format errors.
  explicit RunFiles(const std::filesystem::path& folder);
  RunFiles(const RunFiles&) = delete;
  RunFiles& operator=(const RunFiles&) = delete;

  util::JsonView run() const { return {run_, run_path_}; }
  util::JsonView summary() const { return {summary_, summary_path_}; }

 private:
  std::string run_path_, summary_path_;
  util::Json run_, summary_;
};

}  // namespace depthlens::report
