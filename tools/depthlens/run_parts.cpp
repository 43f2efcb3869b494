// run.json and the run of the engine.
#include "run_parts.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "depthlens/compute/runtime.hpp"
#include "depthlens/report/page.hpp"
#include "depthlens/report/run_folder.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {
namespace {

/// What differs between two identical runs.
util::OrderedJson volatile_json(const std::string& out, Clock::time_point started,
                                const model::Model& model) {
  std::array<char, 32> time = {};
  const std::time_t seconds = Clock::to_time_t(started);
  std::tm utc = {};
  std::strftime(time.data(), time.size(), "%Y-%m-%dT%H:%M:%SZ", ::gmtime_r(&seconds, &utc));
  std::array<char, 256> host = {};
  ::gethostname(host.data(), host.size() - 1);
  return {{"started", time.data()},
          {"seconds", std::chrono::duration<double>(Clock::now() - started).count()},
          {"host", host.data()},
          {"threads", compute::num_threads()},
          {"kernel", model.backend().kernel_name()},
          {"decode", model.backend().decode_precision() == compute::Precision::kFast ? "fast" : "exact"},
          {"stream_layers", model.streams_layers()},
          {"out", out}};
}

/// "304 not the model's own, 9 repeated": the most frequent first.
std::string reasons(const data::Dropped& dropped) {
  std::vector<std::pair<data::Drop, std::int64_t>> sorted(dropped.begin(), dropped.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<std::string> parts;
  for (const auto& [reason, count] : sorted)
    parts.push_back(util::cat(util::with_thousands(count), " ", data::in_words(reason)));
  return util::join(parts, ", ");
}

}  // namespace

util::Error nothing_left_error(const std::string& what, const std::vector<std::string>& inputs,
                               const data::Dropped& dropped) {
  const std::string why = reasons(dropped);
  return util::input_error({.what = what,
                            .where = inputs.front(),
                            .expected = "at least one",
                            .found = why.empty() ? "none in the file" : "dropped: " + why});
}

std::string account_of(std::int64_t kept, const std::string& what, const data::Dropped& dropped) {
  if (dropped.empty()) return "";
  std::int64_t all = kept;
  for (const auto& [reason, count] : dropped) all += count;
  return util::cat(util::with_thousands(kept), " of ", util::with_thousands(all), " ", what, ": ",
                   reasons(dropped));
}

std::string few_of(const std::vector<std::pair<std::string, std::int64_t>>& counts) {
  constexpr std::int64_t kFew = 10;
  constexpr std::size_t kMaxNamed = 12;
  std::vector<std::string> names;
  for (const auto& [name, count] : counts) {
    if (count < kFew)
      names.push_back(util::cat(name, " (", count == 0 ? "none" : std::to_string(count), ")"));
  }
  if (names.empty()) return "";
  const std::size_t more = names.size() - std::min(names.size(), kMaxNamed);
  names.resize(names.size() - more);
  return util::cat("fewer than ", kFew, " answers count for ", util::join(names, ", "),
                   more > 0 ? util::cat(" and ", more, " others") : "", "; their means say little");
}

util::OrderedJson inputs_json(const std::vector<data::InputSummary>& inputs) {
  util::OrderedJson files = util::OrderedJson::array();
  for (const data::InputSummary& input : inputs) {
    files.push_back({{"path", input.path},
                     {"sha256", input.sha256.empty() ? util::OrderedJson() : util::OrderedJson(input.sha256)},
                     {"documents", input.documents},
                     {"tokens", input.tokens},
                     {"bytes", input.bytes}});
  }
  return files;
}

util::OrderedJson token_counts_json(const std::string& path, const data::TokenCounts& counts) {
  if (counts.sha256().empty()) return nullptr;
  return {{"path", path}, {"sha256", counts.sha256()}};
}

util::OrderedJson run_json(const Session& session, const RunInputs& inputs, const RunParts& parts,
                           const std::string& out, Clock::time_point started) {
  util::OrderedJson dropped = util::OrderedJson::object();
  for (const auto& [reason, count] : inputs.dropped) dropped[data::name_of(reason)] = count;
  const decode::RunStatistics& statistics = parts.statistics;
  util::OrderedJson run = {
      {"schema_version", report::kSchemaVersion}, {"status", statistics.stopped ? "partial" : "complete"},
      {"model", session.describe_model()},        {"tokenizer", session.describe_tokenizer()},
      {"lenses", session.describe_lenses()},      {"inputs", inputs_json(inputs.files)}};
  if (!parts.token_counts.is_null()) run["token_counts"] = parts.token_counts;
  run.update({{"settings", parts.settings},
              {"counts",
               {{"documents", inputs.documents},
                {"windows", statistics.windows},
                {"tokens", statistics.tokens},
                {"positions", statistics.positions},
                {"records", parts.records},
                {"records_omitted", parts.records_omitted},
                {"dropped", dropped}}},
              {"warnings", util::warnings()},
              {"self_check",
               {{"final_layer_max_abs_error", statistics.final_layer_max_abs_error},
                {"positions", statistics.self_checked_positions}}},
              {"depthlens", {{"version", DEPTHLENS_VERSION}, {"libtorch", compute::libtorch_version()}}},
              {"volatile", volatile_json(out, started, session.model())}});
  return run;
}

void write_run(report::RunFolder& folder, const util::OrderedJson& run, const RunParts& parts,
               const std::vector<tables::Table>& tables, std::vector<report::ExtraFile> files) {
  if (parts.page_records) {
    const std::string text = run.dump(-1, ' ', false, util::OrderedJson::error_handler_t::replace);
    const report::PageRun described = report::describe_run(text, report::summary_json(tables), folder.path());
    files.push_back({"report.html", report::run_page(described, *parts.page_records)});
  }
  folder.finish(run, tables, files);
}

decode::RunStatistics run_engine(const Session& session, const std::vector<const lens::Lens*>& lenses,
                                 const decode::QuerySource& source,
                                 const std::vector<decode::Listener*>& listeners, const std::string& title,
                                 std::int64_t num_positions, decode::EngineOptions options) {
  util::Progress progress(title, "positions", num_positions);
  options.on_progress = [&](std::int64_t positions) { progress.advance(positions); };
  options.should_stop = util::interrupted;
  const decode::Engine engine(session.model(), lenses, std::move(options));
  const decode::RunStatistics statistics = engine.run(source, listeners);
  progress.finish();
  return statistics;
}

void conclude(const decode::RunStatistics& statistics, const std::string& out, const std::string& account,
              const std::string& few) {
  if (statistics.stopped) {
    util::log_warning(util::cat("stopped after ", util::with_thousands(statistics.positions), " positions; ",
                                out, " holds what was finished (status partial)"));
    throw util::interrupted_error();
  }
  if (!account.empty()) util::log_info(account + "; see counts.dropped in run.json");
  if (!few.empty()) util::log_info(few);
  util::log_info("results are in " + out);
}

}  // namespace depthlens::tool
