// State and description → tables, run.json, records, page.
#include "run/run_files.hpp"

#include <cmath>
#include <map>

#include "depthlens/report/page.hpp"
#include "depthlens/report/page_records.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "run/words.hpp"

namespace depthlens::run {
namespace {

using util::OrderedJson;

/// Three digits: more of an error's size mean nothing, and the last bits of a float64 product depend on the
/// number of threads.
double rounded(double error) {
  if (!(error > 0) || !std::isfinite(error)) return error;
  const double scale = std::pow(10.0, 2 - std::floor(std::log10(error)));
  return std::round(error * scale) / scale;
}

data::Dropped all_dropped(const RunContext& context, const RunCounts& counts) {
  data::Dropped dropped = context.dropped;
  for (const auto& [reason, count] : dropped_in(counts.dropped)) dropped[reason] += count;
  return dropped;
}

OrderedJson run_json(const RunResult& result, const RunCounts& all, std::int64_t records,
                     std::int64_t omitted) {
  const RunContext& context = result.context;
  const tables::Counts& counts = all.counts;
  OrderedJson dropped = OrderedJson::object();
  for (const auto& [reason, count] : all_dropped(context, all)) dropped[data::name_of(reason)] = count;
  OrderedJson run = OrderedJson::object();
  for (const auto& [key, value] : result.run.items()) {
    if (key == "warnings" || key == "depthlens") continue;
    run[key] = value;
    if (key != "schema_version") continue;
    run["status"] = result.partial ? "partial" : "complete";
    if (result.share) run["shard"] = result.share->json();
  }
  run["counts"] = {{"documents", context.num_documents},
                   {"windows", counts[RunCounts::kWindows]},
                   {"tokens", counts[RunCounts::kTokens]},
                   {"positions", counts[RunCounts::kPositions]},
                   {"records", records},
                   {"records_omitted", omitted},
                   {"dropped", dropped}};
  if (context.input == data::InputKind::kPairs) run["counts"]["pairs"] = counts[RunCounts::kShown];
  if (data::is_task(context.input)) {
    run["counts"]["asked_again"] = counts[RunCounts::kAskedAgain];
    if (context.input == data::InputKind::kFacts)
      run["counts"]["answered_by_alias"] = counts[RunCounts::kByAlias];
  }
  run["warnings"] = result.run.at("warnings");
  run["self_check"] = {{"final_layer_max_abs_error", rounded(all.self_check[0])},
                       {"positions", counts[RunCounts::kSelfChecked]}};
  run["depthlens"] = result.run.at("depthlens");
  run["volatile"] = result.unlike;
  return run;
}

/// Nothing is left for the tables to show.
void warn_of_nothing(RunResult& result, const RunCounts& counts) {
  const RunContext& context = result.context;
  const bool of_answers = context.input != data::InputKind::kCorpus;
  if (!of_answers || counts.counts[RunCounts::kShown] > 0 || result.partial || result.share) return;
  const std::string hint = context.keeps_all ? "" : "; --keep all counts all of them";
  const std::string text =
      context.input == data::InputKind::kPairs
          ? "of no pair does the model say both answers itself, so that the table is empty" + hint
          : "none of the answers is what the model says itself, so that the tables are empty" + hint;
  util::log_warning(text);
  result.run["warnings"].push_back(text);
}

std::string account_of_task(const RunContext& context, std::int64_t kept, const data::Dropped& dropped) {
  // Elsewhere an item is one answer. Of a fact that is left out it is not known how many tokens would count.
  if (context.input != data::InputKind::kFacts) return account_of(kept, "answers count", dropped);
  data::Dropped positions, items;
  for (const auto& [reason, count] : dropped)
    (data::drops_position(reason) ? positions : items)[reason] = count;
  std::vector<std::string> parts = {account_of(kept, "answer tokens count", positions),
                                    account_of(context.num_items, "facts are asked", items)};
  std::erase(parts, "");
  return util::join(parts, "; ");
}

}  // namespace

std::vector<tables::Table> write_run_files(report::RunFolder& folder, RunResult result) {
  const RunContext& context = result.context;
  const RunCounts counts(result.state);
  warn_of_nothing(result, counts);
  std::vector<tables::Table> tables = context.tables(result.state);

  report::PageRecords page(context.shape.lens_names, context.shape.num_rows, report::kMaxPageBytes,
                           context.records.fields);
  std::int64_t records = 0;
  if (context.records.write) {
    report::RecordFile& file = folder.records(context.records.format);
    records = for_each_record(result.records, result.records_folder, context.records.most,
                              [&](std::string_view line) {
                                file.write(line);
                                if (context.draws_page && context.input != data::InputKind::kPairs)
                                  page.add(line, "a record");
                              });
  }
  const std::int64_t omitted = context.records.write ? counts.counts[RunCounts::kShown] - records : 0;
  if (omitted > 0 && !result.partial) {
    util::log_info(util::cat(
        counted(omitted, context.input == data::InputKind::kPairs ? "pair" : "position"),
        " beyond --max-records ", context.records.most,
        omitted == 1 ? " has no record; the tables count it" : " have no record; the tables count them"));
  }
  const OrderedJson run = run_json(result, counts, records, omitted);
  std::vector<report::ExtraFile> files;
  if (context.draws_page) {
    const report::PageRun described =
        report::describe_run(util::Json(run), tables, (folder.path() / report::kRunFile).string());
    files.push_back({"report.html", report::run_page(described, page)});
  }
  folder.finish(run, tables, files);
  return tables;
}

void tell_of(const RunContext& context, tables::State& state, const std::string& out) {
  const RunCounts counts(state);
  const std::int64_t kept = counts.counts[RunCounts::kShown];
  const data::Dropped dropped = all_dropped(context, counts);
  std::string account;
  if (data::is_task(context.input)) {
    account = account_of_task(context, kept, dropped);
  } else if (context.input == data::InputKind::kPairs) {
    account = account_of(kept, "pairs count", dropped);
  } else {
    std::int64_t without = 0;
    for (const auto& [reason, count] : dropped) without += count;
    account = account_of(context.num_documents - without, "documents count", dropped);
  }
  if (!account.empty()) util::log_info(account + "; see counts.dropped in run.json");
  std::vector<std::pair<std::string, std::int64_t>> groups;
  std::vector<std::pair<std::int64_t, std::string>> named = context.groups;
  if (context.input == data::InputKind::kFacts) {  // forms of an answer may have other lengths than the items
    std::map<std::int64_t, std::string> by_length(named.begin(), named.end());
    counts.kept_like[0].for_each([&](std::int64_t length, std::int64_t /*count*/) {
      by_length.emplace(length, ItemGroups::name_of_length(length));
      return true;
    });
    named.assign(by_length.begin(), by_length.end());
  }
  for (const auto& [key, name] : named) groups.emplace_back(name, counts.kept_like[0].count(key));
  if (const std::string few = few_of(groups); !few.empty()) util::log_info(few);
  util::log_info("results are in " + out);
}

}  // namespace depthlens::run
