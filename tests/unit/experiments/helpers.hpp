// Readouts that every experiment is tried on, and access to its tables by column.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "depthlens/experiments/experiment.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/readout_builder.hpp"

namespace depthlens::test {

inline constexpr std::int64_t kVocabulary = 12;
inline constexpr std::int64_t kRows = 5;  // layers 0 to 4

/// Buckets of 2, 3 and 7 tokens; one of them, "empty", holds none.
inline data::TokenBuckets some_buckets() {
  data::TokenBuckets buckets;
  buckets.names = {"top_1_2", "top_3_5", "empty", "rest"};
  buckets.bucket_of = {3, 0, 1, 3, 3, 1, 0, 3, 3, 1, 3, 3};
  buckets.corpus_counts = {60, 30, 0, 10};
  return buckets;
}

/// [2 lenses][kRows][kVocabulary]
inline std::vector<std::vector<std::vector<double>>> some_logits(std::mt19937& random) {
  std::vector<double> base(kVocabulary);
  for (double& z : base) z = static_cast<double>(random() % 6) * 0.5;
  std::vector<std::vector<std::vector<double>>> logits(2, std::vector<std::vector<double>>(kRows, base));
  for (auto& lens : logits) {
    for (std::size_t row = 0; row + 1 < kRows; ++row) {
      if (random() % 4 == 0) continue;  // as the final layer
      for (double& z : lens[row]) z = static_cast<double>(random() % 5) * 0.75;
    }
  }
  return logits;
}

/// Random positions through two lenses that agree in the last layer, as all lenses do. Few different logits,
/// so that ties and repeated top-1 tokens occur; some positions without a target.
inline ReadoutBuilder some_readouts(int positions, std::uint32_t seed = 1) {
  const data::TokenBuckets buckets = some_buckets();
  ReadoutBuilder builder({"logit", "tuned"}, kRows, kVocabulary, 3, buckets.bucket_of, buckets.size());
  std::mt19937 random(seed);
  for (int p = 0; p < positions; ++p) {
    const auto logits = some_logits(random);
    const bool has_target = random() % 5 != 0;
    builder.add(static_cast<decode::TokenId>(random() % kVocabulary),
                has_target ? static_cast<decode::TokenId>(random() % kVocabulary) : decode::kNoToken, logits);
  }
  return builder;
}

/// A table whose cells are asked for by row and column name.
class TableReader {
 public:
  explicit TableReader(tables::Table table) : table_(std::move(table)) {}

  const std::string& name() const { return table_.name; }
  std::size_t num_rows() const { return table_.rows.size(); }
  std::vector<std::string> columns() const {
    std::vector<std::string> names;
    for (const tables::Column& column : table_.columns) names.push_back(column.name);
    return names;
  }
  const tables::Cell& cell(std::size_t row, const std::string& column) const {
    for (std::size_t c = 0; c < table_.columns.size(); ++c) {
      if (table_.columns[c].name == column) return table_.rows.at(row).at(c);
    }
    throw std::out_of_range("no column " + column);
  }
  std::string word(std::size_t row, const std::string& column) const {
    return std::get<std::string>(cell(row, column));
  }
  std::int64_t integer(std::size_t row, const std::string& column) const {
    return std::get<std::int64_t>(cell(row, column));
  }
  double number(std::size_t row, const std::string& column) const {
    return std::get<double>(cell(row, column));
  }
  bool is_nothing(std::size_t row, const std::string& column) const {
    return std::holds_alternative<std::monostate>(cell(row, column));
  }

 private:
  tables::Table table_;
};

/// Experiments with the state that they add up in. Stays in its place.
class Trial {
 public:
  Trial(const std::string& names, experiments::Context context) {
    context.state = &state;
    experiments = experiments::make_experiments(names, context);
  }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  /// The one that was asked for: trajectory, if not asked for, comes first.
  experiments::Experiment& last() { return *experiments.back(); }
  /// A part that consists of `builder`'s positions.
  void show(const ReadoutBuilder& builder) {
    builder.show(last());
    state.commit();
  }

  tables::State state;
  std::vector<std::unique_ptr<experiments::Experiment>> experiments;
};

/// The tables of the experiment called `name` after it was shown `builder`.
inline std::vector<TableReader> tables_of(const std::string& name, const ReadoutBuilder& builder,
                                          const experiments::Context& context = {.buckets = some_buckets()}) {
  Trial trial(name, context);
  trial.show(builder);
  std::vector<TableReader> readers;
  for (tables::Table& table : trial.last().tables()) readers.emplace_back(std::move(table));
  return readers;
}

inline TableReader table_of(const std::string& experiment, const std::string& table,
                            const ReadoutBuilder& builder,
                            const experiments::Context& context = {.buckets = some_buckets()}) {
  for (TableReader& reader : tables_of(experiment, builder, context)) {
    if (reader.name() == table) return reader;
  }
  throw std::out_of_range("no table " + table);
}

inline decode::TokenId top1(const BuiltRow& row) {
  return row.order.front();
}

}  // namespace depthlens::test
