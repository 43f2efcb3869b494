// The run folder: everything of one run, each file whole under its name or not there at all.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/report/record_file.hpp"
#include "depthlens/tables/table.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::report {

inline constexpr int kSchemaVersion = 1;

/// Of a finished run: what describes it, written last, and its tables.
inline constexpr const char* kRunFile = "run.json";
inline constexpr const char* kSummaryFile = "summary.json";

/// run.json of the run in `folder`, whatever it says. Throws input errors where it cannot be read or is too
/// large, format errors where it is no JSON.
util::OrderedJson read_run_json(const std::filesystem::path& folder);
/// Throws input and format errors, as every reader of a run does, where run.json or summary.json is missing,
/// is no JSON or has another schema_version.
void check_run(const std::filesystem::path& folder);
/// Whether a run.json is that of a run that came to its end. Throws format errors.
bool is_complete(const util::JsonView& run);

/// A picture or page of a run, beside run.json.
struct ExtraFile {
  std::string name;
  std::string bytes;
};

class RunFolder {
 public:
  /// What is done where the folder holds a run, or what one has saved: refuse, replace it, or go on with it.
  enum class Mode { kNew, kOverwrite, kResume };

  /// Makes the folder ready, before anything costly is done. Throws an output error where it cannot be
  /// written, holds a run that the mode does not allow, or files of another program that `finish` would
  /// replace. An earlier run stays in place until `finish`.
  RunFolder(std::filesystem::path path, Mode mode);

  const std::filesystem::path& path() const { return path_; }
  /// Whether a complete run is there, such as one that is to be replaced. Throws format errors.
  bool holds_whole_run() const;

  /// Removes what a process that was killed while it wrote has left beside the run. For the one that writes.
  void remove_leftovers() const;

  /// The records' file, to be written line by line; it gets its place in `finish`, and a file of the other
  /// format goes.
  RecordFile& records(RecordFormat format = RecordFormat::kJsonl);

  /// Writes records, tables/*.csv, replicates/*.npy, summary.json, `files` and run.json, and then, when all
  /// of them are on the disk, puts them in the place of an earlier run's: that one stays whole until then.
  void finish(const util::OrderedJson& run, const std::vector<tables::Table>& tables,
              const std::vector<ExtraFile>& files = {});

 private:
  /// run.json of a complete run; nothing where there is none.
  std::optional<util::Json> whole_run() const;
  bool holds_whole_share() const;
  util::StagingFolder& staging();

  std::filesystem::path path_;
  std::unique_ptr<util::StagingFolder> staging_;
  std::unique_ptr<RecordFile> records_;
};

/// `{"schema_version", "tables": {name: {"columns", "units", "rows"}}}`.
std::string summary_json(const std::vector<tables::Table>& tables);
/// The tables of such a document, in the order of their names, without replicates. Throws format errors.
std::vector<tables::Table> read_summary(const util::JsonView& document);

}  // namespace depthlens::report
