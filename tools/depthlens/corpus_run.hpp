// A corpus through a model into a run folder: what the commands that do so share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/data/corpus.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/experiments/watch.hpp"
#include "depthlens/report/run_folder.hpp"
#include "run_parts.hpp"
#include "session.hpp"

namespace depthlens::tool {

struct CorpusOptions {
  std::vector<std::string> inputs;
  std::string out;
  bool overwrite = false;
  std::string positions = "all";
  std::int64_t limit = 0;

  bool last_only() const { return positions == "last"; }
  /// How many positions are drawn from the whole input; nothing where none are.
  std::optional<std::int64_t> sample() const;
};

/// Adds --input, --out and --overwrite.
void add_corpus_options(CLI::App& app, CorpusOptions& options);
/// Adds --positions.
void add_positions_option(CLI::App& app, CorpusOptions& options);
/// Adds --limit.
void add_limit_option(CLI::App& app, CorpusOptions& options);

/// Throws a usage error where --input or --out is missing; `command` is for the hint.
void check_corpus_options(const CorpusOptions& options, const std::string& command);

/// What the first reading of the corpus finds out.
struct Survey {
  data::TokenCounts counts;
  std::vector<data::InputSummary> inputs;
  std::int64_t windows = 0;
  std::int64_t positions = 0;       ///< to be analysed
  std::vector<std::int64_t> drawn;  ///< of a sample: numbers of the positions, counted over the input; rising
  std::int64_t documents = 0;
  std::int64_t documents_without_tokens = 0;
};

/// Goes through a run in the order of cost, so that a mistake is reported before anything large is loaded:
/// constructor, `load`, `decode` (as often as wanted), `finish`.
class CorpusRun {
 public:
  /// Opens model folder, corpus and run folder, and reads the corpus once. The options must have been checked
  /// by `check_corpus_options` and must outlive the run.
  /// `seed` draws the sample of positions, where there is one.
  CorpusRun(const CorpusOptions& options, const ModelOptions& model, std::uint64_t seed = 0);

  Session& session() { return session_; }
  report::RunFolder& folder() { return folder_; }
  const Survey& survey() const { return survey_; }

  /// Loads weights and lenses.
  void load();

  /// Every position watches these tokens; they must outlive `decode`. Throws a usage error for a distractor,
  /// which a corpus has not.
  void watch(const experiments::Watch& watch);

  /// Puts the corpus, read from its beginning, through the engine. Ends early when the user interrupts.
  /// `title` begins the line of progress; of the engine's options, what reports and stops is filled in here.
  decode::RunStatistics decode(const std::vector<const lens::Lens*>& lenses,
                               const std::vector<decode::Listener*>& listeners, const std::string& title,
                               decode::EngineOptions engine_options = {});

  /// Writes the run folder.
  void finish(const RunParts& parts, const std::vector<tables::Table>& tables,
              std::vector<report::ExtraFile> files = {});

  void conclude(const decode::RunStatistics& statistics) const;

 private:
  data::Dropped dropped() const;

  Clock::time_point started_;
  const CorpusOptions& options_;
  Session session_;
  data::Corpus corpus_;
  report::RunFolder folder_;
  Survey survey_;
  const experiments::Watch* watch_ = nullptr;
};

}  // namespace depthlens::tool
