// Writes run folders.
#include "depthlens/report/run_folder.hpp"

#include <array>
#include <set>
#include <string_view>
#include <utility>

#include "depthlens/tables/table_json.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/folders.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"
#include "report/replicates.hpp"
#include "report/run_files.hpp"

namespace depthlens::report {
namespace {

namespace fs = std::filesystem;

/// Of a run, in its folder itself.
constexpr std::array<const char*, 4> kFiles = {kSummaryFile, kRecordFiles[0], kRecordFiles[1], "report.html"};

tables::Cell read_cell(const util::JsonView& cell) {
  if (cell.is_null()) return std::monostate();
  if (cell.is_integer()) return cell.as_integer(INT64_MIN, INT64_MAX);
  if (cell.is_number()) return cell.as_number();
  if (!cell.is_string()) cell.fail("a number, a string or null");
  return cell.as_string();
}

constexpr std::array<std::pair<const char*, const char*>, 2> kTableFolders = {
    {{"tables", ".csv"}, {"replicates", ".npy"}}};

/// What is to be written, or gone on with, must not replace files of other programs that have the same names:
/// where no run is, and none has saved anything, there are none of these.
void check_replaceable(const fs::path& folder) {
  const auto refuse = [](const fs::path& file) {
    throw util::output_error({.what = "no result of depthlens, and nothing else is replaced",
                              .where = util::in_quotes(file.string()),
                              .hint = "choose another --out, or remove that file"});
  };
  const fs::path run = folder / kRunFile;
  if (util::exists(run)) {
    try {
      const util::Json document = read_run_json(folder);
      check_schema({document, run.string()});
    } catch (const util::Error& error) {
      if (error.code() == util::ErrorCode::kInput) throw;
      refuse(run);
    }
    return;
  }
  if (!util::entries_with(folder / "parts", ".state").empty()) return;
  for (const char* name : kFiles) {
    if (util::exists(folder / name)) refuse(folder / name);
  }
  for (const auto& [below, extension] : kTableFolders) {
    for (const fs::path& file : util::entries_with(folder / below, extension)) refuse(file);
  }
}

/// The tables of the run in a folder, with their replicates, below it. Where its summary does not tell, all
/// that look like some: none of another program's were there when the run was begun.
std::vector<fs::path> earlier_tables(const fs::path& folder) {
  std::set<std::string> names;
  bool known = false;
  if (util::exists(folder / kSummaryFile)) {
    try {
      const fs::path path = folder / kSummaryFile;
      const util::Json document = util::parse_json(util::read_file(path, kLargestDescription), path.string());
      const util::JsonView tables = util::JsonView(document, path.string()).at("tables");
      for (const std::string& name : tables.keys()) names.insert(name);
      known = true;
    } catch (const util::Error&) {
      // Damaged.
    }
  }
  std::vector<fs::path> files;
  for (const auto& [below, extension] : kTableFolders) {
    for (const fs::path& file : util::entries_with(folder / below, extension)) {
      if (!known || names.count(file.stem().string()) > 0) files.push_back(fs::path(below) / file.filename());
    }
  }
  return files;
}

}  // namespace

util::OrderedJson read_run_json(const fs::path& folder) {
  const fs::path path = folder / kRunFile;
  return util::parse_ordered_json(util::read_file(path, kLargestDescription), path.string());
}

bool is_complete(const util::JsonView& run) {
  return run.get_string("status", "") == "complete";
}

RunFolder::RunFolder(fs::path path, Mode mode) : path_(std::move(path)) {
  util::create_folders(path_);
  std::error_code ignored;
  for (const char* name : {"parts", kRunFile, kSummaryFile, kRecordFiles[0], kRecordFiles[1]}) {
    if (mode != Mode::kNew || !fs::exists(path_ / name, ignored)) continue;
    // A share keeps its state when it is complete, until it is merged.
    const bool unfinished = std::string_view(name) == "parts" && !holds_whole_share();
    throw util::output_error({.what = unfinished ? "the run folder holds a run that was not finished"
                                                 : "the run folder holds another run",
                              .where = util::in_quotes((path_ / name).string()),
                              .hint = unfinished
                                          ? "go on with it by --resume, or replace it with --overwrite"
                                          : "choose another --out, or replace that run with --overwrite"});
  }
  if (mode == Mode::kOverwrite || !util::exists(path_ / kRunFile)) check_replaceable(path_);
  util::create_folders(path_ / "tables");
}

std::optional<util::Json> RunFolder::whole_run() const {
  const fs::path path = path_ / kRunFile;
  if (!util::exists(path)) return std::nullopt;
  util::Json run = read_run_json(path_);
  return is_complete({run, path.string()}) ? std::optional(std::move(run)) : std::nullopt;
}

bool RunFolder::holds_whole_run() const {
  return whole_run().has_value();
}

bool RunFolder::holds_whole_share() const {
  const std::optional<util::Json> run = whole_run();
  return run && run->contains("shard");
}

util::StagingFolder& RunFolder::staging() {
  if (!staging_) {
    remove_leftovers();
    staging_ = std::make_unique<util::StagingFolder>(path_);
  }
  return *staging_;
}

void RunFolder::remove_leftovers() const {
  for (const fs::path& entry : util::entries_of(path_)) {
    std::error_code ignored;
    if (util::StagingFolder::is_one(entry)) fs::remove_all(entry, ignored);
  }
}

RecordFile& RunFolder::records(RecordFormat format) {
  if (!records_) records_ = std::make_unique<RecordFile>(staging().path(), format);
  return *records_;
}

void RunFolder::finish(const util::OrderedJson& run, const std::vector<tables::Table>& tables,
                       const std::vector<ExtraFile>& files) {
  const fs::path work = staging().path();
  if (records_) records_->commit();
  util::create_folders(work / "tables");
  for (const tables::Table& table : tables) {
    util::write_file(work / "tables" / (table.name + ".csv"), tables::to_csv(table));
    if (table.replicates.empty()) continue;
    util::create_folders(work / "replicates");
    util::write_file(work / "replicates" / (table.name + ".npy"), replicates_npy(table));
  }
  util::write_file(work / kSummaryFile, summary_json(tables));
  for (const ExtraFile& file : files) util::write_file(work / file.name, file.bytes);
  util::write_file(work / kRunFile, util::json_text(run, 2) + "\n");

  // The earlier run may have had files that this one has not.
  std::vector<fs::path> earlier = earlier_tables(path_);
  earlier.insert(earlier.end(), kFiles.begin(), kFiles.end());
  std::error_code ignored;
  const bool whole = run.value("status", "") == "complete";
  staging().replace(
      path_, kRunFile, earlier, whole ? util::set_work_done : +[] {});
  fs::remove(path_ / "replicates", ignored);  // where nothing is left in it
}

std::string summary_json(const std::vector<tables::Table>& tables) {
  std::string out = util::cat("{\"schema_version\": ", kSchemaVersion, ", \"tables\": {");
  for (std::size_t t = 0; t < tables.size(); ++t) {
    const tables::Table& table = tables[t];
    out += util::cat(t > 0 ? ",\n" : "\n", util::json_text(util::OrderedJson(table.name)), ": ",
                     tables::to_json(table, tables::JsonForm::kWhole));
  }
  return out + "}}\n";
}

std::vector<tables::Table> read_summary(const util::JsonView& document) {
  check_schema(document);
  const util::JsonView all = document.at("tables");
  std::vector<tables::Table> read;
  for (const std::string& name : all.keys()) {
    const util::JsonView columns = all.at(name).at("columns"), rows = all.at(name).at("rows");
    if (!columns.is_array()) columns.fail("an array of names");
    if (!rows.is_array()) rows.fail("an array of rows");
    tables::Table table{.name = name, .columns = {}, .rows = {}};
    std::set<std::string> names;
    for (std::size_t c = 0; c < columns.size(); ++c) {
      table.columns.push_back({columns.at(c).as_string()});
      if (!names.insert(table.columns.back().name).second) columns.at(c).fail("a name that is not taken yet");
    }
    if (all.at(name).has("units")) {
      const util::JsonView units = all.at(name).at("units");
      for (tables::Column& column : table.columns) column.unit = units.get_string(column.name, "");
    }
    for (tables::Column& column : table.columns) column.estimated = names.count(column.name + "_low") > 0;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const util::JsonView row = rows.at(r);
      if (!row.is_array() || row.size() != table.columns.size())
        row.fail(util::cat("a row of ", table.columns.size(), " cells"));
      std::vector<tables::Cell> cells;
      for (std::size_t c = 0; c < row.size(); ++c) {
        cells.push_back(read_cell(row.at(c)));
        if (table.columns[c].estimated && row.at(c).is_string()) row.at(c).fail("a number or null");
      }
      table.add(std::move(cells));
    }
    read.push_back(std::move(table));
  }
  return read;
}

}  // namespace depthlens::report
