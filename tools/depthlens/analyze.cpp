// depthlens analyze: a corpus or a task through a model, every layer decoded, tables and records into a run
// folder.
#include <memory>
#include <optional>

#include "command.hpp"
#include "corpus_run.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/experiments/experiment.hpp"
#include "depthlens/experiments/patching.hpp"
#include "depthlens/report/page_records.hpp"
#include "depthlens/report/patching_records.hpp"
#include "depthlens/report/records.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "pairs_run.hpp"
#include "session.hpp"
#include "task_run.hpp"
#include "watch_options.hpp"

namespace depthlens::tool {
namespace {

struct AnalyzeOptions {
  CommonOptions common;
  ModelOptions model;
  CorpusOptions corpus;
  TaskOptions task;
  WatchOptions watch;
  std::string experiments = "trajectory,frequency,flips,settling";
  std::int64_t top_k = 10;
  std::string records = "jsonl";
  std::int64_t max_records = 20000;
  std::string token_counts = "input";
  std::string buckets = "10,100,1000";
  std::string report = "yes";
};

util::OrderedJson settings_json(const AnalyzeOptions& options, const Session& session) {
  return {{"experiments", util::split(options.experiments, ',')},
          {"lens_alignment", options.model.alignment},
          {"allow_lens_mismatch", options.model.allow_lens_mismatch},
          {"max_length", session.max_length()},
          {"add_bos", session.bos().has_value()},
          {"bos", session.bos() ? util::OrderedJson(*session.bos()) : util::OrderedJson(nullptr)},
          {"top_k", options.top_k},
          {"positions", options.corpus.positions},
          {"records", options.records},
          {"max_records", options.max_records},
          {"token_counts", options.token_counts},
          {"buckets", data::parse_bucket_edges(options.buckets)},
          {"decode", options.model.decode},
          {"dtype", options.model.dtype},
          {"device", options.model.device},
          {"limit", options.corpus.limit},
          {"seed", options.common.seed}};
}

/// The settings that bear on patching.
util::OrderedJson patching_settings_json(const AnalyzeOptions& options, const Session& session) {
  util::OrderedJson settings = settings_json(options, session);
  for (const char* key :
       {"lens_alignment", "allow_lens_mismatch", "top_k", "positions", "token_counts", "buckets", "decode"})
    settings.erase(key);
  settings["keep"] = options.task.keep;
  return settings;
}

/// The settings that only tasks have.
void add_task_settings(util::OrderedJson& settings, const TaskOptions& options, const TaskRun& run) {
  settings["keep"] = options.keep;
  settings["whitespace_retry"] = run.retries_whitespace();
  if (run.task().kind == data::TaskKind::kWords) {
    settings["classes"] = run.task().classes;
    settings["min_prompt_chars"] = options.min_prompt_chars;
    settings["per_class"] = options.per_class;
  }
  if (run.task().kind == data::TaskKind::kQuestions) settings["options"] = options.options;
}

std::vector<std::string> lens_names(const Session& session) {
  std::vector<std::string> names;
  for (const lens::Lens* lens : session.lenses()) names.push_back(lens->request().name);
  return names;
}

void tell_of_omitted(std::int64_t records, const std::string& unit, const AnalyzeOptions& options) {
  if (records == 0) return;
  util::log_info(util::cat(util::with_thousands(records), " ", unit, " beyond --max-records ",
                           options.max_records, " have no record; the tables count them"));
}

/// The experiments and the record writer of a run, as listeners, and what the page shows of the records.
class Listeners {
 public:
  /// `context.counts`, `folder` and `session` must outlive it; it must stay in its place.
  Listeners(const AnalyzeOptions& options, const experiments::Context& context, const Session& session,
            report::RunFolder& folder)
      : counts_(*context.counts),
        experiments_(experiments::make_experiments(options.experiments, context)),
        page_(lens_names(session), session.spec().num_layers) {
    for (const auto& experiment : experiments_) all_.push_back(experiment.get());
    if (options.records != "jsonl") return;
    records_ = std::make_unique<report::RecordWriter>(
        report::RecordOptions{.top_k = options.top_k,
                              .most = options.max_records,
                              .task = context.task,
                              .watch = context.watch},
        [&](decode::TokenId id) { return session.tokenizer().token_text(id); },
        [this, draws_page = options.report == "yes", &file = folder.records()](std::string_view line) {
          file.write(line);
          if (draws_page) page_.add(line, "a record");
        });
    all_.push_back(records_.get());
  }

  const std::vector<decode::Listener*>& all() const { return all_; }

  std::vector<tables::Table> tables() const {
    std::vector<tables::Table> tables;
    for (const auto& experiment : experiments_) {
      for (tables::Table& table : experiment->tables()) tables.push_back(std::move(table));
    }
    return tables;
  }

  RunParts parts(util::OrderedJson settings, const decode::RunStatistics& statistics,
                 const AnalyzeOptions& options) const {
    const std::int64_t omitted = records_ ? records_->omitted() : 0;
    tell_of_omitted(omitted, "positions", options);
    return {.settings = std::move(settings),
            .statistics = statistics,
            .records = records_ ? records_->written() : 0,
            .records_omitted = omitted,
            .page_records = options.report == "yes" ? &page_ : nullptr,
            .token_counts = token_counts_json(options.token_counts, counts_)};
  }

 private:
  const data::TokenCounts& counts_;
  std::vector<std::unique_ptr<experiments::Experiment>> experiments_;
  report::PageRecords page_;
  std::unique_ptr<report::RecordWriter> records_;
  std::vector<decode::Listener*> all_;
};

data::TokenCounts token_counts(const AnalyzeOptions& options, const data::TokenCounts& of_input,
                               const Session& session) {
  if (options.token_counts == "input") return of_input;
  return data::TokenCounts::read(options.token_counts, session.spec().vocab_size, session.tokenizer());
}

void analyze_corpus(const AnalyzeOptions& options, const std::vector<std::int64_t>& edges) {
  const auto seed = static_cast<std::uint64_t>(options.common.seed);
  CorpusRun run(options.corpus, options.model, seed);
  const Session& session = run.session();
  const experiments::Watch watch =
      find_watched(options.watch, session.tokenizer(), session.spec().vocab_size);
  run.watch(watch);
  const std::int64_t vocab_size = session.spec().vocab_size;
  const data::TokenCounts counts = token_counts(options, run.survey().counts, session);
  const experiments::Context context{.buckets = data::make_buckets(counts, edges, vocab_size),
                                     .counts = &counts,
                                     .task = nullptr,
                                     .seed = seed,
                                     .watch = &watch};
  run.load();
  const util::FinishOnInterrupt finish;
  const Listeners listeners(options, context, session, run.folder());
  const decode::RunStatistics statistics = run.decode(session.lenses(), listeners.all(), "analyzing");
  util::OrderedJson settings = settings_json(options, session);
  describe_watched(watch, settings);
  run.finish(listeners.parts(std::move(settings), statistics, options), listeners.tables());
  run.conclude(statistics);
}

void analyze_task(const AnalyzeOptions& options, data::TaskKind kind,
                  const std::vector<std::int64_t>& edges) {
  const auto seed = static_cast<std::uint64_t>(options.common.seed);
  TaskRun run(kind, options.corpus, options.task, options.model, seed);
  const Session& session = run.session();
  const experiments::Watch watch =
      find_watched(options.watch, session.tokenizer(), session.spec().vocab_size);
  run.watch(watch);
  const std::int64_t vocab_size = session.spec().vocab_size;
  const data::TokenCounts counts = token_counts(options, run.counts(), session);
  const experiments::Context context{.buckets = data::make_buckets(counts, edges, vocab_size),
                                     .counts = &counts,
                                     .task = &run.task(),
                                     .seed = seed,
                                     .watch = &watch};
  run.load();
  const util::FinishOnInterrupt finish;
  const Listeners listeners(options, context, session, run.folder());
  const decode::RunStatistics statistics = run.decode(listeners.all());
  util::OrderedJson settings = settings_json(options, session);
  add_task_settings(settings, options.task, run);
  describe_watched(watch, settings);
  run.finish(listeners.parts(std::move(settings), statistics, options), listeners.tables());
  run.conclude(statistics);
}

void analyze_pairs(const AnalyzeOptions& options) {
  PairsRun run(options.corpus, options.task, options.model);
  const Session& session = run.session();
  run.load();
  const util::FinishOnInterrupt finish;
  experiments::PatchingEffect effect(session.spec().num_layers + 1,
                                     static_cast<std::uint64_t>(options.common.seed));
  std::unique_ptr<report::PatchingRecords> records;
  if (options.records == "jsonl") {
    records = std::make_unique<report::PatchingRecords>(
        options.max_records, [&](decode::TokenId id) { return session.tokenizer().token_text(id); },
        [&file = run.folder().records()](std::string_view line) { file.write(line); });
  }
  const decode::RunStatistics statistics =
      run.patch([&](const data::PairItem& item, const decode::PatchingResult& result) {
        effect.add(item, result);
        if (records) records->accept(item, result);
      });
  const std::int64_t omitted = records ? records->omitted() : 0;
  tell_of_omitted(omitted, "pairs", options);
  const report::PageRecords no_lenses({}, session.spec().num_layers);
  run.finish({.settings = patching_settings_json(options, session),
              .statistics = statistics,
              .records = records ? records->written() : 0,
              .records_omitted = omitted,
              .page_records = options.report == "yes" ? &no_lenses : nullptr},
             effect.table());
  run.conclude(statistics);
}

/// What flags need to have an effect. `task` is the kind of the task, where the input is one.
std::vector<Condition> conditions(const AnalyzeOptions& options, bool pairs,
                                  std::optional<data::TaskKind> task) {
  const std::string found = "--experiment " + options.experiments;
  const bool records = options.records == "jsonl";
  std::vector<Condition> all = {
      {.flags = {"--positions"}, .holds = !pairs && !task, .needs = "a corpus", .found = found},
      {.flags = {"--keep"}, .holds = pairs || task, .needs = "a task or pairs", .found = found},
      {.flags = {"--whitespace-retry"}, .holds = task.has_value(), .needs = "a task", .found = found},
      {.flags = {"--classes", "--min-prompt-chars", "--per-class"},
       .holds = task == data::TaskKind::kWords,
       .needs = "words (pos)",
       .found = found},
      {.flags = {"--options"},
       .holds = task == data::TaskKind::kQuestions,
       .needs = "questions (choices)",
       .found = found},
      {.flags = {"--token-counts", "--buckets"},
       .holds = experiments::any_uses_buckets(options.experiments),
       .needs = "an experiment that counts by frequency",
       .found = found},
      {.flags = {"--lens", "--lens-alignment", "--allow-lens-mismatch", "--decode", "--top-k", "--watch",
                 "--watch-pair"},
       .holds = !pairs,
       .needs = "an experiment with a lens: patching reads the model's own output and uses no lens",
       .found = found},
      {.flags = {"--max-records"},
       .holds = records,
       .needs = "records",
       .found = "--records " + options.records}};
  for (Condition& condition : lens_conditions(options.model)) all.push_back(std::move(condition));
  return all;
}

void run_analyze(const CLI::App& app, const AnalyzeOptions& options) {
  check_corpus_options(options.corpus, "analyze");
  apply_common_options(options.common);
  std::vector<data::TaskKind> tasks;
  bool pairs = false;
  for (const experiments::InputKind input : experiments::possible_inputs(options.experiments)) {
    if (input == experiments::InputKind::kWords) tasks.push_back(data::TaskKind::kWords);
    if (input == experiments::InputKind::kFacts) tasks.push_back(data::TaskKind::kFacts);
    if (input == experiments::InputKind::kQuestions) tasks.push_back(data::TaskKind::kQuestions);
    pairs = pairs || input == experiments::InputKind::kPairs;
  }
  std::optional<data::TaskKind> task;
  if (!tasks.empty()) task = task_kind(tasks, options.corpus.inputs.front());
  check_effects(app, conditions(options, pairs, task));
  const std::vector<std::int64_t> edges = data::parse_bucket_edges(options.buckets);
  if (pairs) {
    analyze_pairs(options);
  } else if (task) {
    analyze_task(options, *task, edges);
  } else {
    analyze_corpus(options, edges);
  }
}

}  // namespace

std::function<void()> setup_analyze(CLI::App& app) {
  auto options = std::make_shared<AnalyzeOptions>();
  add_corpus_options(app, options->corpus);
  app.get_option("--input")->description(
      "Corpus: .txt (documents separated by blank lines), .jsonl (key \"text\"); task: JSON lines or array, "
      ".conllu; compressed by gzip, xz, zstd or not; pipes, - for stdin; may be given several times");
  app.add_option("--experiment", options->experiments,
                 "Comma-separated: " + util::join(experiments::experiment_names(), ", "))
      ->type_name("NAME,...")
      ->delimiter(',')
      ->capture_default_str();
  add_run_options(app, options->model);
  app.add_option("--top-k", options->top_k, "Predictions of each layer in the records")
      ->check(integer(1, 1000))
      ->capture_default_str();
  add_positions_option(app, options->corpus);
  add_watch_options(app, options->watch);
  app.add_option("--records", options->records, "Records of single positions")
      ->check(one_of({"none", "jsonl"}))
      ->capture_default_str();
  app.add_option("--max-records", options->max_records,
                 "Records written, in input order (0: all); tables count the others too")
      ->check(integer(0))
      ->capture_default_str();
  app.add_option("--token-counts", options->token_counts,
                 "Frequency table: a file of count-tokens, or the input itself")
      ->type_name("FILE|input")
      ->capture_default_str();
  app.add_option("--buckets", options->buckets, "Edges of the frequency buckets, by rank in the table")
      ->type_name("N,...")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option(
         "--decode", options->model.decode,
         "exact: the documented accuracy; fast: one low-precision product where the processor has one")
      ->check(one_of({"exact", "fast"}))
      ->capture_default_str();
  app.add_option("--report", options->report, "Draw report.html, a page that shows the run")
      ->check(one_of({"yes", "no"}))
      ->capture_default_str();
  add_limit_option(app, options->corpus);
  app.get_option("--limit")->description("Stop after N documents, or items of a task (0: all)");
  add_task_options(app, options->task);
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens analyze --input data/corpora/harbour.txt --out out/harbour\n"
      "  depthlens analyze --experiment facts --input data/tasks/facts.jsonl --out out/facts\n"
      "  depthlens analyze --experiment patching --input data/tasks/pairs.jsonl --out out/patching\n"
      "  depthlens analyze --model gpt2 --lens logit --lens tuned:lens/gpt2 --input book.txt --out out/book");
  return [options, &app] { run_analyze(app, *options); };
}

}  // namespace depthlens::tool
