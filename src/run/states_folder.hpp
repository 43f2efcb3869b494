// The folder that a run writes residual states to (--save-states).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/run/plan.hpp"
#include "depthlens/run/run.hpp"
#include "depthlens/text/tokenizer.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::run {

/// Makes the folder ready for the states of the run that `identity` tells (description.hpp), and writes
/// `states.json` into it, by which the processes of one run, at once or one after another, know the folder
/// for theirs. `has_done_parts`: some of the run was done before, and has to be there. With `overwrite`
/// states of another run go. Throws usage and output errors where the folder holds something else, or is
/// another run's that has saved none yet; also what is no file of a run: `--states` would read it too.
struct PreparedStates {
  std::string run;        ///< what `states.json` calls this run
  bool replaced = false;  ///< those of another have gone
};
PreparedStates prepare_states_folder(const std::filesystem::path& folder, const util::OrderedJson& identity,
                                     bool has_done_parts, bool overwrite);

/// Throws an output error where the folder is no longer that run's: another process took it with --overwrite.
void check_still_states_of(const std::string& run, const std::filesystem::path& folder);
/// Of a run that failed: where it has saved none, the folder is nobody's again.
void give_back_states_folder(const std::string& run, const std::filesystem::path& folder);

/// What `states.json` says of the run whose states a folder holds.
struct SavedStates {
  std::optional<text::TokenId> bos;       ///< before every window; none: the run put none there
  std::vector<std::int64_t> layers = {};  ///< rising; empty: all
  std::string model_digest = {};          ///< as in `run.json`
};
/// Nothing where the folder is of no run. Throws a format error where its index is damaged.
std::optional<SavedStates> saved_states(const std::filesystem::path& folder);

/// Of a run that goes on: throws where the folder does not hold the states of all `windows` of the parts that
/// are `done`, each file whole.
void check_done_states(const std::filesystem::path& folder, const Plan& plan, const PartSet& done,
                       std::int64_t windows);

}  // namespace depthlens::run
