// A run from its first part to its run folder: alone, as a share, or as one rank of several; now or after an
// interruption. All of that is one mechanism: parts are done in any order by anybody, and what they add up is
// exact (tables/state.hpp), so that the results are the same to the last bit.
#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "depthlens/decode/engine.hpp"
#include "depthlens/run/description.hpp"
#include "depthlens/run/settings.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::run {

class Session;
struct ModelOptions;

/// run.json from schema_version to inputs, with what belongs to its end: version. Waits for digests.
util::OrderedJson describe_run(const Session& session, const RunInputs& inputs);

class Run {
 public:
  /// Opens the run folder and says who takes part. Throws usage errors for a share that makes no sense,
  /// output errors for a folder that cannot be written or where another process is at work.
  explicit Run(const OutputOptions& options);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  /// What a session is to be made with: a signal gives up even what is being multiplied. Of several ranks on
  /// a machine each takes its share of the cores, unless a number of threads was asked for, and its own card
  /// where `--device cuda` names none.
  ModelOptions on_this_rank(ModelOptions model, bool threads_given = false) const;

  /// Where inputs that can be read once only are kept meanwhile: beside the run folder.
  std::filesystem::path spool_folder() const;

  /// What is to be run: `context`, and what `source` has read and how it is cut into parts. `run` gives
  /// run.json as far as it is known before the first position: from schema_version to settings; it may take a
  /// while (digests), and is asked when something is saved. Finds what was saved, and throws a usage error
  /// where that, or a finished run in the folder, is of another run. False where the run is complete, which
  /// is said in the log: nothing is left to be done.
  bool begin(RunContext context, const Source& source, std::function<util::OrderedJson()> run);

  /// After `begin`: the folder for the states of the run's windows, made ready. Throws usage and output
  /// errors where it holds others.
  std::filesystem::path open_states(const std::string& folder);

  RunContext& context();
  /// What experiments add up in.
  experiments::Context experiment_context(const data::Task* task = nullptr);

  /// Decodes this process's parts: for the experiments of the run, and `more_groups`.
  /// `save_states`: the folder that gets the states of every window, from `open_states`; "": none.
  void decode(const Session& session, QuerySource& source, std::vector<decode::LensGroup> more_groups = {},
              const data::Task* task = nullptr, const std::filesystem::path& save_states = {});

  /// Patches this process's parts.
  void patch(const Session& session, PairsSource& source);

  /// Writes the run folder, or leaves that to the rank that ends last. Says what was dropped, what is rare,
  /// and where the results are. Throws the interrupted error where the run was stopped: what is done is saved
  /// then. The tables of a run that was written, for a command that prints some.
  std::vector<tables::Table> finish(const Session& session);

 private:
  struct Job;
  std::unique_ptr<Job> job_;
  int exceptions_ = std::uncaught_exceptions();  ///< above that: the run fails
};

/// Throws an output error where the folder `--save-states` holds states and nothing says of which run.
void check_states_folder(const std::filesystem::path& folder, bool overwrite);

/// Joins the run folders of all shares of a run, whatever their order, into one. Throws usage errors where
/// they do not belong together, or where some are missing, doubled or not finished; format errors for damaged
/// ones.
void merge(const std::vector<std::string>& shards, const OutputOptions& out);

}  // namespace depthlens::run
