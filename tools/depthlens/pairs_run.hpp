// Pairs of prompts through a model into a run folder: activation patching.
#pragma once

#include <functional>

#include "corpus_run.hpp"
#include "depthlens/data/pairs.hpp"
#include "depthlens/decode/patching.hpp"
#include "depthlens/report/run_folder.hpp"
#include "run_parts.hpp"
#include "session.hpp"
#include "task_run.hpp"

namespace depthlens::tool {

/// As TaskRun: constructor, `load`, `patch`, `finish`, in the order of cost.
class PairsRun {
 public:
  /// Opens the model folder and the run folder and reads the pairs. The options must outlive the run. Throws
  /// input errors, also where no pair is left.
  PairsRun(const CorpusOptions& inputs, const TaskOptions& options, const ModelOptions& model);

  Session& session() { return session_; }
  report::RunFolder& folder() { return folder_; }

  void load();

  /// Patches each pair and shows those that count. Ends early when the user interrupts.
  decode::RunStatistics patch(
      const std::function<void(const data::PairItem&, const decode::PatchingResult&)>& show);

  void finish(const RunParts& parts, const tables::Table& table);
  void conclude(const decode::RunStatistics& statistics) const {
    tool::conclude(statistics, inputs_.out, account_of(kept_, "pairs count", read_.dropped));
  }

 private:
  data::PairTask read();

  Clock::time_point started_;
  const CorpusOptions& inputs_;
  const TaskOptions& options_;
  Session session_;
  report::RunFolder folder_;
  RunInputs read_;
  data::PairTask task_;
  std::int64_t kept_ = 0;  // pairs
};

}  // namespace depthlens::tool
