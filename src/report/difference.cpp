// Differences of two runs from their tables and replicates.
#include "depthlens/report/difference.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <span>
#include <string_view>

#include "depthlens/report/run_folder.hpp"
#include "depthlens/tables/estimates.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/json_text.hpp"
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

/// [[sha256, documents, bytes], …] of a run's inputs; null where the contents of one are not known.
Json contents_of_inputs(const JsonView& run) {
  Json all = Json::array();
  const std::size_t count = run.has("inputs") ? run.at("inputs").size() : 0;
  for (std::size_t i = 0; i < count; ++i) {
    const JsonView input = run.at("inputs").at(i);
    if (!input.has("sha256")) return nullptr;
    all.push_back(
        {input.at("sha256").raw(), value_or_null(input, "documents"), value_or_null(input, "bytes")});
  }
  return all.empty() ? Json() : all;
}

/// `key`, one of `reasons_not_paired`, in words.
std::string in_words(const std::string& key, const JsonView& a, const JsonView& b) {
  if (key == "status") return "one of them is not complete";
  if (key == "inputs") return "their inputs differ";
  if (key == "shard") return "one of them is a share of a run that the other is not";
  const std::string name = key.substr(key.find('.') + 1);
  return util::cat(key, " differs: ", util::summary(setting(a, name)), " and ",
                   util::summary(setting(b, name)));
}

Json tokenizer_digest(const JsonView& run) {
  return run.has("tokenizer") ? value_or_null(run.at("tokenizer"), "digest") : Json();
}

/// Whether rows of the table are of layers that follow one another in the run, so that other `--layers` make
/// them tell something else.
bool knows_chosen_layers(const std::string& table) {
  return table == "flips.changes" || table.starts_with("settling.") ||
         table.find(".earliest") != std::string::npos || table == "calibration.early_exit";
}

/// Whether rows of the table are of layers, or tell of layers.
bool goes_by_layers(const std::string& table, const std::vector<Column>& columns) {
  return knows_chosen_layers(table) || std::any_of(columns.begin(), columns.end(), [](const Column& column) {
           return column.name == "layer" || column.name == "mean_layer";
         });
}

/// Whether buckets of one name hold the same tokens.
bool have_same_buckets(const JsonView& a, const JsonView& b) {
  const auto made_of = [](const JsonView& run) {
    const bool counted = !run.has("token_counts");
    return Json{setting(run, "buckets"),
                counted ? setting(run, "token_counts") : run.at("token_counts").at("sha256").raw(),
                tokenizer_digest(run), value_or_null(run.at("model"), "vocab_size")};
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

/// A run's pairs of watched tokens by their names: the numbers of the two.
using WatchedPairs = std::map<std::string, std::string>;

WatchedPairs watched_pairs(const JsonView& run) {
  const Json names = setting(run, "watch_pairs"), pairs = setting(run, "watch_pair_tokens");
  WatchedPairs all;
  for (std::size_t i = 0; i < std::min(names.size(), pairs.size()); ++i) {
    std::string tokens;
    for (const std::size_t place : {std::size_t{0}, std::size_t{1}}) {
      const JsonView token = run.at("settings")
                                 .at("watch")
                                 .at(static_cast<std::size_t>(
                                     JsonView(pairs, run.where()).at(i).at(place).as_integer(0, INT32_MAX)));
      tokens +=
          (token.has("id") ? util::json_text(token.at("id").raw()) : token.at("text").as_string()) + ' ';
    }
    all[JsonView(names, run.where()).at(i).as_string()] = tokens;
  }
  return all;
}

/// What tells rows of two runs apart.
struct RowKeys {
  bool any_lens = false;       ///< the lens does not
  bool same_tokenizer = true;  ///< tokens of one number are the same
};

/// A row's key as one text; nothing where what it is about has a name that other tokens have, too.
std::optional<std::string> key_of(const Table& table, const std::vector<Cell>& row,
                                  const std::vector<Column>& keys, const RowKeys& by,
                                  const WatchedPairs& pairs) {
  constexpr std::string_view kNoText = "\uFFFD";  // bytes that are no character
  const auto id = std::find_if(table.columns.begin(), table.columns.end(),
                               [](const Column& column) { return column.name == "token_id"; });
  const std::string token_id =
      id == table.columns.end()
          ? ""
          : tables::cell_text(row[static_cast<std::size_t>(id - table.columns.begin())]);
  std::string all;
  for (std::size_t c = 0; c < keys.size(); ++c) {
    const std::string& name = keys[c].name;
    if (by.any_lens && (name == "lens" || name == "baseline")) continue;
    std::string text = tables::cell_text(row[c]);
    const auto pair = pairs.find(text);
    if (name == "token" && by.same_tokenizer && !token_id.empty()) {
      text = token_id;
    } else if (name == "pair" && by.same_tokenizer && pair != pairs.end()) {
      text = pair->second;
    } else if ((name == "token" || name == "pair") && text.find(kNoText) != std::string::npos) {
      return std::nullopt;
    }
    all += text + '\0';
  }
  return all;
}

/// Of tables with the same columns.
Table table_difference(const Table& a, const WatchedPairs& pairs_of_a, const Table& b,
                       const WatchedPairs& pairs_of_b, const RowKeys& by) {
  const std::vector<Column> keys = keys_of(b);
  const std::vector<std::size_t> estimated = estimated_of(b), estimated_in_a = estimated_of(a);
  tables::EstimateTable table(b.name, compared_columns(b));
  std::map<std::string, std::size_t> rows_of_a;
  for (std::size_t row = 0; row < a.rows.size(); ++row) {
    if (const auto key = key_of(a, a.rows[row], keys, by, pairs_of_a)) rows_of_a[*key] = row;
  }
  for (std::size_t row = 0; row < b.rows.size(); ++row) {
    const auto key = key_of(b, b.rows[row], keys, by, pairs_of_b);
    const auto found = key ? rows_of_a.find(*key) : rows_of_a.end();
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
  for (const char* key : {"positions", "limit", "seed", "keep", "aliases", "classes", "min_prompt_chars",
                          "per_class", "options"}) {
    if (setting(a, key) != setting(b, key)) reasons.push_back(util::cat("settings.", key));
  }
  // With another --limit a file has other documents, too: the setting tells why.
  const Json inputs = contents_of_inputs(a);
  if (inputs.is_null() || inputs != contents_of_inputs(b)) reasons.emplace_back("inputs");
  if (value_or_null(a, "shard") != value_or_null(b, "shard")) reasons.emplace_back("shard");
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
  const Json tokenizer = tokenizer_digest(a.run());
  const bool same_tokenizer = !tokenizer.is_null() && tokenizer == tokenizer_digest(b.run());
  const RowKeys keys = {.any_lens = has_one_lens(a.run()) && has_one_lens(b.run()),
                        .same_tokenizer = same_tokenizer};
  const WatchedPairs pairs_of_a = watched_pairs(a.run()), pairs_of_b = watched_pairs(b.run());
  const bool same_depth =
      value_or_null(a.run().at("model"), "layers") == value_or_null(b.run().at("model"), "layers");
  const bool same_layers = setting(a.run(), "layers") == setting(b.run(), "layers");
  std::vector<Table> of_a = read_summary(a.summary());
  for (Table& table : read_summary(b.summary())) {
    const auto other = std::find_if(of_a.begin(), of_a.end(),
                                    [&](const Table& candidate) { return candidate.name == table.name; });
    const fs::path file = fs::path("replicates") / (table.name + ".npy");
    if (other == of_a.end()) continue;
    if (!util::exists(baseline / file) || !util::exists(run / file)) {
      if (!table.rows.empty() && !estimated_of(table).empty())
        difference.left_out["replicates/TABLE.npy is missing there, or in the folder"].push_back(table.name);
      continue;
    }
    const std::vector<Column> columns = compared_columns(table);
    if (!have_same_names(columns, compared_columns(*other))) continue;
    const bool by_bucket = std::any_of(columns.begin(), columns.end(), [](const Column& column) {
      return !column.estimated && column.name == "bucket";
    });
    if (knows_chosen_layers(table.name) && !same_layers) {
      difference.left_out["they tell of the layers that were decoded (--layers), which are others than those"]
          .push_back(table.name);
      continue;
    }
    if (goes_by_layers(table.name, columns) && !same_depth) {
      difference.left_out["they go by layers, whose number is another than that"].push_back(table.name);
      continue;
    }
    if (by_bucket && !same_buckets) {
      difference.left_out["their frequency buckets hold other tokens than those"].push_back(table.name);
      continue;
    }
    read_replicates(baseline / file, *other);
    read_replicates(run / file, table);
    difference.tables.push_back(table_difference(*other, pairs_of_a, table, pairs_of_b, keys));
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
