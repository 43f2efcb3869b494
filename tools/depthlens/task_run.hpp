// A task through a model into a run folder: facts, questions, tagged words.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "corpus_run.hpp"
#include "depthlens/data/task.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/report/run_folder.hpp"
#include "run_parts.hpp"
#include "session.hpp"

namespace depthlens::tool {

struct TaskOptions {
  std::string keep = "correct";
  std::string whitespace_retry = "auto";
  std::string classes = "DET,ADP,PUNCT,VERB,NOUN,ADJ";
  std::int64_t min_prompt_chars = 15;
  std::int64_t per_class = 0;
  std::string options;  ///< of questions that have none of their own; a usage error where there are none such

  bool correct_only() const { return keep == "correct"; }
};

/// Adds --keep, --whitespace-retry, --classes, --min-prompt-chars, --per-class and --options.
void add_task_options(CLI::App& app, TaskOptions& options);

/// Of the kinds that the experiments can read, the one that the file is. Reads the file where there is a
/// choice.
data::TaskKind task_kind(const std::vector<data::TaskKind>& possible, const std::string& file);

/// As CorpusRun: constructor, `load`, `decode`, `finish`, in the order of cost.
class TaskRun {
 public:
  /// Opens the model folder and the run folder and reads the task. The options must outlive the run. Throws
  /// input errors, also where no item is left.
  TaskRun(data::TaskKind kind, const CorpusOptions& inputs, const TaskOptions& options,
          const ModelOptions& model, std::uint64_t seed);

  Session& session() { return session_; }
  report::RunFolder& folder() { return folder_; }
  const data::Task& task() const { return task_; }
  /// Tokens of the input: of the sentences, or of prompts with their answers.
  const data::TokenCounts& counts() const { return counts_; }
  bool retries_whitespace() const { return retry_; }

  void load();

  /// As CorpusRun. Throws a usage error where a distractor is watched and no item has one.
  void watch(const experiments::Watch& watch);

  /// Puts the items through the engine; the listeners are shown the positions that count. An item at which
  /// the model says white space is asked again after all others where that is wanted, and one whose answer it
  /// gives by an alias with that alias.
  decode::RunStatistics decode(const std::vector<decode::Listener*>& listeners);

  void finish(const RunParts& parts, const std::vector<tables::Table>& tables);
  void conclude(const decode::RunStatistics& statistics) const;

 private:
  data::Task read(data::TaskKind kind, std::uint64_t seed);
  void count_tokens(std::string_view text, data::InputSummary& summary);
  bool next_query(decode::Query& query);
  void add_positions(decode::Query& query, std::size_t item) const;
  /// Whether the position counts; counts it.
  bool accepts(const decode::PositionReadout& position);
  bool decide(const decode::PositionReadout& position);
  /// What of the items was dropped.
  std::string account() const;
  /// How many items count, in part at least, of the item's class, right option or length of the answer.
  std::int64_t& kept_like(const data::TaskItem& item);

  Clock::time_point started_;
  const CorpusOptions& inputs_;
  const TaskOptions& options_;
  Session session_;
  report::RunFolder folder_;
  data::TokenCounts counts_;
  RunInputs read_;
  data::Task task_;
  bool retry_;
  std::vector<std::string> option_labels_;
  const experiments::Watch* watch_ = nullptr;
  std::size_t next_item_ = 0;
  std::int64_t kept_ = 0;                                     // positions
  std::int64_t last_kept_ = -1;                               // item
  std::vector<std::pair<std::string, std::int64_t>> groups_;  // items kept, by what tables tell apart
  std::int64_t asked_again_ = 0, by_alias_ = 0;               // items
  std::map<std::size_t, data::TaskItem> again_;  // by index, items to be asked again in their new form
};

}  // namespace depthlens::tool
