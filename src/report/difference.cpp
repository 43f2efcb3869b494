// Differences of two runs from their tables and replicates.
#include "depthlens/report/difference.hpp"

#include <algorithm>
#include <map>
#include <span>

#include "depthlens/report/run_folder.hpp"
#include "depthlens/tables/estimates.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "report/replicates.hpp"
#include "report/run_files.hpp"

namespace depthlens::report {
namespace {

namespace fs = std::filesystem;
using tables::Cell, tables::Column, tables::Estimate, tables::Table;
using util::Json, util::JsonView;

Json value_or_null(const JsonView& object, const std::string& key) {
  return object.has(key) ? object.at(key).raw() : Json();
}

Json setting(const JsonView& run, const std::string& key) {
  return run.has("settings") ? value_or_null(run.at("settings"), key) : Json();
}

/// [[sha256, documents], …] of a run's inputs; null where the contents of one are not known.
Json contents_of_inputs(const JsonView& run) {
  Json all = Json::array();
  const std::size_t count = run.has("inputs") ? run.at("inputs").size() : 0;
  for (std::size_t i = 0; i < count; ++i) {
    const JsonView input = run.at("inputs").at(i);
    if (!input.has("sha256")) return nullptr;
    all.push_back({input.at("sha256").raw(), value_or_null(input, "documents")});
  }
  return all.empty() ? Json() : all;
}

/// `key`, one of `reasons_not_paired`, in words.
std::string in_words(const std::string& key, const JsonView& a, const JsonView& b) {
  if (key == "status") return "one of them is not complete";
  if (key == "inputs") return "their inputs differ";
  const std::string name = key.substr(key.find('.') + 1);
  return util::cat(key, " differs: ", util::summary(setting(a, name)), " and ",
                   util::summary(setting(b, name)));
}

/// Whether buckets of one name hold the same tokens.
bool have_same_buckets(const JsonView& a, const JsonView& b) {
  const auto made_of = [](const JsonView& run) {
    const bool counted = !run.has("token_counts");
    return Json{setting(run, "buckets"),
                counted ? setting(run, "token_counts") : run.at("token_counts").at("sha256").raw(),
                run.has("tokenizer") ? value_or_null(run.at("tokenizer"), "digest") : Json(),
                value_or_null(run.at("model"), "vocab_size")};
  };
  return made_of(a) == made_of(b);
}

/// The columns that tell how many cases a row has stand between its keys and its means.
bool counts_cases(const std::string& column) {
  return column == "count" || column == "positions" || column == "changed";
}

/// The leading columns, which name a row.
std::vector<Column> keys_of(const Table& table) {
  const auto end = std::find_if(table.columns.begin(), table.columns.end(), [](const Column& column) {
    return column.estimated || counts_cases(column.name);
  });
  return {table.columns.begin(), end};
}

/// Places of the columns that are estimated.
std::vector<std::size_t> estimated_of(const Table& table) {
  std::vector<std::size_t> places;
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    if (table.columns[c].estimated) places.push_back(c);
  }
  return places;
}

/// The columns that a table of differences has.
std::vector<Column> compared_columns(const Table& table) {
  std::vector<Column> columns = keys_of(table);
  for (const std::size_t c : estimated_of(table)) columns.push_back(table.columns[c]);
  return columns;
}

bool have_same_names(const std::vector<Column>& a, const std::vector<Column>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Column& x, const Column& y) {
    return x.name == y.name && x.estimated == y.estimated;
  });
}

/// The cell in the `i`th estimated column, which is `column`, with its replicates.
Estimate estimate_at(const Table& table, std::size_t row, std::size_t column, std::size_t i,
                     std::size_t num_estimated) {
  constexpr auto kReplicates = static_cast<std::size_t>(tables::kReplicates);
  Estimate estimate;
  const Cell& cell = table.rows[row][column];
  if (const auto* number = std::get_if<double>(&cell)) estimate.value = *number;
  if (const auto* number = std::get_if<std::int64_t>(&cell)) estimate.value = static_cast<double>(*number);
  const std::span values(table.replicates.data() + (row * num_estimated + i) * kReplicates, kReplicates);
  const bool has_any = std::any_of(values.begin(), values.end(), [](float v) { return v == v; });
  if (has_any) estimate.replicates.assign(values.begin(), values.end());
  return estimate;
}

/// A row's key as one text; the lens is left out where it does not tell rows apart.
std::string key_of(const std::vector<Cell>& row, const std::vector<Column>& keys, bool any_lens) {
  std::string all;
  for (std::size_t c = 0; c < keys.size(); ++c) {
    if (any_lens && (keys[c].name == "lens" || keys[c].name == "baseline")) continue;
    all += tables::cell_text(row[c]) + '\0';
  }
  return all;
}

/// Of tables with the same columns.
Table table_difference(const Table& a, const Table& b, bool any_lens) {
  const std::vector<Column> keys = keys_of(b);
  const std::vector<std::size_t> estimated = estimated_of(b), estimated_in_a = estimated_of(a);
  tables::EstimateTable table(b.name, compared_columns(b));
  std::map<std::string, std::size_t> rows_of_a;
  for (std::size_t row = 0; row < a.rows.size(); ++row) rows_of_a[key_of(a.rows[row], keys, any_lens)] = row;
  for (std::size_t row = 0; row < b.rows.size(); ++row) {
    const auto found = rows_of_a.find(key_of(b.rows[row], keys, any_lens));
    if (found == rows_of_a.end()) continue;
    std::vector<tables::EstimateTable::Field> fields(
        b.rows[row].begin(), b.rows[row].begin() + static_cast<std::ptrdiff_t>(keys.size()));
    for (std::size_t i = 0; i < estimated.size(); ++i) {
      fields.emplace_back(
          tables::difference(estimate_at(b, row, estimated[i], i, estimated.size()),
                             estimate_at(a, found->second, estimated_in_a[i], i, estimated.size())));
    }
    table.add(std::move(fields));
  }
  return std::move(table).finish();
}

}  // namespace

std::vector<std::string> reasons_not_paired(const JsonView& a, const JsonView& b) {
  std::vector<std::string> reasons;
  if (!is_complete(a) || !is_complete(b)) reasons.emplace_back("status");
  const Json inputs = contents_of_inputs(a);
  if (inputs.is_null() || inputs != contents_of_inputs(b)) reasons.emplace_back("inputs");
  for (const char* key :
       {"positions", "limit", "seed", "keep", "classes", "min_prompt_chars", "per_class", "options"}) {
    if (setting(a, key) != setting(b, key)) reasons.push_back(util::cat("settings.", key));
  }
  return reasons;
}

RunDifference run_difference(const fs::path& baseline, const fs::path& run) {
  const RunFiles a(baseline), b(run);
  RunDifference difference;
  if (const auto reasons = reasons_not_paired(a.run(), b.run()); !reasons.empty()) {
    difference.unpaired = in_words(reasons.front(), a.run(), b.run());
    return difference;
  }
  const bool same_buckets = have_same_buckets(a.run(), b.run());
  const auto has_one_lens = [](const JsonView& of) {
    return of.has("lenses") && of.at("lenses").size() == 1;
  };
  const bool any_lens = has_one_lens(a.run()) && has_one_lens(b.run());
  std::vector<Table> of_a = read_summary(a.summary());
  for (Table& table : read_summary(b.summary())) {
    const auto other = std::find_if(of_a.begin(), of_a.end(),
                                    [&](const Table& candidate) { return candidate.name == table.name; });
    const fs::path file = fs::path("replicates") / (table.name + ".npy");
    if (other == of_a.end() || !util::exists(baseline / file) || !util::exists(run / file)) continue;
    const std::vector<Column> columns = compared_columns(table);
    if (!have_same_names(columns, compared_columns(*other))) continue;
    const bool by_bucket = std::any_of(columns.begin(), columns.end(), [](const Column& column) {
      return !column.estimated && column.name == "bucket";
    });
    if (by_bucket && !same_buckets) {
      difference.left_out.push_back(table.name);
      continue;
    }
    read_replicates(baseline / file, *other);
    read_replicates(run / file, table);
    difference.tables.push_back(table_difference(*other, table, any_lens));
    other->replicates.clear();
    other->replicates.shrink_to_fit();
  }
  return difference;
}

std::vector<tables::Table> joined_tables(const std::vector<std::string>& names,
                                         const std::vector<RunDifference>& differences) {
  std::map<std::string, tables::Table> all;
  for (std::size_t i = 0; i < differences.size(); ++i) {
    for (const tables::Table& table : differences[i].tables) {
      tables::Table& joined = all[table.name];
      if (joined.columns.empty()) {
        joined.name = table.name;
        joined.columns = {{"run"}};
        joined.columns.insert(joined.columns.end(), table.columns.begin(), table.columns.end());
      }
      for (const std::vector<Cell>& row : table.rows) {
        std::vector<Cell> cells;
        cells.reserve(row.size() + 1);
        cells.emplace_back(names[i]);
        for (const Cell& cell : row) cells.push_back(cell);
        joined.add(std::move(cells));
      }
    }
  }
  std::vector<tables::Table> tables;
  for (auto& [name, table] : all) tables.push_back(std::move(table));
  return tables;
}

}  // namespace depthlens::report
