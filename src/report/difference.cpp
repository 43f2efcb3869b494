// Differences of two runs from their tables and replicates.
#include "depthlens/report/difference.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "depthlens/report/run_folder.hpp"
#include "depthlens/tables/estimates.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "report/run_files.hpp"

namespace depthlens::report {
namespace {

namespace fs = std::filesystem;
using tables::Cell, tables::Column, tables::Estimate;
using util::Json, util::JsonView;

constexpr auto kReplicates = static_cast<std::size_t>(tables::kReplicates);

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

/// A table of summary.json, with its replicates.
class StoredTable {
 public:
  StoredTable(const JsonView& table, const fs::path& replicates) : table_(table) {
    const JsonView columns = table.at("columns");
    std::set<std::string> names;
    for (std::size_t c = 0; c < columns.size(); ++c) {
      names_.push_back(columns.at(c).as_string());
      names.insert(names_.back());
    }
    for (std::size_t c = 0; c < names_.size(); ++c) {
      if (names.count(names_[c] + "_low") > 0) estimated_.push_back(c);
    }
    const std::size_t first_mean = estimated_.empty() ? names_.size() : estimated_.front();
    while (num_keys_ < first_mean && !counts_cases(names_[num_keys_])) ++num_keys_;
    read(replicates);
  }

  std::size_t num_rows() const { return table_.at("rows").size(); }

  std::vector<Column> keys() const {
    std::vector<Column> all;
    for (std::size_t c = 0; c < num_keys_; ++c) all.push_back({names_[c], unit(names_[c])});
    return all;
  }
  std::vector<Column> estimated() const {
    std::vector<Column> all;
    for (const std::size_t c : estimated_) all.push_back({names_[c], unit(names_[c]), tables::kEstimated});
    return all;
  }
  bool has_key(const std::string& name) const {
    return std::find(names_.begin(), names_.begin() + static_cast<std::ptrdiff_t>(num_keys_), name) !=
           names_.begin() + static_cast<std::ptrdiff_t>(num_keys_);
  }

  std::vector<Cell> key_of(std::size_t row) const {
    std::vector<Cell> all;
    for (std::size_t c = 0; c < num_keys_; ++c) {
      const JsonView cell = cell_at(row, c);
      if (cell.is_integer()) {
        all.emplace_back(cell.as_integer(INT64_MIN, INT64_MAX));
      } else if (cell.is_number()) {
        all.emplace_back(cell.as_number());
      } else if (cell.is_null()) {
        all.emplace_back(std::monostate());
      } else {
        all.emplace_back(cell.as_string());
      }
    }
    return all;
  }

  Estimate estimate(std::size_t row, std::size_t i) const {
    Estimate estimate;
    if (const JsonView cell = cell_at(row, estimated_[i]); !cell.is_null()) estimate.value = cell.as_number();
    const std::byte* first = replicates_ + (row * estimated_.size() + i) * kReplicates * sizeof(float);
    std::vector<float> values(kReplicates);
    std::memcpy(values.data(), first, kReplicates * sizeof(float));
    const bool has_any = std::any_of(values.begin(), values.end(), [](float v) { return v == v; });
    if (has_any) estimate.replicates.assign(values.begin(), values.end());
    return estimate;
  }

 private:
  JsonView cell_at(std::size_t row, std::size_t column) const {
    const JsonView cells = table_.at("rows").at(row);
    if (cells.size() != names_.size()) cells.fail(util::cat("a row of ", names_.size(), " cells"));
    return cells.at(column);
  }

  std::string unit(const std::string& name) const {
    return table_.has("units") ? table_.at("units").get_string(name, "") : "";
  }

  /// The file as `RunFolder` writes it: its header is recognised by its length and by what the table needs.
  void read(const fs::path& path) {
    file_ = util::MappedFile::open(path);
    const auto expected = num_rows() * estimated_.size() * kReplicates * sizeof(float);
    constexpr std::size_t kStart = 10;  // bytes before the header
    const auto* bytes = reinterpret_cast<const unsigned char*>(file_->data());
    const bool begins = file_->size() >= kStart && std::memcmp(bytes, "\x93NUMPY\x01\x00", kStart - 2) == 0;
    const std::size_t header = begins ? kStart + bytes[8] + std::size_t{256} * bytes[9] : 0;
    const std::string shape =
        util::cat("'shape': (", num_rows(), ", ", estimated_.size(), ", ", kReplicates, ")");
    const bool fits =
        begins && file_->size() == header + expected &&
        std::string_view(reinterpret_cast<const char*>(bytes), header).find(shape) != std::string_view::npos;
    if (!fits) {
      throw util::format_error({.what = "replicates that do not fit their table",
                                .where = path.string(),
                                .expected = util::cat("float32 with ", shape, ", ", expected, " bytes"),
                                .found = util::cat(file_->size(), " bytes in all")});
    }
    replicates_ = file_->data() + header;
  }

  JsonView table_;
  std::vector<std::string> names_;
  std::vector<std::size_t> estimated_;  // columns
  std::size_t num_keys_ = 0;            // leading columns that name a row
  std::shared_ptr<const util::MappedFile> file_;
  const std::byte* replicates_ = nullptr;
};

/// A row's key as one text; the lens is left out where it does not tell rows apart.
std::string joined(const std::vector<Cell>& key, const std::vector<Column>& columns, bool any_lens) {
  std::string all;
  for (std::size_t c = 0; c < key.size(); ++c) {
    if (any_lens && (columns[c].name == "lens" || columns[c].name == "baseline")) continue;
    all += tables::cell_text(key[c]) + '\0';
  }
  return all;
}

tables::Table table_difference(const std::string& name, const StoredTable& a, const StoredTable& b,
                               bool any_lens) {
  std::vector<Column> columns = b.keys();
  const std::vector<Column> keys = columns, estimated = b.estimated();
  columns.insert(columns.end(), estimated.begin(), estimated.end());
  tables::EstimateTable table(name, columns);
  std::map<std::string, std::size_t> rows_of_a;
  for (std::size_t row = 0; row < a.num_rows(); ++row) rows_of_a[joined(a.key_of(row), keys, any_lens)] = row;
  for (std::size_t row = 0; row < b.num_rows(); ++row) {
    const std::vector<Cell> key = b.key_of(row);
    const auto found = rows_of_a.find(joined(key, keys, any_lens));
    if (found == rows_of_a.end()) continue;
    std::vector<tables::EstimateTable::Field> fields(key.begin(), key.end());
    for (std::size_t i = 0; i < estimated.size(); ++i)
      fields.emplace_back(tables::difference(b.estimate(row, i), a.estimate(found->second, i)));
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
  for (const std::string& name : b.tables().keys()) {
    const auto file = [&](const fs::path& folder) { return folder / "replicates" / (name + ".npy"); };
    if (!a.tables().has(name) || !util::exists(file(baseline)) || !util::exists(file(run))) continue;
    const StoredTable of_a(a.tables().at(name), file(baseline)), of_b(b.tables().at(name), file(run));
    const auto names = [](const std::vector<Column>& columns) {
      std::vector<std::string> all;
      for (const Column& column : columns) all.push_back(column.name);
      return all;
    };
    if (names(of_a.keys()) != names(of_b.keys()) || names(of_a.estimated()) != names(of_b.estimated()))
      continue;
    if (of_b.has_key("bucket") && !same_buckets) {
      difference.left_out.push_back(name);
      continue;
    }
    difference.tables.push_back(table_difference(name, of_a, of_b, any_lens));
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
