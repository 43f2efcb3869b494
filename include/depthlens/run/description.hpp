// What a run is, in JSON: enough to make its tables from what it added up, without model and inputs, and to
// tell whether two processes are at the same run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/data/dropped.hpp"
#include "depthlens/data/input_kind.hpp"
#include "depthlens/data/task.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/decode/readout.hpp"
#include "depthlens/experiments/evaluation.hpp"
#include "depthlens/experiments/experiment.hpp"
#include "depthlens/experiments/watch.hpp"
#include "depthlens/run/settings.hpp"
#include "depthlens/tables/state.hpp"
#include "depthlens/tables/table.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::run {

struct RunContext {
  data::InputKind input = data::InputKind::kCorpus;
  std::string experiments;  ///< names, each once, with commas; not of pairs and evaluations
  std::uint64_t seed = 0;
  std::vector<std::int64_t> edges;  ///< of the frequency buckets
  data::TokenCounts counts;         ///< the frequency table, where an experiment reads it
  data::Task task;                  ///< of a task: kind, classes and labels of options; without items
  std::vector<std::pair<std::int64_t, std::string>> groups;  ///< of a task's items, as ItemGroups
  experiments::Watch watch;
  std::optional<experiments::EvaluationContext> evaluation;  ///< of lenses, in place of experiments
  decode::ReadoutShape shape;                                ///< of pairs the number of rows only
  RecordSettings records;
  bool draws_page = true;
  bool keeps_all = false;  ///< of tasks and pairs: answers that are not the model's own count too
  std::int64_t num_parts = 0;
  std::string plan;                ///< digest
  std::int64_t num_items = 0;      ///< of tasks and pairs: asked
  std::int64_t num_documents = 0;  ///< read
  data::Dropped dropped;           ///< in reading

  util::OrderedJson json() const;
  /// Throws format errors.
  static RunContext from_json(const util::JsonView& json);

  /// For experiments that add up in `state`. `with_items`: the task, where they are going to be shown
  /// positions. Refers to this object, which must stay in its place.
  experiments::Context of(tables::State& state, const data::Task* with_items = nullptr) const;

  /// The experiments of the run that listen to the engine's first group.
  std::vector<std::unique_ptr<experiments::Experiment>> make_experiments(
      const experiments::Context& context) const;

  /// The tables of what `state` holds.
  std::vector<tables::Table> tables(tables::State& state) const;
};

/// What the parts of a run must agree in: from run.json (or the beginning of one) the contents of model,
/// tokenizer, lenses and inputs, whatever their paths, all settings and the version.
util::OrderedJson identity_of(const util::OrderedJson& run);

/// The first difference of two identities: "settings.max_length: 512 and 256"; "" where there is none.
std::string difference_of(const util::OrderedJson& a, const util::OrderedJson& b);

}  // namespace depthlens::run
