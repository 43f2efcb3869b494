// What a run has saved, in the folder `parts` of its run folder: so that it can go on after any end, and be
// joined from the work of many processes.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "depthlens/run/plan.hpp"
#include "depthlens/run/ranks.hpp"
#include "depthlens/run/record_log.hpp"
#include "depthlens/tables/state.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::run {

/// By what the processes of a run have multiplied.
struct Arithmetic {
  std::set<std::string> kernels = {};
  bool is_fast = false;  ///< `--decode fast` had an effect, in one of them at least

  void add(const Arithmetic& other);
  util::OrderedJson json() const;
  static Arithmetic from_json(const util::JsonView& json);
};

/// Which run it is that a state was saved of.
struct SavedDescription {
  util::OrderedJson run;       ///< run.json from schema_version to settings, with `warnings`
  util::OrderedJson context;   ///< as RunContext gives it
  std::optional<Shard> share;  ///< nothing: of the whole run
  Arithmetic arithmetic = {};
};

/// Parts that were finished by one process, or by several after one another.
struct SavedState {
  PartSet parts;
  std::vector<RecordSegment> records;
  SavedDescription description;
  tables::State state;
  std::filesystem::path path;
};

/// The folder. A process writes one file of state, which it replaces as it goes on, and one of records.
class SavedParts {
 public:
  /// Of the run folder `run`. Makes nothing before it is needed.
  explicit SavedParts(const std::filesystem::path& run);

  const std::filesystem::path& folder() const { return folder_; }
  /// The files of all states that were saved, in the order of their names.
  std::vector<std::filesystem::path> paths() const;

  /// Every state there is, in the order of `paths`. Throws format errors for damaged ones, and where their
  /// records are not there.
  std::vector<SavedState> read() const;
  static SavedState read(const std::filesystem::path& path);
  /// A state that another process has saved: a shared file system may show it some time later. Asks
  /// `should_stop` a few times a second; throws where that says so.
  SavedState read_when_there(const std::string& name, std::chrono::seconds timeout,
                             const std::function<bool()>& should_stop) const;

  /// Where the records of this process go.
  std::filesystem::path new_records() const;
  /// Saves a state; the one that this process saved before goes, and those of `absorbed`, which it contains.
  void save(const tables::State& state, const PartSet& parts, const std::vector<RecordSegment>& records,
            const SavedDescription& description);
  /// What `save` wrote last.
  const std::filesystem::path& own_state() const { return saved_; }
  /// States whose parts the next saved one will contain.
  void absorb(const std::vector<SavedState>& states);
  /// All that is there: another run's, which the next saved state replaces.
  void absorb_all();

  /// Removes all that runs have saved, and the folder.
  void remove();

  /// Throws an output error where a folder of that name holds what no run has saved: it would be removed.
  static void check_own(const std::filesystem::path& run);

 private:
  std::filesystem::path folder_;
  std::string name_;             // of this process' files
  std::filesystem::path saved_;  // this process' state
  std::vector<std::filesystem::path> absorbed_;
};

/// Keeps other processes away from a folder of results while it lives: a file `lock`, of a run in `parts`,
/// that says who is at work. What a process that is gone has left is taken over: on this machine it is asked
/// for by its number; of another machine it is gone when the file, which a process at work touches every few
/// seconds, does not change any more. Nothing rests on it but the message: parts that two processes did are
/// counted once (run.hpp).
class FolderLock {
 public:
  /// Throws an output error where another process is at work there, or goes by that name there.
  explicit FolderLock(const std::filesystem::path& folder, const std::string& below = kOfRuns,
                      const std::string& name = kName);
  ~FolderLock();
  /// What `text_in` gives while this lives: unlike that of any other lock.
  const std::string& text() const;
  /// What is in the file of a run's folder; "" where there is none.
  static std::string text_in(const std::filesystem::path& folder);
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  static constexpr const char *kOfRuns = "parts", *kName = "lock";
  struct Keeper;
  std::unique_ptr<Keeper> keeper_;
};

}  // namespace depthlens::run
