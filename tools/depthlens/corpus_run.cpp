// Corpus → windows → queries → engine → run folder.
#include "corpus_run.hpp"

#include <filesystem>

#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {
namespace {

/// Windows of the next document that has any; empty at the end.
std::vector<std::vector<text::TokenId>> next_windows(data::Corpus& corpus, const Session& session,
                                                     std::int64_t& document) {
  while (const auto tokenized = corpus.next()) {
    session.check_in_vocabulary(tokenized->tokens);  // an input may have changed, and only its end will tell
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
    throw util::input_error(
        {.what = "the input holds no text",
         .where = survey.inputs.front().path,
         .expected = "documents separated by blank lines, or JSON lines with the key \"text\""});
  }
  return survey;
}

std::filesystem::path folder_beside(const std::string& path) {
  std::error_code ignored;
  return (std::filesystem::absolute(path, ignored) / "").parent_path().parent_path();
}

}  // namespace

void add_corpus_options(CLI::App& app, CorpusOptions& options) {
  add_repeatable(
      app, "--input", options.inputs,
      "Corpus: .txt (documents separated by blank lines), .jsonl (key \"text\"), compressed or not, "
      "pipes, - for stdin; may be given several times")
      ->type_name("FILE");
  app.add_option("--out", options.out, "Run folder to write")->type_name("DIR");
  app.add_flag("--overwrite", options.overwrite, "Replace the run that the folder holds");
}

void add_positions_option(CLI::App& app, CorpusOptions& options) {
  app.add_option("--positions", options.positions, "Which positions of each window")
      ->check(one_of({"all", "last"}))
      ->capture_default_str();
}

void add_limit_option(CLI::App& app, CorpusOptions& options) {
  app.add_option("--limit", options.limit, "Stop after N documents (0: all)")
      ->check(integer(0))
      ->capture_default_str();
}

void check_corpus_options(const CorpusOptions& options, const std::string& command) {
  const std::string hint = "depthlens " + command + " --input FILE.txt --out DIR";
  if (options.inputs.empty()) throw util::usage_error({.what = "no input", .where = "--input", .hint = hint});
  if (options.out.empty()) throw util::usage_error({.what = "no run folder", .where = "--out", .hint = hint});
}

CorpusRun::CorpusRun(const CorpusOptions& options, const ModelOptions& model)
    : started_(Clock::now()),
      options_(options),
      session_(model),
      corpus_(options.inputs, session_.tokenizer(), options.limit, folder_beside(options.out)),
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

  return run_engine(session_, lenses, source, listeners, title, survey_.positions, std::move(engine_options));
}

void CorpusRun::finish(const RunParts& parts, const std::vector<tables::Table>& tables,
                       std::vector<report::ExtraFile> files) {
  const RunInputs inputs{.files = survey_.inputs, .documents = survey_.documents, .dropped = dropped()};
  write_run(folder_, run_json(session_, inputs, parts, options_.out, started_), parts, tables,
            std::move(files));
}

data::Dropped CorpusRun::dropped() const {
  if (survey_.documents_without_tokens == 0) return {};
  return {{data::Drop::kNoTokens, survey_.documents_without_tokens}};
}

void CorpusRun::conclude(const decode::RunStatistics& statistics) const {
  tool::conclude(
      statistics, options_.out,
      account_of(survey_.documents - survey_.documents_without_tokens, "documents count", dropped()));
}

}  // namespace depthlens::tool
