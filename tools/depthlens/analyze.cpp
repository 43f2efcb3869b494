// depthlens analyze: a corpus or a task through a model, every layer decoded, tables and records into a run
// folder.
#include <memory>

#include "command.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/decode/stored_states.hpp"
#include "depthlens/experiments/experiment.hpp"
#include "depthlens/run/run.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "input_flags.hpp"
#include "model_flags.hpp"
#include "outputs.hpp"
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
  std::string record_fields;
  std::int64_t max_records = 20000;
  std::string token_counts = "input";
  std::string buckets = "10,100,1000";
  std::string report = "yes";
  std::string layers;
  std::vector<std::string> states;
  std::string state_layers;
  std::string save_states;

  bool writes_records() const { return records != "none"; }
  report::RecordFields fields() const {
    return record_fields.empty() ? report::RecordFields() : report::RecordFields::parse(record_fields);
  }
};

/// What a run does, and so which settings bear on it.
struct Bearing {
  bool uses_lenses = true;  ///< not patching
  bool runs_model = true;   ///< not stored states
};

util::OrderedJson settings_json(const AnalyzeOptions& options, const Session& session, Bearing bearing = {}) {
  util::OrderedJson settings = util::OrderedJson::object();
  settings["experiments"] = experiments::parse_experiment_names(options.experiments);
  if (bearing.uses_lenses) {
    settings["lens_alignment"] = run::name_of(run::kAlignments, options.model.alignment);
    settings["allow_lens_mismatch"] = options.model.allow_lens_mismatch;
  }
  if (bearing.runs_model) {
    settings["max_length"] = session.max_length();
    settings["add_bos"] = session.bos().has_value();
  }
  if (bearing.runs_model)
    settings["bos"] = session.describe_bos();  // of states it is what their maker put there
  if (bearing.uses_lenses) {
    settings["top_k"] = options.top_k;
    settings["positions"] = options.corpus.positions;
  }
  settings["records"] = options.records;
  settings["max_records"] = options.max_records;
  if (bearing.uses_lenses) {
    settings["token_counts"] = options.token_counts;
    settings["buckets"] = data::parse_bucket_edges(options.buckets);
    settings["decode"] = run::name_of(run::kDecodePrecisions, options.model.decode);
  }
  settings["dtype"] = run::name_of(run::kDtypes, options.model.dtype);
  settings["device"] = options.model.device;
  settings["limit"] = options.corpus.limit;
  settings["seed"] = options.common.seed;
  if (options.fields().is_chosen()) settings["record_fields"] = options.fields().names();
  if (!options.save_states.empty()) settings["save_states"] = true;
  const std::vector<std::int64_t> layers = run::parse_layers(options.layers, session.spec().num_layers);
  if (!layers.empty()) settings["layers"] = layers;
  return settings;
}

util::OrderedJson patching_settings_json(const AnalyzeOptions& options, const Session& session) {
  util::OrderedJson settings = settings_json(options, session, {.uses_lenses = false});
  settings["keep"] = run::name_of(run::kCorrectOnly, options.task.correct_only);
  return settings;
}

/// The settings that only tasks have.
void add_task_settings(util::OrderedJson& settings, const TaskOptions& options, const run::TaskSource& run) {
  settings["keep"] = run::name_of(run::kCorrectOnly, options.correct_only);
  settings["whitespace_retry"] = run.retries_whitespace();
  if (run.task().kind == data::InputKind::kFacts && options.correct_only)
    settings["aliases"] = run::name_of(run::kAliases, options.aliases);
  if (run.task().kind == data::InputKind::kWords) {
    settings["classes"] = run.task().classes;
    settings["min_prompt_chars"] = options.min_prompt_chars;
    settings["per_class"] = options.per_class;
  }
  if (run.task().kind == data::InputKind::kQuestions) settings["options"] = options.options;
}

data::TokenCounts token_counts(const AnalyzeOptions& options, const data::TokenCounts& of_input,
                               const Session& session) {
  if (options.token_counts == "input") return of_input;
  return data::TokenCounts::read(options.token_counts, session.spec().vocab_size, session.tokenizer());
}

/// What a run is, as far as it does not depend on what it reads.
run::RunContext context_of(const AnalyzeOptions& options, const Session& session) {
  run::RunContext context;
  context.experiments = util::join(experiments::parse_experiment_names(options.experiments), ",");
  context.seed = static_cast<std::uint64_t>(options.common.seed);
  context.edges = data::parse_bucket_edges(options.buckets);
  context.shape.vocab_size = session.spec().vocab_size;
  context.shape.layers = run::parse_layers(options.layers, session.spec().num_layers);
  context.records = {.write = options.writes_records(),
                     .format = options.records == "jsonl.zst" ? report::RecordFormat::kJsonlZstd
                                                              : report::RecordFormat::kJsonl,
                     .fields = options.fields(),
                     .top_k = options.top_k,
                     .most = options.max_records};
  context.draws_page = options.report == "yes";
  context.keeps_all = !options.task.correct_only;
  return context;
}

/// run.json from schema_version to settings.
util::OrderedJson run_beginning(const Session& session, run::Source& source,
                                const util::OrderedJson& token_counts, util::OrderedJson settings) {
  source.complete_inputs();
  util::OrderedJson run = run::describe_run(session, source.inputs());
  if (!token_counts.is_null()) run["token_counts"] = token_counts;
  run["settings"] = std::move(settings);
  if (run["model"].contains("digest")) {
    run["warnings"] = source.compared_with(session.model().head(), run["model"]["digest"].get<std::string>());
    for (const std::string warning : run["warnings"]) util::log_warning(warning);
  }
  return run;
}

/// Decodes what `source` gives; `counts` are those of its own tokens.
void analyze_queries(const AnalyzeOptions& options, run::Run& run, Session& session, run::QuerySource& source,
                     const data::TokenCounts& of_input, run::RunContext context, util::OrderedJson settings,
                     const data::Task* task) {
  context.watch = find_watched(options.watch, session.tokenizer(), session.spec().vocab_size);
  describe_watched(context.watch, settings);
  data::TokenCounts counts = token_counts(options, of_input, session);
  const util::OrderedJson counted = run::token_counts_json(options.token_counts, counts);
  if (experiments::any_uses_buckets(options.experiments)) context.counts = std::move(counts);
  session.load();
  util::log_info(session.summary() + "; " + source.size());
  const util::FinishOnInterrupt finish;
  const bool begun = run.begin(std::move(context), source,
                               [&, settings] { return run_beginning(session, source, counted, settings); });
  std::filesystem::path save_states;
  if (!options.save_states.empty()) save_states = run.open_states(options.save_states);
  if (!begun) return;
  source.watch(run.context().watch);
  run.decode(session, source, {}, task, save_states);
  run.finish(session);
}

void analyze_corpus(const AnalyzeOptions& options) {
  run::Run run(options.corpus);
  Session session(located(options.model, run, options.common));
  run::CorpusSource source(options.corpus, session, run.spool_folder(),
                           static_cast<std::uint64_t>(options.common.seed));
  analyze_queries(options, run, session, source, source.survey().counts, context_of(options, session),
                  settings_json(options, session), nullptr);
}

/// States that were computed elsewhere: of the model only its head is needed.
void analyze_states(const AnalyzeOptions& options) {
  run::Run run(options.corpus);
  run::ModelOptions model = located(options.model, run, options.common);
  model.head_only = true;
  Session session(model);
  const std::int64_t L = session.spec().num_layers;
  run::StatesSource source(options.corpus, options.states,
                           run::parse_layers(options.state_layers, L, run::LayerList::kOfStates), session,
                           static_cast<std::uint64_t>(options.common.seed));
  run::RunContext context = context_of(options, session);
  util::OrderedJson settings = settings_json(options, session, {.runs_model = false});
  if (static_cast<std::int64_t>(source.layers().size()) <= L) {
    context.shape.layers = source.layers();
    settings["layers"] = source.layers();
  }
  settings["states"] = true;
  analyze_queries(options, run, session, source, source.survey().counts, std::move(context),
                  std::move(settings), nullptr);
}

void analyze_task(const AnalyzeOptions& options, data::InputKind kind) {
  run::Run run(options.corpus);
  Session session(located(options.model, run, options.common));
  run::TaskSource source(kind, options.corpus, options.task, session,
                         static_cast<std::uint64_t>(options.common.seed));
  run::RunContext context = context_of(options, session);
  context.input = kind;
  context.task = {.kind = kind,
                  .items = {},
                  .classes = source.task().classes,
                  .option_labels = source.task().option_labels,
                  .dropped = {}};
  context.groups = run::ItemGroups::of(source.task()).names;
  context.num_items = static_cast<std::int64_t>(source.task().items.size());
  util::OrderedJson settings = settings_json(options, session);
  add_task_settings(settings, options.task, source);
  analyze_queries(options, run, session, source, source.token_counts(), std::move(context),
                  std::move(settings), &source.task());
}

void analyze_pairs(const AnalyzeOptions& options) {
  run::Run run(options.corpus);
  Session session(located(options.model, run, options.common));
  run::PairsSource source(options.corpus, session);
  run::RunContext context = context_of(options, session);
  context.input = data::InputKind::kPairs;
  context.num_items = static_cast<std::int64_t>(source.task().items.size());
  session.load();
  util::log_info(session.summary() + "; " + source.size());
  const util::FinishOnInterrupt finish;
  const bool begun = run.begin(std::move(context), source, [&] {
    util::OrderedJson beginning =
        run_beginning(session, source, nullptr, patching_settings_json(options, session));
    beginning["lenses"] = util::OrderedJson::array();
    return beginning;
  });
  if (!begun) return;
  run.patch(session, source);
  run.finish(session);
}

/// What flags need to have an effect.
std::vector<Condition> conditions(const AnalyzeOptions& options, data::InputKind input) {
  const bool pairs = input == data::InputKind::kPairs, task = data::is_task(input);
  const std::string found = "--experiment " + options.experiments;
  const bool records = options.writes_records();
  const report::RecordFields fields = options.fields();
  const auto has_chosen = [&](report::RecordField field) { return fields.is_chosen() && fields.has(field); };
  std::vector<Condition> all = {
      {.flags = {"--positions"},
       .holds = input == data::InputKind::kCorpus,
       .needs = "a corpus",
       .found = found},
      {.flags = {"--keep"}, .holds = pairs || task, .needs = "a task or pairs", .found = found},
      {.flags = {"--whitespace-retry"}, .holds = task, .needs = "a task", .found = found},
      {.flags = {"--aliases"},
       .holds = input == data::InputKind::kFacts && options.task.correct_only,
       .needs = "facts with --keep correct",
       .found = options.task.correct_only ? found : "--keep all"},
      {.flags = {"--classes", "--min-prompt-chars", "--per-class"},
       .holds = input == data::InputKind::kWords,
       .needs = "words (pos)",
       .found = found},
      {.flags = {"--options"},
       .holds = input == data::InputKind::kQuestions,
       .needs = "questions (choices)",
       .found = found},
      {.flags = {"--token-counts", "--buckets"},
       .holds = experiments::any_uses_buckets(options.experiments),
       .needs = "an experiment that counts by frequency",
       .found = found},
      {.flags = {"--lens", "--lens-alignment", "--allow-lens-mismatch", "--decode", "--top-k", "--watch",
                 "--watch-pair", "--layers", "--record-fields"},
       .holds = !pairs,
       .needs = "an experiment with a lens: patching reads the model's own output and uses no lens",
       .found = found},
      {.flags = {"--input"},
       .holds = options.states.empty(),
       .needs = "a text, or states in its place",
       .found = "states from files (--states)"},
      {.flags = {"--max-length", "--add-bos", "--stream-layers", "--layers"},
       .holds = options.states.empty(),
       .needs = "a model that is run",
       .found = "states from files (--states)"},
      {.flags = {"--state-layers"}, .holds = !options.states.empty(), .needs = "--states"},
      {.flags = {"--save-states"},
       .holds = input == data::InputKind::kCorpus && options.states.empty(),
       .needs = "a corpus that the model is run over",
       .found = options.states.empty() ? found : "states from files (--states)"},
      {.flags = {"--max-records", "--record-fields"},
       .holds = records,
       .needs = "records",
       .found = "--records " + options.records},
      {.flags = {"--top-k"},
       .holds = fields.has_predictions(),
       .needs = "top_ids, top_tokens or top_logprobs among --record-fields",
       .found = options.record_fields},
      {.flags = {"--record-fields"},
       .holds = !has_chosen(report::RecordField::kOptions) || input == data::InputKind::kQuestions,
       .needs = "questions (choices) for its field options",
       .found = found},
      {.flags = {"--record-fields"},
       .holds = !has_chosen(report::RecordField::kWatched) || options.watch.given(),
       .needs = "a watched token (--watch, --watch-pair) for its field watched",
       .found = "none"}};
  for (Condition& condition : lens_conditions(options.model)) all.push_back(std::move(condition));
  return all;
}

void run_analyze(const CLI::App& app, const AnalyzeOptions& options) {
  if (options.states.empty() || options.corpus.out.empty()) check_corpus_options(options.corpus, "analyze");
  apply_common_options(options.common);
  const std::vector<data::InputKind> possible = experiments::possible_inputs(options.experiments);
  if (!options.states.empty() && possible.front() != data::InputKind::kCorpus) {
    throw util::usage_error({.what = "stored states are a corpus",
                             .where = "--experiment " + options.experiments,
                             .expected = "experiments on a corpus"});
  }
  const data::InputKind input =
      possible.size() == 1 ? possible.front()
                           : kind_of_task(options.corpus.inputs.front(), !options.task.options.empty());
  check_effects(app, conditions(options, input));
  data::parse_bucket_edges(options.buckets);
  if (!options.save_states.empty()) {
    check_place("--save-states", options.save_states, options.corpus.out);
    run::check_states_folder(options.save_states, options.corpus.overwrite);
  }
  check_not_replaced("--states", options.states, options.corpus.out);
  if (options.token_counts != "input")
    check_not_replaced("--token-counts", {options.token_counts}, options.corpus.out);
  if (!options.states.empty()) {
    analyze_states(options);
  } else if (input == data::InputKind::kCorpus) {
    analyze_corpus(options);
  } else if (input == data::InputKind::kPairs) {
    analyze_pairs(options);
  } else {
    analyze_task(options, input);
  }
}

/// The names that a list with commas may hold, for the help and completions. Whoever reads the list checks
/// it.
CLI::Validator list_of(const std::vector<std::string>& names) {
  return {[](const std::string&) { return std::string(); }, "{" + util::join(names, ",") + "}"};
}

std::vector<std::string> record_field_words() {
  std::vector<std::string> words = report::RecordFields().names();
  words.emplace_back("all");
  return words;
}

}  // namespace

std::function<void()> setup_analyze(CLI::App& app) {
  auto options = std::make_shared<AnalyzeOptions>();
  add_corpus_options(app, options->corpus);
  app.get_option("--input")->description(
      "Corpus: .txt, blank lines between documents, .jsonl, key \"text\"; task: JSON lines or array, "
      ".conllu; compressed by gzip, xz, zstd or not; pipes, - for stdin; may be given several times");
  app.add_option("--experiment", options->experiments, "What is measured: one or several, with commas")
      ->type_name("NAME,...")
      ->check(list_of(experiments::experiment_names()))
      ->delimiter(',')
      ->capture_default_str();
  add_run_options(app, options->model);
  app.add_option("--top-k", options->top_k, "Predictions of each layer in the records")
      ->check(integer(1, 1000))
      ->capture_default_str();
  add_positions_option(app, options->corpus);
  add_watch_options(app, options->watch);
  app.add_option("--records", options->records,
                 "Records of single positions: none, records.jsonl, or compressed records.jsonl.zst")
      ->check(one_of({"none", "jsonl", "jsonl.zst"}))
      ->capture_default_str();
  app.add_option("--record-fields", options->record_fields,
                 "What each lens's part of a record holds: one or several, with commas (default: all)")
      ->type_name("NAME,...")
      ->check(list_of(record_field_words()))
      ->delimiter(',');
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
  add_choice(app, "--decode", options->model.decode, run::kDecodePrecisions,
             "Products: exact, of the documented accuracy, or fast, a single one of low precision where "
             "the processor has it");
  app.add_option("--layers", options->layers,
                 "Layers that are decoded: 0,4,8 or 0-8 or every:4; the last one always is (default: all)")
      ->type_name("LIST")
      ->delimiter(',');
  add_repeatable(
      app, "--states", options->states,
      "Residual states computed elsewhere, in place of --input: .safetensors files, or folders of them")
      ->type_name("PATH");
  app.add_option("--state-layers", options->state_layers,
                 "Which layers the stored states are, as --layers (default: 0 to L)")
      ->type_name("LIST")
      ->delimiter(',');
  app.add_option("--save-states", options->save_states,
                 "Folder to write the residual states of every window to, float32")
      ->type_name("DIR");
  app.add_option("--report", options->report, "Draw report.html, a page that shows the run")
      ->check(one_of({"yes", "no"}))
      ->capture_default_str();
  add_parts_options(app, options->corpus);
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
