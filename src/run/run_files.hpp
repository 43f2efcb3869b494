// The files of a run folder, from what the run added up.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/report/run_folder.hpp"
#include "depthlens/run/description.hpp"
#include "depthlens/run/ranks.hpp"
#include "depthlens/run/record_log.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/tables/state.hpp"

namespace depthlens::run {

/// What a run came to.
struct RunResult {
  util::OrderedJson run;  ///< run.json from schema_version to settings, with `warnings`
  const RunContext& context;
  tables::State& state;
  std::vector<RecordSegment> records;
  std::filesystem::path records_folder;
  bool partial = false;
  std::optional<Shard> share = {};  ///< nothing: the whole run
  util::OrderedJson unlike = {};    ///< `volatile`
};

/// Writes it all, run.json last. Returns the tables.
std::vector<tables::Table> write_run_files(report::RunFolder& folder, RunResult result);

/// Says what was dropped, what is rare and where the results are.
void tell_of(const RunContext& context, tables::State& state, const std::string& out);

}  // namespace depthlens::run
