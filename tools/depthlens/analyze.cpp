// depthlens analyze: a corpus through a model, every layer decoded, tables and records into a run folder.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <memory>

#include "command.hpp"
#include "depthlens/data/corpus.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/decode/engine.hpp"
#include "depthlens/decode/runtime.hpp"
#include "depthlens/experiments/experiment.hpp"
#include "depthlens/report/records.hpp"
#include "depthlens/report/run_folder.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "session.hpp"

namespace depthlens::tool {
namespace {

struct AnalyzeOptions {
  CommonOptions common;
  ModelOptions model;
  std::vector<std::string> inputs;
  std::string experiments = "trajectory,frequency,flips,settling";
  std::string out;
  bool overwrite = false;
  std::int64_t top_k = 10;
  std::string positions = "all";
  std::string records = "jsonl";
  std::int64_t max_records = 20000;
  std::string token_counts = "input";
  std::string buckets = "10,100,1000";
  std::string decode = "exact";
  std::int64_t limit = 0;
};

/// What the first reading of the corpus finds out.
struct Survey {
  data::TokenCounts counts;
  std::int64_t windows = 0;
  std::int64_t positions = 0;
  std::int64_t documents = 0;
  std::int64_t documents_without_tokens = 0;
};

/// Windows of the next document that has any; empty at the end.
std::vector<std::vector<text::TokenId>> next_windows(data::Corpus& corpus, const Session& session,
                                                     std::int64_t& document) {
  while (const auto tokenized = corpus.next()) {
    document = tokenized->index;
    auto windows = data::cut_into_windows(tokenized->tokens, session.max_length(), session.bos());
    if (!windows.empty()) return windows;
  }
  return {};
}

Survey survey_corpus(data::Corpus& corpus, const Session& session, bool last_only) {
  Survey survey;
  util::Progress progress("counting tokens", "tokens", 0);
  while (const auto document = corpus.next()) {
    if (util::interrupted()) throw util::interrupted_error();
    session.check_in_vocabulary(document->tokens);
    for (const text::TokenId id : document->tokens) survey.counts.add(id);
    ++survey.documents;
    if (document->tokens.empty()) ++survey.documents_without_tokens;
    for (const auto& window : data::cut_into_windows(document->tokens, session.max_length(), session.bos())) {
      ++survey.windows;
      survey.positions += last_only ? 1 : static_cast<std::int64_t>(window.size());
    }
    progress.advance(static_cast<std::int64_t>(document->tokens.size()));
  }
  if (survey.windows == 0) {
    throw util::input_error({.what = "the input holds no text",
                             .where = corpus.summaries().front().path,
                             .expected = "documents separated by blank lines"});
  }
  return survey;
}

util::OrderedJson settings_json(const AnalyzeOptions& options, const Session& session) {
  return {{"experiments", util::split(options.experiments, ',')},
          {"lens_alignment", options.model.alignment},
          {"allow_lens_mismatch", options.model.allow_lens_mismatch},
          {"max_length", session.max_length()},
          {"add_bos", session.bos().has_value()},
          {"bos", session.bos() ? util::OrderedJson(*session.bos()) : util::OrderedJson(nullptr)},
          {"top_k", options.top_k},
          {"positions", options.positions},
          {"records", options.records},
          {"max_records", options.max_records},
          {"token_counts", options.token_counts},
          {"buckets", data::parse_bucket_edges(options.buckets)},
          {"decode", options.decode},
          {"dtype", options.model.dtype},
          {"device", options.model.device},
          {"limit", options.limit},
          {"seed", options.common.seed}};
}

/// What differs between two identical runs.
util::OrderedJson volatile_json(const AnalyzeOptions& options,
                                std::chrono::system_clock::time_point started) {
  std::array<char, 32> time = {};
  const std::time_t seconds = std::chrono::system_clock::to_time_t(started);
  std::tm utc = {};
  std::strftime(time.data(), time.size(), "%Y-%m-%dT%H:%M:%SZ", ::gmtime_r(&seconds, &utc));
  std::array<char, 256> host = {};
  ::gethostname(host.data(), host.size() - 1);
  return {{"started", time.data()},
          {"seconds", std::chrono::duration<double>(std::chrono::system_clock::now() - started).count()},
          {"host", host.data()},
          {"threads", decode::num_threads()},
          {"kernel", decode::cpu_kernel_name()},
          {"out", options.out}};
}

void run_analyze(const AnalyzeOptions& options) {
  const auto started = std::chrono::system_clock::now();
  if (options.inputs.empty())
    throw util::usage_error(
        {.what = "no input", .where = "--input", .hint = "depthlens analyze --input FILE.txt --out DIR"});
  if (options.out.empty())
    throw util::usage_error(
        {.what = "no run folder", .where = "--out", .hint = "depthlens analyze --input FILE.txt --out DIR"});
  apply_common_options(options.common);
  experiments::parse_experiment_names(options.experiments);
  const std::vector<std::int64_t> edges = data::parse_bucket_edges(options.buckets);
  const bool last_only = options.positions == "last";

  Session session(options.model);
  data::Corpus corpus(options.inputs, session.tokenizer(), options.limit);
  report::RunFolder folder(options.out, options.overwrite);
  const Survey survey = survey_corpus(corpus, session, last_only);
  const std::vector<data::InputSummary> inputs = corpus.summaries();
  const std::int64_t vocab_size = session.spec().vocab_size;
  const data::TokenCounts counts = options.token_counts == "input"
                                       ? survey.counts
                                       : data::TokenCounts::read(options.token_counts, vocab_size);
  const experiments::Context context{.buckets = data::make_buckets(counts, edges, vocab_size)};

  session.load();
  const model::Model& model = session.model();
  util::log_info(util::cat(model.spec().architecture, ", ", model.spec().num_layers, " blocks, ",
                           util::with_thousands(model.num_parameters()), " parameters; ",
                           util::with_thousands(survey.positions), " positions in ",
                           util::with_thousands(survey.windows), " windows"));

  const auto experiments = experiments::make_experiments(options.experiments, context);
  std::vector<decode::Listener*> listeners;
  for (const auto& experiment : experiments) listeners.push_back(experiment.get());
  std::unique_ptr<report::RecordWriter> records;
  if (options.records == "jsonl") {
    records = std::make_unique<report::RecordWriter>(
        report::RecordOptions{.top_k = options.top_k, .most = options.max_records},
        [&](decode::TokenId id) { return session.tokenizer().token_text(id); },
        [&file = folder.records()](std::string_view line) { file.write(line); });
    listeners.push_back(records.get());
  }

  corpus.rewind();
  std::vector<std::vector<text::TokenId>> windows;
  std::size_t next_window = 0;
  std::int64_t document = 0;
  const auto source = [&](decode::Query& query) {
    if (next_window == windows.size()) {
      windows = next_windows(corpus, session, document);
      next_window = 0;
      if (windows.empty()) return false;
    }
    query.document = document;
    query.window = static_cast<std::int64_t>(next_window);
    query.tokens = std::move(windows[next_window++]);
    const auto length = static_cast<std::int64_t>(query.tokens.size());
    for (std::int64_t t = last_only ? length - 1 : 0; t < length; ++t) {
      const decode::TokenId target =
          t + 1 < length ? query.tokens[static_cast<std::size_t>(t) + 1] : decode::kNoToken;
      query.positions.push_back({.position = t, .target = target, .watched = {}});
    }
    return true;
  };

  util::Progress progress("analyzing", "positions", survey.positions);
  decode::EngineOptions engine_options;
  engine_options.on_progress = [&](std::int64_t positions) { progress.advance(positions); };
  engine_options.should_stop = util::interrupted;
  const decode::Engine engine(model, session.lenses(), engine_options);
  const decode::RunStatistics statistics = engine.run(source, listeners);
  progress.finish();

  std::vector<tables::Table> tables;
  for (const auto& experiment : experiments) {
    for (tables::Table& table : experiment->tables()) tables.push_back(std::move(table));
  }
  util::OrderedJson input_list = util::OrderedJson::array();
  for (const data::InputSummary& input : inputs) {
    input_list.push_back({{"path", input.path},
                          {"sha256", input.sha256},
                          {"documents", input.documents},
                          {"tokens", input.tokens}});
  }
  util::OrderedJson dropped = util::OrderedJson::object();
  if (survey.documents_without_tokens > 0) dropped["no_tokens"] = survey.documents_without_tokens;
  const std::int64_t omitted = records ? records->omitted() : 0;
  util::OrderedJson run = {
      {"schema_version", report::kSchemaVersion},
      {"status", statistics.stopped ? "partial" : "complete"},
      {"model", session.describe_model()},
      {"tokenizer", {{"kind", session.tokenizer().kind()}, {"size", session.tokenizer().size()}}},
      {"lenses", session.describe_lenses()},
      {"inputs", input_list},
      {"settings", settings_json(options, session)},
      {"counts",
       {{"documents", survey.documents},
        {"windows", statistics.windows},
        {"tokens", statistics.tokens},
        {"positions", statistics.positions},
        {"records", records ? records->written() : 0},
        {"records_omitted", omitted},
        {"dropped", dropped}}},
      {"self_check",
       {{"final_layer_max_abs_error", statistics.final_layer_max_abs_error},
        {"positions", statistics.self_checked_positions}}},
      {"depthlens", {{"version", DEPTHLENS_VERSION}, {"libtorch", decode::libtorch_version()}}},
      {"volatile", volatile_json(options, started)}};
  folder.finish(run, tables);
  if (omitted > 0) {
    util::log_info(util::cat(util::with_thousands(omitted), " positions beyond --max-records ",
                             options.max_records, " have no record; the tables count them"));
  }
  if (statistics.stopped) {
    util::log_warning(util::cat("stopped after ", util::with_thousands(statistics.positions), " positions; ",
                                options.out, " holds what was finished (status partial)"));
    throw util::interrupted_error();
  }
  util::log_info("results are in " + options.out);
}

}  // namespace

std::function<void()> setup_analyze(CLI::App& app) {
  auto options = std::make_shared<AnalyzeOptions>();
  app.add_option("--input", options->inputs,
                 "Corpus: .txt (documents separated by blank lines), .jsonl (key \"text\"), - for stdin; may "
                 "be given several times")
      ->type_name("FILE")
      ->take_all();
  app.add_option("--out", options->out, "Run folder to write")->type_name("DIR");
  app.add_flag("--overwrite", options->overwrite, "Replace the run that the folder holds");
  app.add_option("--experiment", options->experiments,
                 "Comma-separated: " + util::join(experiments::experiment_names(), ", "))
      ->capture_default_str();
  add_run_options(app, options->model);
  app.add_option("--top-k", options->top_k, "Predictions kept for each layer")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--positions", options->positions, "Which positions of each window")
      ->check(CLI::IsMember({"all", "last"}))
      ->capture_default_str();
  app.add_option("--records", options->records, "Records of single positions")
      ->check(CLI::IsMember({"none", "jsonl"}))
      ->capture_default_str();
  app.add_option("--max-records", options->max_records,
                 "Records written, in input order (0: all); tables count every position")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--token-counts", options->token_counts,
                 "Frequency table: a file of count-tokens, or the input itself")
      ->type_name("FILE|input")
      ->capture_default_str();
  app.add_option("--buckets", options->buckets, "Edges of the frequency buckets, by rank in the table")
      ->capture_default_str();
  app.add_option(
         "--decode", options->decode,
         "exact: the documented accuracy; fast: one low-precision product where the processor has one")
      ->check(CLI::IsMember({"exact", "fast"}))
      ->capture_default_str();
  app.add_option("--limit", options->limit, "Stop after N documents (0: all)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens analyze --input data/corpora/harbour.txt --out out/harbour\n"
      "  depthlens analyze --model gpt2 --lens logit --lens tuned:lens/gpt2 --input book.txt --out out/book");
  return [options] { run_analyze(*options); };
}

}  // namespace depthlens::tool
