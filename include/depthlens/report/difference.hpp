// How two runs on the same inputs differ, table by table, with intervals of the differences.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "depthlens/tables/table.hpp"

namespace depthlens::report {

/// The settings that decide which documents or items, and which positions of them, a run is about. Runs with
/// the same inputs that agree in these can be compared document by document.
inline constexpr std::array kSettingsOfPairs = {"positions",        "limit",     "seed",   "keep", "classes",
                                                "min_prompt_chars", "per_class", "options"};

struct RunDifference {
  /// Why the runs cannot be compared document by document; "" where they can.
  std::string unpaired = {};
  /// Tables that both runs have and that cannot be compared: those by bucket, where buckets hold other
  /// tokens.
  std::vector<std::string> left_out = {};
  /// For each table that both runs have: its keys, then each estimated column X as that of the run − that of
  /// the baseline, where both have a row of these keys, and X_low, X_high. Intervals are over documents, or
  /// the items of a task, and paired: each replicate draws the same ones in both runs. Where each of the runs
  /// has one lens, their lenses are compared whatever their names are.
  std::vector<tables::Table> tables = {};
};

/// Throws input errors where a folder holds no run and format errors where a file is damaged.
RunDifference run_difference(const std::filesystem::path& baseline, const std::filesystem::path& run);

/// The tables of several runs, one of each name, with the run's name as the first column. `names` are those
/// of the runs, in the order of `differences`.
std::vector<tables::Table> joined_tables(const std::vector<std::string>& names,
                                         const std::vector<RunDifference>& differences);

}  // namespace depthlens::report
