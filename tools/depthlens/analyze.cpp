// depthlens analyze: a corpus through a model, every layer decoded, tables and records into a run folder.
#include <memory>

#include "command.hpp"
#include "corpus_run.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/experiments/experiment.hpp"
#include "depthlens/report/page_records.hpp"
#include "depthlens/report/records.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "session.hpp"

namespace depthlens::tool {
namespace {

struct AnalyzeOptions {
  CommonOptions common;
  ModelOptions model;
  CorpusOptions corpus;
  std::string experiments = "trajectory,frequency,flips,settling";
  std::int64_t top_k = 10;
  std::string records = "jsonl";
  std::int64_t max_records = 20000;
  std::string token_counts = "input";
  std::string buckets = "10,100,1000";
  std::string decode = "exact";
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
          {"decode", options.decode},
          {"dtype", options.model.dtype},
          {"device", options.model.device},
          {"limit", options.corpus.limit},
          {"seed", options.common.seed}};
}

std::vector<std::string> lens_names(const Session& session) {
  std::vector<std::string> names;
  for (const lens::Lens* lens : session.lenses()) names.push_back(lens->request().name);
  return names;
}

void run_analyze(const AnalyzeOptions& options) {
  check_corpus_options(options.corpus, "analyze");
  apply_common_options(options.common);
  experiments::parse_experiment_names(options.experiments);
  const std::vector<std::int64_t> edges = data::parse_bucket_edges(options.buckets);

  CorpusRun run(options.corpus, options.model);
  const Session& session = run.session();
  const std::int64_t vocab_size = session.spec().vocab_size;
  const data::TokenCounts counts = options.token_counts == "input"
                                       ? run.survey().counts
                                       : data::TokenCounts::read(options.token_counts, vocab_size);
  const experiments::Context context{.buckets = data::make_buckets(counts, edges, vocab_size)};
  run.load();

  const auto experiments = experiments::make_experiments(options.experiments, context);
  std::vector<decode::Listener*> listeners;
  for (const auto& experiment : experiments) listeners.push_back(experiment.get());
  report::PageRecords page(lens_names(session), session.spec().num_layers);
  std::unique_ptr<report::RecordWriter> records;
  if (options.records == "jsonl") {
    records = std::make_unique<report::RecordWriter>(
        report::RecordOptions{.top_k = options.top_k, .most = options.max_records},
        [&](decode::TokenId id) { return session.tokenizer().token_text(id); },
        [&, &file = run.folder().records()](std::string_view line) {
          file.write(line);
          if (options.report == "yes") page.add(line, "a record");
        });
    listeners.push_back(records.get());
  }
  const decode::RunStatistics statistics = run.decode(session.lenses(), listeners, "analyzing");

  std::vector<tables::Table> tables;
  for (const auto& experiment : experiments) {
    for (tables::Table& table : experiment->tables()) tables.push_back(std::move(table));
  }
  const std::int64_t omitted = records ? records->omitted() : 0;
  run.finish({.settings = settings_json(options, session),
              .statistics = statistics,
              .records = records ? records->written() : 0,
              .records_omitted = omitted,
              .page_records = options.report == "yes" ? &page : nullptr},
             tables);
  if (omitted > 0) {
    util::log_info(util::cat(util::with_thousands(omitted), " positions beyond --max-records ",
                             options.max_records, " have no record; the tables count them"));
  }
  run.conclude(statistics);
}

}  // namespace

std::function<void()> setup_analyze(CLI::App& app) {
  auto options = std::make_shared<AnalyzeOptions>();
  add_corpus_options(app, options->corpus);
  app.add_option("--experiment", options->experiments,
                 "Comma-separated: " + util::join(experiments::experiment_names(), ", "))
      ->capture_default_str();
  add_run_options(app, options->model);
  app.add_option("--top-k", options->top_k, "Predictions kept for each layer")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  add_positions_option(app, options->corpus);
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
  app.add_option("--report", options->report, "Draw report.html, a page that shows the run")
      ->check(CLI::IsMember({"yes", "no"}))
      ->capture_default_str();
  add_limit_option(app, options->corpus);
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens analyze --input data/corpora/harbour.txt --out out/harbour\n"
      "  depthlens analyze --model gpt2 --lens logit --lens tuned:lens/gpt2 --input book.txt --out out/book");
  return [options] { run_analyze(*options); };
}

}  // namespace depthlens::tool
