// Reads what describes a run.
#include "report/run_files.hpp"

#include "depthlens/report/run_folder.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"

namespace depthlens::report {

namespace fs = std::filesystem;

void check_schema(const util::JsonView& document) {
  const std::int64_t version = document.at("schema_version").as_integer(INT64_MIN, INT64_MAX);
  if (version == kSchemaVersion) return;
  throw util::format_error({.what = "unsupported schema_version",
                            .where = document.where(),
                            .expected = std::to_string(kSchemaVersion),
                            .found = std::to_string(version)});
}

RunFiles::RunFiles(const fs::path& folder)
    : run_path_((folder / kRunFile).string()), summary_path_((folder / kSummaryFile).string()) {
  if (!util::exists(run_path_)) {
    throw util::input_error(
        {.what = util::is_folder(folder) ? "the folder holds no finished run" : "there is no such run folder",
         .where = util::in_quotes(folder.string()),
         .expected = "a folder with run.json and summary.json",
         .hint = "depthlens analyze --input FILE.txt --out DIR makes one"});
  }
  run_ = read_run_json(folder);
  summary_ = util::parse_json(util::read_file(summary_path_, kLargestDescription), summary_path_);
  check_schema(run());
  check_schema({summary_, summary_path_});
}

void check_run(const fs::path& folder) {
  RunFiles{folder};
}

}  // namespace depthlens::report
