// A run folder as it lies on disk, and its tables computed anew from its records.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "depthlens/util/json.hpp"

namespace depthlens::test {

struct FinishedRun {
  util::OrderedJson run;
  std::vector<util::Json> records;
  util::OrderedJson summary;

  static FinishedRun read(const std::filesystem::path& folder);
  const util::OrderedJson& table(const std::string& name) const { return summary.at("tables").at(name); }
  /// Every row as column → value.
  std::vector<util::Json> rows(const std::string& name) const;
};

/// All files under `folder` by relative name; of run.json without `volatile`.
std::map<std::string, std::string> lasting_files(const std::filesystem::path& folder);

/// Bucket of each token by the place of its count (falling; then by id), with the edges of the run.
struct Buckets {
  std::vector<std::string> names;
  std::map<std::int64_t, std::string> of_token;  ///< tokens that occur
  std::map<std::string, std::int64_t> corpus_counts;
  std::string of(std::int64_t id) const {
    const auto found = of_token.find(id);
    return found == of_token.end() ? "rest" : found->second;
  }
};
Buckets make_buckets(const std::map<std::int64_t, std::int64_t>& counts,
                     const std::vector<std::int64_t>& edges);
/// Occurrences of the tokens of the records, BOS left out. The records must be those of all positions.
std::map<std::int64_t, std::int64_t> token_counts(const FinishedRun& run);

/// Holds every table of a run against a computation by brute force from its records.
void check_tables(const FinishedRun& run, const Buckets& buckets);
/// Holds every CSV file against summary.json, cell for cell, and the names and columns against the documented
/// ones.
void check_csv(const std::filesystem::path& folder, const FinishedRun& run);
/// Holds the shapes, nulls and inner consistency of every record against the documentation.
void check_records(const FinishedRun& run, const std::vector<std::string>& lenses, std::int64_t num_rows,
                   std::int64_t top_k);

}  // namespace depthlens::test
