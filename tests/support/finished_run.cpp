// Tables by brute force: one loop over the records for each definition of docs/methods.md.
#include "support/finished_run.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>

#include "depthlens/util/csv.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

namespace fs = std::filesystem;
using util::Json;
using util::OrderedJson;

/// A table's columns; behind those given stand X_low and X_high for each X that is estimated.
struct Documented {
  Documented(std::string name, std::vector<std::string> given, const std::vector<std::string>& estimated)
      : table(std::move(name)), columns(std::move(given)) {
    for (const std::string& column : estimated) {
      columns.push_back(column + "_low");
      columns.push_back(column + "_high");
    }
  }
  std::string table;
  std::vector<std::string> columns;
};

/// Those of a run with `num_lenses`.
std::vector<Documented> documented_tables(std::size_t num_lenses) {
  std::vector<Documented> all = {
      {"lens.quality",
       {"lens", "layer", "positions", "kl_final", "kl_reverse", "entropy", "cross_entropy", "top1_agreement",
        "top1_accuracy", "final_rank_mean", "final_rank_median", "targets"},
       {"kl_final", "kl_reverse", "entropy", "cross_entropy", "top1_agreement", "top1_accuracy",
        "final_rank_mean"}},
      {"frequency.corpus", {"bucket", "count", "share"}, {"share"}},
      {"frequency.targets", {"bucket", "count", "share"}, {"share"}},
      {"frequency.top1_share", {"lens", "layer", "bucket", "count", "share"}, {"share"}},
      {"frequency.mean_probability", {"lens", "layer", "bucket", "probability"}, {"probability"}},
      {"flips.by_bucket", {"lens", "layer", "bucket", "count", "flipped", "flip_rate"}, {"flip_rate"}},
      {"flips.changes", {"lens", "layer", "changed", "share"}, {"share"}},
      {"settling.depth", {"lens", "layer", "count", "share"}, {"share"}},
      {"settling.first_hit", {"lens", "threshold", "layer", "count", "share"}, {"share"}}};
  const std::vector<std::string> differences = {"kl_final",      "kl_reverse",     "entropy",
                                                "cross_entropy", "top1_agreement", "top1_accuracy"};
  if (num_lenses > 1) {
    std::vector<std::string> columns = {"lens", "baseline", "layer", "positions"};
    columns.insert(columns.end(), differences.begin(), differences.end());
    all.emplace_back("lens.difference", columns, differences);
  }
  return all;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// null where the expected value does not exist.
void check_number(const Json& found, double expected) {
  if (std::isnan(expected)) {
    CHECK(found.is_null());
    return;
  }
  REQUIRE(found.is_number());
  CHECK(found.get<double>() == Approx(expected).epsilon(1e-9).margin(1e-12));
}

double ratio(std::int64_t part, std::int64_t all) {
  return all == 0 ? std::nan("") : static_cast<double>(part) / static_cast<double>(all);
}

/// What the records say about one lens.
struct Readouts {
  const FinishedRun& run;
  std::string lens;
  std::int64_t num_rows;

  std::int64_t positions() const { return static_cast<std::int64_t>(run.records.size()); }
  const Json& of(const Json& record) const { return record.at("lenses").at(lens); }
  std::int64_t top1(const Json& record, std::size_t layer) const {
    return of(record).at("top_ids").at(layer).at(0);
  }
  template <typename Condition>
  std::int64_t count(const Condition& condition) const {
    return std::count_if(run.records.begin(), run.records.end(), condition);
  }
  /// The number under `key` at a layer, of the records that have it. Decimals in records are those of
  /// float32.
  std::vector<double> values(const std::string& key, std::size_t layer) const {
    std::vector<double> all;
    for (const Json& record : run.records) {
      const Json& list = of(record).at(key);
      if (!list.is_null()) all.push_back(list.at(layer).get<float>());
    }
    return all;
  }
};

void check_quality(const Readouts& readouts, const Json& row, std::size_t layer) {
  const auto final_ranks = readouts.values("final_rank", layer);
  const auto target_logprobs = readouts.values("target_logprob", layer);
  CHECK(row.at("positions") == readouts.positions());
  check_number(row.at("kl_final"), mean(readouts.values("kl_final", layer)));
  check_number(row.at("kl_reverse"), mean(readouts.values("kl_reverse", layer)));
  check_number(row.at("entropy"), mean(readouts.values("entropy", layer)));
  CHECK(row.at("targets") == target_logprobs.size());
  check_number(row.at("cross_entropy"), -mean(target_logprobs));
  check_number(row.at("final_rank_mean"), mean(final_ranks));
  check_number(row.at("final_rank_median"), median(final_ranks));
  const auto agree = readouts.count(
      [&](const Json& record) { return readouts.top1(record, layer) == record.at("final").at("id"); });
  check_number(row.at("top1_agreement"), ratio(agree, readouts.positions()));
  const auto right = readouts.count([&](const Json& record) {
    return !record.at("target").is_null() && readouts.top1(record, layer) == record.at("target").at("id");
  });
  check_number(row.at("top1_accuracy"), ratio(right, static_cast<std::int64_t>(target_logprobs.size())));
}

/// First layer where the final top-1 has at most that rank.
std::int64_t first_hit(const Json& readout, std::int64_t threshold) {
  const Json& ranks = readout.at("final_rank");
  for (std::size_t layer = 0; layer < ranks.size(); ++layer) {
    if (ranks[layer].get<std::int64_t>() <= threshold) return static_cast<std::int64_t>(layer);
  }
  return -1;
}

}  // namespace

FinishedRun FinishedRun::read(const fs::path& folder) {
  FinishedRun finished;
  finished.run = OrderedJson::parse(read_bytes(folder / "run.json"));
  finished.summary = OrderedJson::parse(read_bytes(folder / "summary.json"));
  std::ifstream lines(folder / "records.jsonl");
  for (std::string line; std::getline(lines, line);) finished.records.push_back(Json::parse(line));
  return finished;
}

std::vector<Json> FinishedRun::rows(const std::string& name) const {
  const OrderedJson& found = table(name);
  std::vector<Json> all;
  for (const auto& cells : found.at("rows")) {
    REQUIRE(cells.size() == found.at("columns").size());
    Json& row = all.emplace_back();
    for (std::size_t c = 0; c < cells.size(); ++c) row[found.at("columns")[c].get<std::string>()] = cells[c];
  }
  return all;
}

std::map<std::string, std::string> lasting_files(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& item : fs::recursive_directory_iterator(folder)) {
    if (!item.is_regular_file()) continue;
    const std::string name = fs::relative(item.path(), folder).string();
    files[name] = read_bytes(item.path());
    if (name != "run.json") continue;
    OrderedJson run = OrderedJson::parse(files[name]);
    run.erase("volatile");
    files[name] = run.dump(1);
  }
  return files;
}

Buckets make_buckets(const std::map<std::int64_t, std::int64_t>& counts,
                     const std::vector<std::int64_t>& edges) {
  Buckets buckets;
  std::int64_t first = 1;
  for (const std::int64_t edge : edges) {
    buckets.names.push_back("top_" + std::to_string(first) + "_" + std::to_string(edge));
    first = edge + 1;
  }
  buckets.names.push_back("rest");
  std::vector<std::pair<std::int64_t, std::int64_t>> order;  // (-count, id)
  for (const auto& [id, count] : counts) order.emplace_back(-count, id);
  std::sort(order.begin(), order.end());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto edge = std::lower_bound(edges.begin(), edges.end(), static_cast<std::int64_t>(i) + 1);
    const std::string& name = buckets.names[static_cast<std::size_t>(edge - edges.begin())];
    buckets.of_token[order[i].second] = name;
    buckets.corpus_counts[name] -= order[i].first;
  }
  return buckets;
}

std::map<std::int64_t, std::int64_t> token_counts(const FinishedRun& run) {
  const bool bos = run.run.at("settings").at("add_bos");
  std::map<std::int64_t, std::int64_t> counts;
  for (const Json& record : run.records) {
    if (!bos || record.at("position") > 0) ++counts[record.at("token").at("id")];
  }
  return counts;
}

void check_tables(const FinishedRun& run, const Buckets& buckets) {
  const auto num_rows = run.run.at("model").at("layers").get<std::size_t>() + 1;
  const auto vocab_size = run.run.at("model").at("vocab_size").get<std::size_t>();
  std::map<std::string, Readouts> by_lens;
  for (const auto& lens : run.run.at("lenses")) {
    const std::string name = lens.at("name");
    by_lens.emplace(name, Readouts{run, name, static_cast<std::int64_t>(num_rows)});
  }
  const std::size_t num_lenses = by_lens.size(), num_buckets = buckets.names.size();
  const auto positions = static_cast<std::int64_t>(run.records.size());
  const auto each_row = [&](const std::string& table, std::size_t expected_rows, const auto& check) {
    INFO(table);
    const std::vector<Json> rows = run.rows(table);
    CHECK(rows.size() == expected_rows);
    std::set<std::string> keys;
    for (const Json& row : rows) {
      Json key = row;
      for (const char* value : {"count", "share", "probability", "flipped", "flip_rate", "changed"})
        key.erase(value);
      CHECK(keys.insert(key.dump()).second);
      INFO(row.dump());
      const auto layer = row.contains("layer") ? row.at("layer").get<std::size_t>() : 0;
      REQUIRE(layer < num_rows);
      check(row, layer);
    }
  };

  each_row("lens.quality", num_lenses * num_rows, [&](const Json& row, std::size_t layer) {
    check_quality(by_lens.at(row.at("lens")), row, layer);
  });

  std::int64_t all_tokens = 0;
  for (const auto& [name, count] : buckets.corpus_counts) all_tokens += count;
  each_row("frequency.corpus", num_buckets, [&](const Json& row, std::size_t /*layer*/) {
    const auto found = buckets.corpus_counts.find(row.at("bucket"));
    const std::int64_t count = found == buckets.corpus_counts.end() ? 0 : found->second;
    CHECK(row.at("count") == count);
    check_number(row.at("share"), ratio(count, all_tokens));
  });
  const auto top1_in = [&](const Readouts& readouts, std::size_t layer, const std::string& bucket) {
    return [&readouts, &buckets, layer, bucket](const Json& record) {
      return buckets.of(readouts.top1(record, layer)) == bucket;
    };
  };
  each_row("frequency.top1_share", num_lenses * num_rows * num_buckets,
           [&](const Json& row, std::size_t layer) {
             const Readouts& readouts = by_lens.at(row.at("lens"));
             const std::int64_t count = readouts.count(top1_in(readouts, layer, row.at("bucket")));
             CHECK(row.at("count") == count);
             check_number(row.at("share"), ratio(count, positions));
           });

  std::map<std::string, double> mass;
  each_row("frequency.mean_probability", num_lenses * num_rows * num_buckets,
           [&](const Json& row, std::size_t layer) {
             const Readouts& readouts = by_lens.at(row.at("lens"));
             const auto probability = row.at("probability").get<double>();
             mass[row.at("lens").get<std::string>() + std::to_string(layer)] += probability;
             if (readouts.of(run.records.front()).at("top_ids").at(layer).size() < vocab_size) return;
             double sum = 0;  // records of the whole vocabulary tell the mass too
             for (const Json& record : run.records) {
               const Json& readout = readouts.of(record);
               for (std::size_t k = 0; k < vocab_size; ++k) {
                 if (row.at("bucket") == buckets.of(readout.at("top_ids")[layer][k]))
                   sum += std::exp(readout.at("top_logprobs")[layer][k].get<double>());
               }
             }
             CHECK(probability == Approx(sum / static_cast<double>(positions)).margin(2e-6));
           });
  CHECK(mass.size() == num_lenses * num_rows);
  for (const auto& [key, sum] : mass) CHECK(sum == Approx(1).margin(1e-5));

  each_row("flips.by_bucket", num_lenses * num_rows * num_buckets, [&](const Json& row, std::size_t layer) {
    const Readouts& readouts = by_lens.at(row.at("lens"));
    const auto in_bucket = top1_in(readouts, layer, row.at("bucket"));
    const std::int64_t count = readouts.count(in_bucket);
    const std::int64_t flipped = readouts.count([&](const Json& record) {
      return in_bucket(record) && readouts.top1(record, layer) != record.at("final").at("id");
    });
    CHECK(row.at("count") == count);
    CHECK(row.at("flipped") == flipped);
    check_number(row.at("flip_rate"), ratio(flipped, count));
  });
  each_row("flips.changes", num_lenses * (num_rows - 1), [&](const Json& row, std::size_t layer) {
    const Readouts& readouts = by_lens.at(row.at("lens"));
    REQUIRE(layer >= 1);
    const std::int64_t changed = readouts.count(
        [&](const Json& record) { return readouts.top1(record, layer) != readouts.top1(record, layer - 1); });
    CHECK(row.at("changed") == changed);
    check_number(row.at("share"), ratio(changed, positions));
  });

  each_row("settling.depth", num_lenses * num_rows, [&](const Json& row, std::size_t layer) {
    const Readouts& readouts = by_lens.at(row.at("lens"));
    const std::int64_t count =
        readouts.count([&](const Json& record) { return readouts.of(record).at("settled_layer") == layer; });
    CHECK(row.at("count") == count);
    check_number(row.at("share"), ratio(count, positions));
  });
  std::set<std::int64_t> thresholds;
  each_row("settling.first_hit", num_lenses * num_rows * 3, [&](const Json& row, std::size_t layer) {
    const Readouts& readouts = by_lens.at(row.at("lens"));
    const std::int64_t threshold = row.at("threshold");
    thresholds.insert(threshold);
    const std::int64_t count = readouts.count([&](const Json& record) {
      return first_hit(readouts.of(record), threshold) == static_cast<std::int64_t>(layer);
    });
    CHECK(row.at("count") == count);
    check_number(row.at("share"), ratio(count, positions));
  });
  CHECK(thresholds == std::set<std::int64_t>{1, 5, 10});
}

void check_csv(const fs::path& folder, const FinishedRun& run) {
  CHECK(run.summary.at("schema_version") == 1);
  std::set<std::string> files, expected_files;
  for (const auto& item : fs::directory_iterator(folder / "tables"))
    files.insert(item.path().filename().string());
  for (const Documented& documented : documented_tables(run.run.at("lenses").size())) {
    INFO(documented.table);
    expected_files.insert(documented.table + ".csv");
    const OrderedJson& table = run.table(documented.table);
    CHECK(table.at("columns") == OrderedJson(documented.columns));
    for (const auto& unit : table.at("units").items()) {
      CHECK(std::count(documented.columns.begin(), documented.columns.end(), unit.key()) == 1);
    }
    const auto lines = util::parse_csv(read_bytes(folder / "tables" / (documented.table + ".csv")), "csv");
    REQUIRE(lines.size() == table.at("rows").size() + 1);
    CHECK(lines.front() == documented.columns);
    for (std::size_t r = 0; r + 1 < lines.size(); ++r) {
      const auto& line = lines[r + 1];
      const OrderedJson& row = table.at("rows")[r];
      REQUIRE(line.size() == row.size());
      for (std::size_t c = 0; c < row.size(); ++c) {
        const OrderedJson& cell = row[c];
        // An end of an interval is a percentile of replicates, which lie around the value.
        if (documented.columns[c].ends_with("_low") && !cell.is_null()) CHECK(cell <= row[c + 1]);
        if (cell.is_null()) {
          CHECK(line[c].empty());
        } else if (cell.is_number_float()) {
          CHECK(std::stod(line[c]) == cell.get<double>());
        } else {
          CHECK(line[c] == (cell.is_string() ? cell.get<std::string>() : cell.dump()));
        }
      }
    }
  }
  CHECK(files == expected_files);
  CHECK(run.summary.at("tables").size() == expected_files.size());
}

void check_records(const FinishedRun& run, const std::vector<std::string>& lenses, std::int64_t num_rows,
                   std::int64_t top_k) {
  const auto R = static_cast<std::size_t>(num_rows), K = static_cast<std::size_t>(top_k);
  for (std::size_t i = 0; i < run.records.size(); ++i) {
    const Json& record = run.records[i];
    CAPTURE(i);
    REQUIRE(record.size() == 11);
    CHECK(record.at("input").is_number_integer());
    CHECK(record.at("input_document").is_number_integer());
    CHECK(record.at("window_start").is_number_integer());
    CHECK(record.at("item").is_null());
    for (const char* token : {"token", "final"}) {
      REQUIRE(record.at(token).at("id").is_number_integer());
      REQUIRE(record.at(token).at("text").is_string());
    }
    // The target is the token that follows, and null at the end of a window.
    const Json* next = i + 1 < run.records.size() ? &run.records[i + 1] : nullptr;
    const bool last = next == nullptr || next->at("document") != record.at("document") ||
                      next->at("window") != record.at("window");
    if (!last) {
      CHECK(next->at("position") == record.at("position").get<int>() + 1);
      CHECK(record.at("target") == next->at("token"));
    } else {
      CHECK(record.at("target").is_null());
    }
    REQUIRE(record.at("lenses").size() == lenses.size());
    for (const std::string& lens : lenses) {
      const Json& readout = record.at("lenses").at(lens);
      REQUIRE(readout.size() == 11);
      for (const char* key : {"top_ids", "top_tokens", "top_logprobs"}) {
        REQUIRE(readout.at(key).size() == R);
        for (const Json& row : readout.at(key)) REQUIRE(row.size() == K);
      }
      for (const char* key : {"final_rank", "final_logprob", "entropy", "kl_final", "kl_reverse"})
        REQUIRE(readout.at(key).size() == R);
      for (const char* key : {"target_rank", "target_logprob"}) {
        if (last) {
          REQUIRE(readout.at(key).is_null());
        } else {
          REQUIRE(readout.at(key).size() == R);
        }
      }
      const Json& final_id = record.at("final").at("id");
      CHECK(readout.at("top_ids")[R - 1][0] == final_id);
      CHECK(readout.at("top_tokens")[R - 1][0] == record.at("final").at("text"));
      CHECK(readout.at("final_rank")[R - 1] == 1);
      CHECK(readout.at("kl_final")[R - 1] == 0);
      CHECK(readout.at("kl_reverse")[R - 1] == 0);
      std::size_t settled = R - 1;
      while (settled > 0 && readout.at("top_ids")[settled - 1][0] == final_id) --settled;
      CHECK(readout.at("settled_layer") == settled);
      for (std::size_t layer = 0; layer < R; ++layer) {
        const Json& logprobs = readout.at("top_logprobs")[layer];
        CHECK(std::is_sorted(logprobs.rbegin(), logprobs.rend()));
        const Json& ids = readout.at("top_ids")[layer];
        CHECK(std::set<std::int64_t>(ids.begin(), ids.end()).size() == K);
        // A token among the top k has the rank of its place, or a better one where logits are equal.
        for (const auto& [key, id] : {std::pair("final", final_id),
                                      std::pair("target", last ? Json() : record.at("target").at("id"))}) {
          if (id.is_null()) continue;
          const auto rank = readout.at(std::string(key) + "_rank")[layer].get<std::size_t>();
          const auto place = static_cast<std::size_t>(std::find(ids.begin(), ids.end(), id) - ids.begin());
          CHECK(rank >= 1);
          CHECK((place < K ? rank <= place + 1 : rank >= K));
          if (place < K) {
            CHECK(readout.at(std::string(key) + "_logprob")[layer].get<float>() ==
                  Approx(logprobs[place].get<float>()).margin(1e-6));
          }
        }
        for (const char* key : {"entropy", "kl_final", "kl_reverse"}) CHECK(readout.at(key)[layer] >= 0);
      }
    }
  }
}

}  // namespace depthlens::test
