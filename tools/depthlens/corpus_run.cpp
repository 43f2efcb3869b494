// Corpus → windows → queries → engine → run folder.
#include "corpus_run.hpp"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "depthlens/data/sample.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "watch_options.hpp"

namespace depthlens::tool {
namespace {

constexpr std::string_view kSample = "sample:";

Survey survey_corpus(data::Corpus& corpus, const Session& session, const CorpusOptions& options,
                     std::uint64_t seed) {
  Survey survey;
  util::Progress progress("counting tokens", "tokens", 0);
  while (const auto document = corpus.next()) {
    session.check_in_vocabulary(document->tokens);
    for (const text::TokenId id : document->tokens) survey.counts.add(id);
    ++survey.documents;
    if (document->tokens.empty()) ++survey.documents_without_tokens;
    for (const auto& window : data::cut_into_windows(document->tokens, session.max_length(), session.bos())) {
      ++survey.windows;
      survey.positions += options.last_only() ? 1 : static_cast<std::int64_t>(window.size());
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
  if (const auto wanted = options.sample()) {
    if (*wanted > survey.positions) {
      util::log_warning(util::cat("the input has ", survey.positions, " positions: all are taken, not ",
                                  *wanted, " (--positions ", options.positions, ")"));
    }
    survey.drawn = data::drawn(std::min(*wanted, survey.positions), survey.positions, seed);
    survey.positions = static_cast<std::int64_t>(survey.drawn.size());
  }
  return survey;
}

/// The windows of a corpus as queries, one after the other.
class Windows {
 public:
  Windows(data::Corpus& corpus, const Session& session, const CorpusOptions& options, const Survey& survey,
          const experiments::Watch* watch)
      : corpus_(corpus), session_(session), options_(options), survey_(survey), watch_(watch) {}

  /// False at the end.
  bool next(decode::Query& query) {
    while (true) {
      if (next_window_ == windows_.size() && !next_document()) return false;
      query = {.document = document_.index,
               .window = static_cast<std::int64_t>(next_window_),
               .window_start = window_start_,
               .input = static_cast<std::int64_t>(document_.input),
               .input_document = document_.index_in_input,
               .id = document_.id,
               .tokens = std::move(windows_[next_window_++]),
               .positions = {}};
      const auto length = static_cast<std::int64_t>(query.tokens.size());
      window_start_ += length - (session_.bos() ? 1 : 0);
      choose(query, length);
      first_position_ += length;
      if (!query.positions.empty()) return true;
    }
  }

 private:
  bool next_document() {
    windows_.clear();
    next_window_ = 0;
    window_start_ = 0;
    while (windows_.empty()) {
      auto next = corpus_.next();
      if (!next) return false;
      document_ = std::move(*next);
      session_.check_in_vocabulary(
          document_.tokens);  // an input may have changed, and only its end will tell
      windows_ = data::cut_into_windows(document_.tokens, session_.max_length(), session_.bos());
    }
    return true;
  }

  void choose(decode::Query& query, std::int64_t length) {
    const auto add = [&](std::int64_t t) {
      const decode::TokenId target =
          t + 1 < length ? query.tokens[static_cast<std::size_t>(t) + 1] : decode::kNoToken;
      query.positions.push_back({.position = t, .target = target, .watched = {}});
      if (watch_ != nullptr) watch_->append_to(query.positions.back());
    };
    if (!options_.sample()) {
      for (std::int64_t t = options_.last_only() ? length - 1 : 0; t < length; ++t) add(t);
      return;
    }
    const std::vector<std::int64_t>& drawn = survey_.drawn;
    for (; next_drawn_ < drawn.size() && drawn[next_drawn_] < first_position_ + length; ++next_drawn_)
      add(drawn[next_drawn_] - first_position_);
    // No position sees what comes after it.
    if (!query.positions.empty())
      query.tokens.resize(static_cast<std::size_t>(query.positions.back().position) + 1);
  }

  data::Corpus& corpus_;
  const Session& session_;
  const CorpusOptions& options_;
  const Survey& survey_;
  const experiments::Watch* watch_;
  data::TokenizedDocument document_;
  std::vector<std::vector<text::TokenId>> windows_;  // of the document
  std::size_t next_window_ = 0;
  std::int64_t window_start_ = 0;
  std::int64_t first_position_ = 0;  // of the next window, counted over the input
  std::size_t next_drawn_ = 0;
};

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
  const auto check = [](const std::string& text) -> std::string {
    if (text == "all" || text == "last") return "";
    std::int64_t count = 0;
    const std::string digits = text.rfind(kSample, 0) == 0 ? text.substr(kSample.size()) : "";
    const bool usable = util::parse_int(digits, count) && count > 0 && digits == std::to_string(count);
    if (usable) return "";
    throw util::usage_error({.what = "unknown choice of positions",
                             .expected = "all, last or sample:N with N of at least 1",
                             .found = util::in_quotes(text)});
  };
  app.add_option("--positions", options.positions,
                 "Which positions: all; the last of each window; or sample:N, N of the whole input drawn by "
                 "--seed, each in its own context")
      ->type_name("all|last|sample:N")
      ->check(check)
      ->capture_default_str();
}

std::optional<std::int64_t> CorpusOptions::sample() const {
  std::int64_t count = 0;
  if (positions.rfind(kSample, 0) != 0) return std::nullopt;
  const bool checked = util::parse_int(positions.substr(kSample.size()), count);
  DEPTHLENS_ASSERT(checked);
  return count;
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

CorpusRun::CorpusRun(const CorpusOptions& options, const ModelOptions& model, std::uint64_t seed)
    : started_(Clock::now()),
      options_(options),
      session_(model),
      corpus_(options.inputs, session_.tokenizer(), options.limit, folder_beside(options.out)),
      folder_(options.out, options.overwrite),
      survey_(survey_corpus(corpus_, session_, options, seed)) {}

void CorpusRun::load() {
  session_.load();
  const model::Model& model = session_.model();
  util::log_info(util::cat(model.spec().architecture, ", ", model.spec().num_layers, " blocks, ",
                           util::with_thousands(model.num_parameters()), " parameters; ",
                           util::with_thousands(survey_.positions), " positions in ",
                           util::with_thousands(survey_.windows), " windows"));
}

void CorpusRun::watch(const experiments::Watch& watch) {
  if (watch.has(experiments::WatchedToken::Kind::kDistractor))
    throw no_distractor_error("a text has no distractor");
  watch_ = &watch;
}

decode::RunStatistics CorpusRun::decode(const std::vector<const lens::Lens*>& lenses,
                                        const std::vector<decode::Listener*>& listeners,
                                        const std::string& title, decode::EngineOptions engine_options) {
  corpus_.rewind();
  Windows windows(corpus_, session_, options_, survey_, watch_);
  const auto source = [&](decode::Query& query) { return windows.next(query); };
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
