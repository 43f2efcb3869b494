// How two runs on the same inputs differ, table by table, with intervals of the differences.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "depthlens/tables/table.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::report {

/// Why two runs, by their run.json, cannot be compared document by document: the keys that keep them from it.
/// "status" where one of them is not complete, "shard" where they are not of one share or both whole,
/// "inputs" where these differ in contents or number of documents or are not known, "settings.KEY" of those
/// that decide which documents or items, and which positions of them, a run is about. Empty: they can. Throws
/// format errors.
std::vector<std::string> reasons_not_paired(const util::JsonView& a, const util::JsonView& b);

struct RunDifference {
  /// The first of `reasons_not_paired`, in words; "" where there is none.
  std::string unpaired = {};
  /// Tables that both runs have and that cannot be compared, by the reason, "… than those" (or that) of the
  /// baseline: those by bucket, where buckets hold other tokens, those that know only layers that were
  /// decoded, where these are others, and those that go by layers, where the models have different numbers of
  /// them.
  std::map<std::string, std::vector<std::string>> left_out = {};
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
