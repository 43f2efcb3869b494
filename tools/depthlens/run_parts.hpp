// What every command that fills a run folder shares: run.json, the line of progress, the last word.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/data/corpus.hpp"
#include "depthlens/data/dropped.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/decode/engine.hpp"
#include "depthlens/report/page_records.hpp"
#include "depthlens/report/run_folder.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/json.hpp"
#include "session.hpp"

namespace depthlens::tool {

/// The parts of run.json that a command fills in itself.
struct RunParts {
  util::OrderedJson settings;
  decode::RunStatistics statistics;
  std::int64_t records = 0;
  std::int64_t records_omitted = 0;
  const report::PageRecords* page_records = nullptr;  ///< the run gets a page where they are given
  util::OrderedJson token_counts = {};  ///< the file of the frequency table, as `token_counts_json` has it
};

/// What was read.
struct RunInputs {
  std::vector<data::InputSummary> files;
  std::int64_t documents = 0;
  data::Dropped dropped;
};

/// The input error `what` of task files of which nothing can be used, with the reasons.
util::Error nothing_left_error(const std::string& what, const std::vector<std::string>& inputs,
                               const data::Dropped& dropped);

/// Of what was to count, how much does, and why the rest does not: "56 of 369 answers count: 304 not the
/// model's own, 9 repeated". Empty where nothing was dropped. `what` says the rest of the sentence: "answers
/// count".
std::string account_of(std::int64_t kept, const std::string& what, const data::Dropped& dropped);
/// Names those for which fewer than ten answers count; empty where there are none.
std::string few_of(const std::vector<std::pair<std::string, std::int64_t>>& counts);

/// `inputs` of run.json.
util::OrderedJson inputs_json(const std::vector<data::InputSummary>& inputs);
/// `token_counts` of run.json: the file at `path` that the table was read from; null where it was counted.
util::OrderedJson token_counts_json(const std::string& path, const data::TokenCounts& counts);

using Clock = std::chrono::system_clock;

util::OrderedJson run_json(const Session& session, const RunInputs& inputs, const RunParts& parts,
                           const std::string& out, Clock::time_point started);

/// Writes the run folder, and the page where `parts` has records for it.
void write_run(report::RunFolder& folder, const util::OrderedJson& run, const RunParts& parts,
               const std::vector<tables::Table>& tables, std::vector<report::ExtraFile> files = {});

/// Puts queries through the engine, with a line of progress that begins with `title`. Ends early when the
/// user interrupts. Of the engine's options, what reports and stops is filled in here.
decode::RunStatistics run_engine(const Session& session, const std::vector<const lens::Lens*>& lenses,
                                 const decode::QuerySource& source,
                                 const std::vector<decode::Listener*>& listeners, const std::string& title,
                                 std::int64_t num_positions, decode::EngineOptions options);

/// Says what was dropped (`account`, as `account_of` gives it), what is rare (`few`), and where the results
/// are; throws the interrupted error where the run was stopped.
void conclude(const decode::RunStatistics& statistics, const std::string& out, const std::string& account,
              const std::string& few = "");

}  // namespace depthlens::tool
