// What a run is about: the items of its inputs, cut into parts, as queries of the engine or pairs of the
// patcher.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/data/corpus.hpp"
#include "depthlens/data/dropped.hpp"
#include "depthlens/data/pairs.hpp"
#include "depthlens/data/task.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/decode/readout.hpp"
#include "depthlens/decode/stored_states.hpp"
#include "depthlens/experiments/watch.hpp"
#include "depthlens/run/plan.hpp"
#include "depthlens/run/settings.hpp"
#include "depthlens/tables/state.hpp"
#include "depthlens/util/digest.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::run {

class Session;

/// What was read.
struct RunInputs {
  std::vector<data::InputSummary> files;
  std::int64_t documents = 0;
  data::Dropped dropped = {};  ///< of what was read; what the model drops is in the state
};

/// `inputs` of run.json.
util::OrderedJson inputs_json(const std::vector<data::InputSummary>& inputs);

/// `token_counts` of run.json: the file at `path` that the table was read from; null where it was counted.
util::OrderedJson token_counts_json(const std::string& path, const data::TokenCounts& counts);

/// The input error `what` of task files of which nothing can be used, with the reasons.
util::Error nothing_left_error(const std::string& what, const std::vector<std::string>& inputs,
                               const data::Dropped& dropped);

/// The usage error of a run without distractors that is to watch them.
util::Error no_distractor_error(const std::string& what);

/// What a run adds up beside its experiments: arrays of the state.
struct RunCounts {
  explicit RunCounts(tables::State& state);

  enum Count : std::size_t {
    kWindows,
    kTokens,
    kPositions,
    kSelfChecked,
    kShown,  ///< positions or pairs that count; records are written of these
    kAskedAgain,
    kByAlias,
    kNumCounts
  };
  tables::Counts& counts;
  tables::Counts& dropped;        ///< by data::Drop
  tables::Maxima& self_check;     ///< [1] the greatest error, nats
  tables::Histograms& kept_like;  ///< [1] items that count, by `ItemGroups::key_of`
};

/// Reasons that `counts` has.
data::Dropped dropped_in(const tables::Counts& counts);

class Source {
 public:
  virtual ~Source() = default;
  virtual const Plan& plan() const = 0;
  virtual const RunInputs& inputs() const = 0;
  /// What is to be done, for the log: "4,871 positions in 20 windows".
  virtual std::string size() const = 0;
  /// Waits for what of `inputs` is still being found out: digests of large files.
  virtual void complete_inputs() {}
  /// What is to be warned of where the input is not what this model makes, the run's: of another digest, or
  /// already what its head makes.
  virtual std::vector<std::string> compared_with(const model::OutputHead& /*head*/,
                                                 const std::string& /*model_digest*/) const {
    return {};
  }
  /// Whoever reads the input on checks that it is what was read first. At the end of a process' share.
  virtual void check_unchanged() {}
};

/// Queries, part by part.
class QuerySource : public Source {
 public:
  /// Positions that will be read out in all parts, about.
  virtual std::int64_t num_positions() const = 0;
  virtual const char* doing() const = 0;  ///< "analyzing", for the line of progress

  /// Every position watches these tokens, which must outlive the source. Throws a usage error for a
  /// distractor where there is none.
  virtual void watch(const experiments::Watch& watch) = 0;

  virtual void begin_part(std::int64_t part) = 0;
  /// Fills in the next query of the part; false where there is none.
  virtual bool next(decode::Query& query) = 0;
  /// Whether there may be more queries of a part once all that `next` gave have been shown.
  virtual bool may_ask_again() const { return false; }
  /// Whether the position counts; adds to `counts` what becomes of it.
  virtual bool accepts(const decode::PositionReadout& /*position*/, RunCounts& /*counts*/) { return true; }
};

/// What the first reading of a corpus finds out.
struct Survey {
  data::TokenCounts counts;
  std::int64_t windows = 0;
  std::int64_t positions = 0;       ///< to be analysed
  std::vector<std::int64_t> drawn;  ///< of a sample: numbers of the positions, counted over the input; rising
};

/// Running text: of each window the positions that `--positions` asks for, each with the token that follows.
class TextSource : public QuerySource {
 public:
  const Survey& survey() const { return survey_; }

  const Plan& plan() const override { return plan_; }
  const RunInputs& inputs() const override { return inputs_; }
  std::int64_t num_positions() const override { return survey_.positions; }
  const char* doing() const override { return "analyzing"; }
  void watch(const experiments::Watch& watch) override;

 protected:
  /// The options must outlive the source.
  explicit TextSource(const InputOptions& options) : options_(options) {}

  /// In the first reading: the next window, of `length` tokens; then the end, where plan and sample are made.
  void add_window(const Place& place, std::int64_t length);
  void end_survey(std::uint64_t seed);
  /// Positions to be analysed of a window of `length` tokens, rising; `first` is its first position, counted
  /// over the input.
  std::vector<std::int64_t> chosen(std::int64_t first, std::int64_t length) const;
  /// Adds `positions` to a query that has its tokens.
  void add_positions(decode::Query& query, const std::vector<std::int64_t>& positions) const;

  const InputOptions& options_;
  Plan plan_;
  RunInputs inputs_;
  Survey survey_;

 private:
  Planner planner_;
  const experiments::Watch* watch_ = nullptr;
};

/// Documents, cut into windows. A part may begin at any window.
class CorpusSource : public TextSource {
 public:
  /// Reads the corpus once. Session and options must outlive the source; what can be read once only is copied
  /// into `spool_folder`. `seed` draws the sample of positions, where there is one. Throws an input error
  /// where there is no text.
  CorpusSource(const InputOptions& options, const Session& session, const std::filesystem::path& spool_folder,
               std::uint64_t seed);

  std::string size() const override;
  void check_unchanged() override { corpus_.check_unchanged(); }
  void begin_part(std::int64_t part) override;
  bool next(decode::Query& query) override;

 private:
  void survey_corpus(std::uint64_t seed);
  bool next_document();

  const Session& session_;
  data::Corpus corpus_;
  std::int64_t part_ = -1;
  data::TokenizedDocument document_;                 // at hand
  std::vector<std::vector<text::TokenId>> windows_;  // of the document
  std::size_t next_window_ = 0;
  std::int64_t first_position_ = 0;  // of the next window, counted over the input
};

/// Residual states computed elsewhere: each file is a document of one window.
class StatesSource : public TextSource {
 public:
  /// Looks at every file. `paths` are files, or folders of them; `layers` those that are stored, rising,
  /// empty: those that states.json beside them tells, or all. Session and options must outlive the source.
  /// Throws input errors that name the file.
  StatesSource(const InputOptions& options, const std::vector<std::string>& paths,
               std::vector<std::int64_t> layers, const Session& session, std::uint64_t seed);

  const std::vector<std::int64_t>& layers() const { return expected_.layers; }

  std::string size() const override;
  void complete_inputs() override;
  std::vector<std::string> compared_with(const model::OutputHead& head,
                                         const std::string& model_digest) const override;
  void check_unchanged() override;
  void begin_part(std::int64_t part) override;
  bool next(decode::Query& query) override;

 private:
  /// 1 where BOS begins the window of file `f`: it is no part of the text.
  std::size_t num_bos(const decode::StoredStates& states, std::size_t f) const;

  decode::StoredStates::Expected expected_;
  std::vector<std::filesystem::path> files_;
  std::vector<std::optional<text::TokenId>> bos_;                                   // of each
  std::vector<std::pair<std::filesystem::path, std::string>> models_;               // folders and digests
  std::vector<std::pair<std::uintmax_t, std::filesystem::file_time_type>> stamps_;  // size, time
  std::vector<std::int64_t> lengths_;                                               // tokens
  std::unique_ptr<util::FileDigests> digests_;
  std::size_t next_file_ = 0, end_file_ = 0;  // of the part
  std::int64_t first_position_ = 0;           // of the next file, counted over all of them
};

/// Items of a task by what tables tell apart: the class, the right option, the length of the answer.
struct ItemGroups {
  /// Their numbers and names, in the order in which they are reported.
  std::vector<std::pair<std::int64_t, std::string>> names;

  static ItemGroups of(const data::Task& task);
  static std::int64_t key_of(const data::Task& task, const data::TaskItem& item);
  static std::string name_of_length(std::int64_t tokens);  ///< of facts, whose key is the length
};

/// Facts, questions, tagged words.
class TaskSource : public QuerySource {
 public:
  /// Reads the task. Session and options must outlive the source. Throws input errors, also where no item is
  /// left.
  TaskSource(data::InputKind kind, const InputOptions& inputs, const TaskOptions& options,
             const Session& session, std::uint64_t seed);

  const data::Task& task() const { return task_; }
  /// Tokens of the input: of the sentences, or of prompts with their answers.
  const data::TokenCounts& token_counts() const { return counts_; }
  bool retries_whitespace() const { return retry_; }

  const Plan& plan() const override { return plan_; }
  const RunInputs& inputs() const override { return read_; }
  std::string size() const override;
  std::int64_t num_positions() const override;
  const char* doing() const override { return "asking"; }
  void watch(const experiments::Watch& watch) override;
  void begin_part(std::int64_t part) override;
  /// An item at which the model says white space is asked again after all others of its part where that is
  /// wanted, and one of which it says the first token of an alias with that alias: where it goes on to say
  /// all of it, the alias takes the answer's place.
  bool next(decode::Query& query) override;
  bool may_ask_again() const override { return retry_ || has_aliases_; }
  bool accepts(const decode::PositionReadout& position, RunCounts& counts) override;

 private:
  data::Task read(data::InputKind kind, std::uint64_t seed);
  void count_tokens(std::string_view text, data::InputSummary& summary);
  void add_positions(decode::Query& query, std::size_t item) const;
  bool decide(const decode::PositionReadout& position, RunCounts& counts);
  void finish_trial(std::size_t item, RunCounts& counts);

  const InputOptions& options_;
  const TaskOptions& task_options_;
  const Session& session_;
  data::TokenCounts counts_;
  RunInputs read_;
  data::Task task_;
  Plan plan_;
  bool retry_;
  bool has_aliases_ = false;
  const experiments::Watch* watch_ = nullptr;
  std::size_t next_item_ = 0, end_item_ = 0;     // of the part
  std::int64_t last_kept_ = -1;                  // item
  std::map<std::size_t, data::TaskItem> again_;  // by index, items to be asked again in their new form
  /// An item as it was before it was asked with an alias, of which so far all tokens were said, or not.
  struct Trial {
    data::TaskItem before;
    bool is_said = true;
  };
  std::map<std::size_t, Trial> trials_;  // by index; the items themselves have the alias
};

/// Pairs of prompts.
class PairsSource : public Source {
 public:
  /// Reads the pairs. Throws input errors, also where no pair is left.
  PairsSource(const InputOptions& inputs, const Session& session);

  const data::PairTask& task() const { return task_; }
  /// The items of a part: indices of the first one and behind the last one.
  std::pair<std::size_t, std::size_t> items_of(std::int64_t part) const;

  const Plan& plan() const override { return plan_; }
  const RunInputs& inputs() const override { return read_; }
  std::string size() const override;

 private:
  RunInputs read_;
  data::PairTask task_;
  Plan plan_;
};

}  // namespace depthlens::run
