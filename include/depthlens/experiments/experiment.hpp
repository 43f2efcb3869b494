// Experiments: listeners that end in tables. Each is one file; the registry is
// src/experiments/experiment.cpp. What they add up is in a `tables::State`, which they declare in `begin`; an
// experiment itself remembers nothing of what it was shown. So runs are saved and merged without it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "depthlens/data/input_kind.hpp"
#include "depthlens/data/task.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/decode/listener.hpp"
#include "depthlens/experiments/watch.hpp"
#include "depthlens/tables/state.hpp"
#include "depthlens/tables/table.hpp"

namespace depthlens::experiments {

class Experiment : public decode::Listener {
 public:
  /// The tables of what the state holds: of finished parts, whoever added them. After `begin`.
  virtual std::vector<tables::Table> tables() const = 0;
};

/// What an experiment may need to know besides the readouts.
struct Context {
  tables::State* state = nullptr;  ///< must outlive the experiments
  data::TokenBuckets buckets;
  const data::TokenCounts* counts = nullptr;  ///< what the buckets were made from
  const data::Task* task = nullptr;  ///< of experiments on tasks; its items are looked at in `accept` only
  std::uint64_t seed = 0;            ///< of bootstrap intervals
  const Watch* watch = nullptr;      ///< tokens that every position watches; may be none
};

/// The names that --experiment knows, in the order of its help.
std::vector<std::string> experiment_names();

/// The experiments of a comma-separated list, in the registry's order and each once. Throws a usage error for
/// an unknown name. `lens.quality` is part of every run and always the first, `watch.*` of those that watch
/// tokens. "patching" is none of them: see patching.hpp.
std::vector<std::unique_ptr<Experiment>> make_experiments(const std::string& names, const Context& context);

/// Throws a usage error where a name in the list is unknown; returns the names, each once.
std::vector<std::string> parse_experiment_names(const std::string& names);

/// Whether an experiment of the list reads the frequency buckets. Throws a usage error for an unknown name.
bool any_uses_buckets(const std::string& names);

/// The inputs that all experiments of the list can read, at least one. Throws a usage error where there is
/// none.
std::vector<data::InputKind> possible_inputs(const std::string& names);

}  // namespace depthlens::experiments
