// The processes of one run: which share of the work is this process's own (`--shard`), and the store through
// which the ranks of a torchrun start agree on who does what. Free of libtorch: c10d stays in src/run.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "depthlens/util/json.hpp"

namespace depthlens::run {

/// A variable of the environment by its name; nullptr where it is not set.
using Environment = std::function<const char*(const char*)>;
Environment process_environment();

/// Share `index` of `count`, 0 ≤ index < count.
struct Shard {
  std::int64_t index = 0, count = 1;

  bool operator==(const Shard&) const = default;
  std::string text() const;        ///< "share 0 of 4"
  util::OrderedJson json() const;  ///< {"index", "count"}
  /// Throws format errors.
  static Shard from_json(const util::JsonView& json);
};

/// The same of a process that may do the whole run: "the whole run".
std::string text_of(const std::optional<Shard>& share);

/// The value of `--shard`: `I/N`, or `auto`, which takes both from a Slurm array job (SLURM_ARRAY_TASK_ID,
/// _MIN, _COUNT, _STEP) or else from the tasks of a Slurm step (SLURM_PROCID, SLURM_NTASKS); from both where
/// an array's job starts several tasks. Usage errors name what is missing or does not fit, such as an array
/// with gaps.
Shard parse_shard(const std::string& text, const Environment& environment = process_environment());

/// One process of a start by torchrun, or by a script that sets the same variables.
struct Ranks {
  int rank = 0, world_size = 1;
  int local_rank = 0, local_world_size = 1;  ///< among the processes of this machine
  int restart = 0;  ///< failures that this machine's agent has seen; those of others differ, see Store
  std::string run_id = {};
  std::string master_address = {};
  int master_port = 0;
  bool store_is_hosted = false;  ///< the agent hosts the store: every rank is a client
};

/// Nothing where RANK or WORLD_SIZE is not set, or where WORLD_SIZE is 1 and nobody is to be met (no
/// MASTER_ADDR). Usage errors where the variables make no sense together.
std::optional<Ranks> torchrun_ranks(const Environment& environment = process_environment());

/// What a rank takes of `--device`: of "cuda" the card of its number on its machine, of several cards
/// ("cuda:0,cuda:1,…") its share, in order; all of them where it is not known how many ranks the machine has.
/// A rank that sees one card of `visible`, and of which it is not known who shares it, has that for its own:
/// `srun --gpus-per-task 1` shows each task its card only. Throws usage errors where cards do not come out
/// even.
std::string device_of_rank(const std::string& device, const Ranks& ranks, int visible);

/// Cores that this process may use (its affinity and its control group's quota), divided among the machine's
/// ranks; at least 1. torchrun sets OMP_NUM_THREADS=1 whatever the machine has.
int threads_of_rank(const Ranks& ranks);

/// What the ranks of one start share. The keys of an earlier start are never seen, also where the store
/// outlives it. For one thread at a time. A store that is lost or that nobody answers in time throws
/// util::Error (kInput); a wait that a signal ends throws util::interrupted_error().
class Store {
 public:
  virtual ~Store() = default;

  /// Adds to a counter, which begins at 0, and returns its new value. Atomic: `add(key, 1) - 1` deals out 0,
  /// 1, 2, …
  virtual std::int64_t add(const std::string& key, std::int64_t n) = 0;
  virtual void set(const std::string& key, const std::string& value) = 0;
  /// Waits until the key is set, as long as the timeout of connect_store() allows and no rank fails. Not for
  /// the keys of add().
  virtual std::string get(const std::string& key) = 0;
  virtual bool has(const std::string& key) = 0;
  /// Sets the key where nobody has, and returns the value that it has: atomic. Neither is empty.
  virtual std::string set_first(const std::string& key, const std::string& value) = 0;

  /// How many starts of this run went before, as far as any rank knows; the same for all ranks. Above 0 after
  /// a failure or a change of machines under torchrun: what is on disk is then to be gone on with.
  virtual int earlier_starts() const = 0;

  /// Whether this rank has been in this start before: it died and was started again alone, by a script or by
  /// hand (torchrun's agent starts all ranks again). Where rank 0 is gone too, so is its store.
  virtual bool rejoins() const = 0;

  /// Tells all ranks that this one ends without having done its part. Never throws for a store that is gone.
  virtual void fail() = 0;
  /// Throws util::Error (kInput) where a rank has failed.
  virtual void check_failures() = 0;

  /// To be called last, also after an error that leaves the store usable: a rank that hosts the store waits
  /// until all have left, for at most the timeout. Never throws for a store that is gone.
  virtual void leave() = 0;
};

/// Meets all ranks of this start: returns when every one of them has called it. Usage error where nobody
/// answers at the master's address, or where not all ranks come, within `timeout`.
std::unique_ptr<Store> connect_store(const Ranks& ranks, std::chrono::seconds timeout);

}  // namespace depthlens::run
