// Reads what describes a run.
#include "report/run_files.hpp"

#include "depthlens/report/run_folder.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::report {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargestDescription = std::uint64_t{256} << 20;

}  // namespace

RunTexts::RunTexts(const fs::path& folder) {
  if (!util::exists(folder / "run.json")) {
    std::error_code ignored;
    throw util::input_error({.what = fs::is_directory(folder, ignored) ? "the folder holds no finished run"
                                                                       : "there is no such run folder",
                             .where = util::in_quotes(folder.string()),
                             .expected = "a folder with run.json and summary.json",
                             .hint = "depthlens analyze --input FILE.txt --out DIR makes one"});
  }
  run = util::read_file(folder / "run.json", kLargestDescription);
  summary = util::read_file(folder / "summary.json", kLargestDescription);
}

void check_schema(const util::JsonView& document) {
  const std::int64_t version = document.at("schema_version").as_integer(INT64_MIN, INT64_MAX);
  if (version == kSchemaVersion) return;
  throw util::format_error({.what = "unsupported schema_version",
                            .where = document.where(),
                            .expected = std::to_string(kSchemaVersion),
                            .found = std::to_string(version)});
}

RunFiles::RunFiles(const fs::path& folder)
    : run_path_((folder / "run.json").string()), summary_path_((folder / "summary.json").string()) {
  const RunTexts texts(folder);
  run_ = util::parse_json(texts.run, run_path_);
  summary_ = util::parse_json(texts.summary, summary_path_);
  check_schema(run());
  check_schema({summary_, summary_path_});
}

}  // namespace depthlens::report
