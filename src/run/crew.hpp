// The ranks of one run as one of them sees the others: who takes which part, who has ended, who writes the
// folder. What they tell each other goes through the store; its keys are known here alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/run/plan.hpp"
#include "depthlens/run/ranks.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::run {

class Crew {
 public:
  /// How long ranks wait for one another.
  static constexpr std::chrono::seconds kTimeout{300};

  /// Returns when all ranks have come. Throws as connect_store().
  explicit Crew(const Ranks& ranks) : ranks_(ranks), store_(connect_store(ranks, kTimeout)) {}

  const Ranks& ranks() const { return ranks_; }
  bool leads() const { return ranks_.rank == 0; }
  /// Whether this start goes on with what an earlier one of the same run has left.
  bool goes_on() const { return store_->earlier_starts() > 0; }
  /// Whether this rank died in this start, and was started again alone.
  bool is_back() const { return store_->rejoins(); }
  /// To be called last. A rank that fails says so to the others, and that nothing is left to be claimed.
  void leave(bool fails);
  /// Throws where a rank has failed.
  void check_failures() { store_->check_failures(); }

  /// Of the run folder: how its lock reads, which is how ranks find that theirs is the same one; and whether
  /// it has been written, which takes the lock away.
  void set_folder(const std::string& lock) { store_->set("folder", lock); }
  std::string folder() { return store_->get("folder"); }
  void set_written() { store_->set("written", "yes"); }
  bool is_written() { return store_->has("written"); }

  /// What rank 0 finds, and the others wait for: whether the run was complete before; that the folder for
  /// states is ready.
  void set_complete(bool complete) { store_->set("complete", complete ? "yes" : "no"); }
  bool is_complete() { return store_->get("complete") == "yes"; }
  void set_states_ready() { store_->set("states", "ready"); }
  void await_states() { store_->get("states"); }

  /// Rank 0 says which run it is and which of its parts are done. The others hold the former against their
  /// own (usage error), and get the latter.
  PartSet agree(const util::OrderedJson& identity, const PartSet& done);

  /// The index of the next part among the `count` to do; nothing where all are claimed.
  std::optional<std::int64_t> claim(std::int64_t count);
  /// For a rank that is back: what it had claimed before it died.
  std::vector<std::int64_t> own_claims(std::int64_t count);
  /// Shows rank 0 that something happens.
  void end_part();

  /// The file of this rank's saved state, as it told it; "" where it has saved none.
  void set_saved(const std::string& name) { store_->set(of_rank("saved", ranks_.rank), name); }
  std::string saved();

  /// A rank has done its part: the file of its state.
  void set_ended(const std::string& state) { store_->set(of_rank("state", ranks_.rank), state); }
  bool has_ended(int rank) { return store_->has(of_rank("state", rank)); }
  bool have_all_ended();
  std::string state_of(int rank) { return store_->get(of_rank("state", rank)); }
  /// Whether this rank, when all have ended, writes the folder: one of them does.
  bool is_writer();
  /// Rank 0, where no agent watches the others: ends when the run folder, `out`, is written, or by an error
  /// where a rank fails, or where nothing happens any more.
  void await_end(const std::string& out);

 private:
  static std::string of_rank(const char* what, int rank);
  /// Whether the i-th part of those to do is this rank's; it is now, where it was nobody's.
  bool is_own(std::int64_t i);

  Ranks ranks_;
  std::unique_ptr<Store> store_;
};

}  // namespace depthlens::run
