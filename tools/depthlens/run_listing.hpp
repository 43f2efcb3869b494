// The runs below a folder, and what sets them apart.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "depthlens/util/json.hpp"

namespace depthlens::tool {

struct ListedRun {
  std::string path;    ///< of the run folder, as from the folder that was named
  std::string status;  ///< as in run.json; "unfinished" without one, "damaged" where it is of no use
  std::string problem = {};
  util::OrderedJson run = {};  ///< run.json; null where the run is unfinished or damaged
};

/// The run folders in `folder` and below, eight folders deep at the most, in order of path. Links to folders
/// and hidden folders are left out.
std::vector<ListedRun> find_runs(const std::filesystem::path& folder);

/// A list: `path`, `status`, perhaps `problem`; `model`, `tokenizer`, `lenses`, `inputs`, `settings` and
/// `depthlens` as in run.json; `apart`, column → value, of the table below with whole values.
util::OrderedJson listing_json(const std::vector<ListedRun>& runs);

/// A table: path, status, and the columns in which the runs differ; with values cut so that lines take at
/// most `width` columns (0: as long as they are).
std::string listing_text(const std::vector<ListedRun>& runs, std::int64_t width);

}  // namespace depthlens::tool
