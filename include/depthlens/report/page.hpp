// report.html: one self-contained page that shows a run, or compares several. It is made of
// run.json, the tables and the records and of nothing else, so that equal runs have equal pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/report/difference.hpp"
#include "depthlens/report/page_records.hpp"
#include "depthlens/report/record_choice.hpp"
#include "depthlens/tables/table.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::report {

/// What a page tells of a run apart from its records.
struct PageRun {
  std::int64_t num_rows = 0;        ///< layers that are decoded
  std::vector<std::string> lenses;  ///< names, in the order of run.json
  std::int64_t num_records = 0;     ///< lines that the file of records should have
  RecordFields fields = {};         ///< that records have
  std::int64_t num_documents = -1;  ///< of the input; -1: not known
  std::string json;  ///< run.json without `volatile`, and the tables; safe inside a script element
};

/// From run.json and its tables. `where` names it in messages. Throws format errors.
PageRun describe_run(const util::Json& run, const std::vector<tables::Table>& tables,
                     const std::string& where);

/// `choice` is what the records were chosen by. Throws a usage error where the page is larger than
/// `records.max_bytes()` without any record, unless that is the default.
std::string run_page(const PageRun& run, const PageRecords& records, const RecordChoice& choice = {});

/// The page of the run in `folder`, with the records that `choice` takes, as many as fit into `max_bytes`.
/// Throws input errors where run.json or summary.json is missing, format errors where a file is damaged, and
/// usage errors where what was chosen has no records. Without a file of records the page has no records.
std::string run_page(const std::filesystem::path& folder, RecordChoice choice = {},
                     std::size_t max_bytes = kMaxPageBytes);

/// Names by which several runs can be told apart: the folders' own, with as much of the path as it takes.
std::vector<std::string> distinct_names(const std::vector<std::filesystem::path>& folders);

/// Several runs on the same axes, without records. `differences` are those of all folders but the first to
/// that one.
std::string comparison_page(const std::vector<std::filesystem::path>& folders,
                            const std::vector<RunDifference>& differences);

/// JSON that may stand inside a script element: `<`, `>`, `&` and U+2028/9 of its strings become escapes.
std::string safe_in_script(std::string_view json);

}  // namespace depthlens::report
