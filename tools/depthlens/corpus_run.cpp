// Corpus → windows → queries → engine → run folder.
#include "corpus_run.hpp"

#include <unistd.h>

#include <array>
#include <ctime>

#include "depthlens/decode/runtime.hpp"
#include "depthlens/report/page.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {
namespace {

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
  survey.inputs = corpus.summaries();
  if (survey.windows == 0) {
    throw util::input_error({.what = "the input holds no text",
                             .where = survey.inputs.front().path,
                             .expected = "documents separated by blank lines"});
  }
  return survey;
}

/// What differs between two identical runs.
util::OrderedJson volatile_json(const std::string& out, std::chrono::system_clock::time_point started) {
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
          {"out", out}};
}

}  // namespace

void add_corpus_options(CLI::App& app, CorpusOptions& options) {
  app.add_option("--input", options.inputs,
                 "Corpus: .txt (documents separated by blank lines), .jsonl (key \"text\"), - for stdin; may "
                 "be given several times")
      ->type_name("FILE")
      ->take_all();
  app.add_option("--out", options.out, "Run folder to write")->type_name("DIR");
  app.add_flag("--overwrite", options.overwrite, "Replace the run that the folder holds");
}

void add_positions_option(CLI::App& app, CorpusOptions& options) {
  app.add_option("--positions", options.positions, "Which positions of each window")
      ->check(CLI::IsMember({"all", "last"}))
      ->capture_default_str();
}

void add_limit_option(CLI::App& app, CorpusOptions& options) {
  app.add_option("--limit", options.limit, "Stop after N documents (0: all)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

void check_corpus_options(const CorpusOptions& options, const std::string& command) {
  const std::string hint = "depthlens " + command + " --input FILE.txt --out DIR";
  if (options.inputs.empty()) throw util::usage_error({.what = "no input", .where = "--input", .hint = hint});
  if (options.out.empty()) throw util::usage_error({.what = "no run folder", .where = "--out", .hint = hint});
}

CorpusRun::CorpusRun(const CorpusOptions& options, const ModelOptions& model)
    : started_(std::chrono::system_clock::now()),
      options_(options),
      session_(model),
      corpus_(options.inputs, session_.tokenizer(), options.limit),
      folder_(options.out, options.overwrite),
      survey_(survey_corpus(corpus_, session_, options.last_only())) {}

void CorpusRun::load() {
  session_.load();
  const model::Model& model = session_.model();
  util::log_info(util::cat(model.spec().architecture, ", ", model.spec().num_layers, " blocks, ",
                           util::with_thousands(model.num_parameters()), " parameters; ",
                           util::with_thousands(survey_.positions), " positions in ",
                           util::with_thousands(survey_.windows), " windows"));
}

decode::RunStatistics CorpusRun::decode(const std::vector<const lens::Lens*>& lenses,
                                        const std::vector<decode::Listener*>& listeners,
                                        const std::string& title, decode::EngineOptions engine_options) {
  corpus_.rewind();
  std::vector<std::vector<text::TokenId>> windows;
  std::size_t next_window = 0;
  std::int64_t document = 0;
  const auto source = [&](decode::Query& query) {
    if (next_window == windows.size()) {
      windows = next_windows(corpus_, session_, document);
      next_window = 0;
      if (windows.empty()) return false;
    }
    query.document = document;
    query.window = static_cast<std::int64_t>(next_window);
    query.tokens = std::move(windows[next_window++]);
    const auto length = static_cast<std::int64_t>(query.tokens.size());
    for (std::int64_t t = options_.last_only() ? length - 1 : 0; t < length; ++t) {
      const decode::TokenId target =
          t + 1 < length ? query.tokens[static_cast<std::size_t>(t) + 1] : decode::kNoToken;
      query.positions.push_back({.position = t, .target = target, .watched = {}});
    }
    return true;
  };

  util::Progress progress(title, "positions", survey_.positions);
  engine_options.on_progress = [&](std::int64_t positions) { progress.advance(positions); };
  engine_options.should_stop = util::interrupted;
  const decode::Engine engine(session_.model(), lenses, engine_options);
  const decode::RunStatistics statistics = engine.run(source, listeners);
  progress.finish();
  return statistics;
}

util::OrderedJson CorpusRun::run_json(const RunParts& parts) const {
  util::OrderedJson inputs = util::OrderedJson::array();
  for (const data::InputSummary& input : survey_.inputs) {
    inputs.push_back({{"path", input.path},
                      {"sha256", input.sha256},
                      {"documents", input.documents},
                      {"tokens", input.tokens},
                      {"bytes", input.bytes}});
  }
  util::OrderedJson dropped = util::OrderedJson::object();
  if (survey_.documents_without_tokens > 0) dropped["no_tokens"] = survey_.documents_without_tokens;
  const decode::RunStatistics& statistics = parts.statistics;
  return {{"schema_version", report::kSchemaVersion},
          {"status", statistics.stopped ? "partial" : "complete"},
          {"model", session_.describe_model()},
          {"tokenizer", {{"kind", session_.tokenizer().kind()}, {"size", session_.tokenizer().size()}}},
          {"lenses", session_.describe_lenses()},
          {"inputs", inputs},
          {"settings", parts.settings},
          {"counts",
           {{"documents", survey_.documents},
            {"windows", statistics.windows},
            {"tokens", statistics.tokens},
            {"positions", statistics.positions},
            {"records", parts.records},
            {"records_omitted", parts.records_omitted},
            {"dropped", dropped}}},
          {"self_check",
           {{"final_layer_max_abs_error", statistics.final_layer_max_abs_error},
            {"positions", statistics.self_checked_positions}}},
          {"depthlens", {{"version", DEPTHLENS_VERSION}, {"libtorch", decode::libtorch_version()}}},
          {"volatile", volatile_json(options_.out, started_)}};
}

void CorpusRun::finish(const RunParts& parts, const std::vector<tables::Table>& tables,
                       std::vector<report::ExtraFile> files) {
  const util::OrderedJson run = run_json(parts);
  if (parts.page_records) {
    const std::string text = run.dump(-1, ' ', false, util::OrderedJson::error_handler_t::replace);
    const report::PageRun described =
        report::describe_run(text, report::summary_json(tables), folder_.path());
    files.push_back({"report.html", report::run_page(described, *parts.page_records)});
  }
  folder_.finish(run, tables, files);
}

void CorpusRun::conclude(const decode::RunStatistics& statistics) const {
  if (statistics.stopped) {
    util::log_warning(util::cat("stopped after ", util::with_thousands(statistics.positions), " positions; ",
                                options_.out, " holds what was finished (status partial)"));
    throw util::interrupted_error();
  }
  util::log_info("results are in " + options_.out);
}

}  // namespace depthlens::tool
