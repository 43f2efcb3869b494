// calibration.*: early exits, probability by rank and the bias to frequent tokens, by brute force.
#include <algorithm>
#include <cmath>
#include <limits>

#include "depthlens/tables/bootstrap.hpp"
#include "helpers.hpp"
#include "support/means.hpp"

using namespace depthlens;
using namespace depthlens::test;
using decode::TokenId;

namespace {

constexpr std::uint64_t kSeed = 5;
constexpr std::int64_t kTopK = 11;

/// Of some_buckets: 60 occurrences of tokens 1 and 6, 30 of 2, 5 and 9, 10 of the rest; 4, 8 and 11 never
/// occur.
data::TokenCounts some_counts() {
  return data::TokenCounts({2, 35, 12, 1, 0, 10, 25, 3, 0, 8, 4, 0});
}

experiments::Context context_of(const data::TokenCounts& counts) {
  return {.buckets = some_buckets(), .counts = &counts, .seed = kSeed};
}

/// Documents of 1 to 6 positions.
ReadoutBuilder some_documents(std::int64_t documents, std::int64_t top_k = kTopK) {
  ReadoutBuilder builder({"logit", "tuned"}, kRows, kVocabulary, top_k);
  std::mt19937 random(3);
  for (std::int64_t document = 0; document < documents; ++document) {
    const auto positions = static_cast<std::int64_t>(1 + random() % 6);
    for (std::int64_t p = 0; p < positions; ++p) {
      auto logits = some_logits(random);
      // Sharp distributions too, so that every threshold is passed somewhere.
      const double sharpness = std::vector<double>{0.5, 1, 3, 10}[random() % 4];
      for (auto& lens : logits) {
        for (auto& row : lens) {
          for (double& z : row) z *= sharpness;
        }
      }
      builder.add(1, 2, logits, document, 0, p);
    }
  }
  return builder;
}

/// Sums of a document's positions, and what a table must say of them.
class ByDocument {
 public:
  void add(const BuiltPosition& position, double value) {
    sum_ += value;
    ++count_;
    means_.add(static_cast<std::uint64_t>(position.document), {&value, 1});
  }
  double mean() const { return sum_ / static_cast<double>(count_); }
  std::int64_t count() const { return count_; }
  void check(const TableReader& table, std::size_t row, const std::string& column) const {
    INFO(column);
    CHECK(table.number(row, column) == Approx(mean()).epsilon(1e-12).margin(1e-15));
    const auto interval = means_.estimate(0).interval;
    CHECK(table.number(row, column + "_low") == Approx(*interval.low).epsilon(1e-10).margin(1e-15));
    CHECK(table.number(row, column + "_high") == Approx(*interval.high).epsilon(1e-10).margin(1e-15));
  }

 private:
  double sum_ = 0;
  std::int64_t count_ = 0;
  Means means_{1, kSeed};
};

double probability(const BuiltRow& row, std::size_t place) {
  return std::exp(static_cast<double>(ReadoutBuilder::logprob(row, row.order[place])));
}

bool leaves(const std::string& criterion, double threshold, const BuiltRow& row) {
  if (criterion == "max_probability") return probability(row, 0) >= threshold;
  if (criterion == "entropy") return static_cast<float>(row.entropy) <= threshold;
  return probability(row, 0) - probability(row, 1) >= threshold;
}

const std::vector<std::pair<std::string, std::vector<double>>> kExits = {
    {"max_probability", {0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99}},
    {"entropy", {3, 2, 1.5, 1, 0.5, 0.25, 0.1}},
    {"top2_gap", {0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95}}};

}  // namespace

TEST_CASE("calibration.early_exit: recomputed by brute force") {
  const data::TokenCounts counts = some_counts();
  const ReadoutBuilder builder = some_documents(30);
  const TableReader table = table_of("calibration", "calibration.early_exit", builder, context_of(counts));
  REQUIRE(table.num_rows() == 2 * 21);
  std::size_t r = 0;
  for (std::size_t n = 0; n < 2; ++n) {
    for (const auto& [criterion, thresholds] : kExits) {
      double before = -1;
      for (const double threshold : thresholds) {
        INFO("row " << r);
        ByDocument layers, agreement;
        for (const BuiltPosition& position : builder.positions()) {
          std::size_t layer = 0;
          while (layer < kRows - 1 && !leaves(criterion, threshold, position.lenses[n][layer])) ++layer;
          layers.add(position, static_cast<double>(layer));
          agreement.add(position, top1(position.lenses[n][layer]) == position.final_id ? 1 : 0);
        }
        CHECK(table.word(r, "lens") == (n == 0 ? "logit" : "tuned"));
        CHECK(table.word(r, "criterion") == criterion);
        CHECK(table.number(r, "threshold") == threshold);
        CHECK(table.integer(r, "count") == layers.count());
        layers.check(table, r, "mean_layer");
        agreement.check(table, r, "agreement");
        if (layers.mean() > 0)
          CHECK(table.number(r, "speedup_bound") == Approx((kRows - 1) / layers.mean()).epsilon(1e-12));
        // A stricter threshold is not passed sooner.
        CHECK(layers.mean() >= before);
        before = layers.mean();
        ++r;
      }
    }
  }
}

TEST_CASE("calibration.early_exit: left at once there is no bound, and never is the last layer") {
  ReadoutBuilder builder({"logit"}, 3, kVocabulary, kTopK);
  std::vector<double> flat(kVocabulary, 0), sharp = flat;
  sharp[4] = 40;
  builder.add(0, 1, {{sharp, flat, sharp}}, 0);
  builder.add(0, 1, {{sharp, flat, sharp}}, 1);
  const data::TokenCounts counts = some_counts();
  const TableReader at_once = table_of("calibration", "calibration.early_exit", builder, context_of(counts));
  for (std::size_t r = 0; r < 21; ++r) {
    CHECK(at_once.number(r, "mean_layer") == 0);
    CHECK(at_once.is_nothing(r, "speedup_bound"));
    CHECK(at_once.number(r, "agreement") == 1);
  }
  ReadoutBuilder never({"logit"}, 3, kVocabulary, kTopK);
  never.add(0, 1, {{flat, flat, flat}});
  const TableReader last = table_of("calibration", "calibration.early_exit", never, context_of(counts));
  CHECK(last.number(0, "mean_layer") == 2);  // the best probability is 1 / 12
  CHECK(last.number(0, "speedup_bound") == 1);
  CHECK(last.number(7, "mean_layer") == 0);  // an entropy of ln 12 = 2.48 is below 3
  CHECK(last.number(8, "mean_layer") == 2);
  CHECK(last.is_nothing(0, "mean_layer_low"));  // one document gives no interval
}

TEST_CASE("calibration.rank_mass: recomputed by brute force") {
  const data::TokenCounts counts = some_counts();
  const ReadoutBuilder builder = some_documents(25);
  const TableReader table = table_of("calibration", "calibration.rank_mass", builder, context_of(counts));
  REQUIRE(table.num_rows() == 2 * kRows * 10);
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t layer = 0; layer < kRows; ++layer) {
      for (std::size_t k = 0; k < 10; ++k) {
        const std::size_t r = (n * kRows + layer) * 10 + k;
        INFO("row " << r);
        ByDocument alone, cumulated;
        for (const BuiltPosition& position : builder.positions()) {
          const BuiltRow& row = position.lenses[n][layer];
          double sum = 0;
          for (std::size_t place = 0; place <= k; ++place) sum += probability(row, place);
          alone.add(position, probability(row, k));
          cumulated.add(position, sum);
        }
        CHECK(table.word(r, "lens") == (n == 0 ? "logit" : "tuned"));
        CHECK(table.integer(r, "layer") == static_cast<std::int64_t>(layer));
        CHECK(table.integer(r, "rank") == static_cast<std::int64_t>(k + 1));
        CHECK(table.integer(r, "count") == alone.count());
        alone.check(table, r, "mean_probability");
        cumulated.check(table, r, "cumulative_probability");
      }
    }
  }
}

TEST_CASE("calibration.rank_mass: a small vocabulary has fewer ranks, a large top-k not more") {
  const data::TokenCounts counts = some_counts();
  CHECK(
      table_of("calibration", "calibration.rank_mass", some_documents(2, 4), context_of(counts)).num_rows() ==
      2 * kRows * 4);
  CHECK(table_of("calibration", "calibration.rank_mass", some_documents(2, 12), context_of(counts))
            .num_rows() == 2 * kRows * 10);
}

TEST_CASE("calibration.frequency_bias: recomputed by brute force; its terms add up to the divergence") {
  const data::TokenCounts counts = some_counts();
  const data::TokenBuckets buckets = some_buckets();
  const ReadoutBuilder builder = some_documents(30);
  const TableReader table =
      table_of("calibration", "calibration.frequency_bias", builder, context_of(counts));
  REQUIRE(table.num_rows() == 2 * kRows * 5);
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t layer = 0; layer < kRows; ++layer) {
      std::vector<double> mean(kVocabulary), corpus(kVocabulary);
      for (std::size_t v = 0; v < mean.size(); ++v) {
        for (const BuiltPosition& position : builder.positions())
          mean[v] += position.lenses[n][layer].probabilities[v];
        mean[v] /= static_cast<double>(builder.positions().size());
        corpus[v] = static_cast<double>(counts.count(static_cast<TokenId>(v))) / 100;
      }
      double divergence = 0;
      for (std::size_t v = 0; v < mean.size(); ++v)
        divergence += corpus[v] > 0 ? corpus[v] * std::log(corpus[v] / mean[v]) : 0;
      const std::size_t all = (n * kRows + layer) * 5;
      CHECK(table.word(all, "bucket") == "all");
      CHECK(table.number(all, "corpus_share") == 1);
      CHECK(table.number(all, "predicted_share") == Approx(1).epsilon(1e-12));
      CHECK(table.number(all, "kl_corpus") == Approx(divergence).epsilon(1e-10));
      CHECK(table.number(all, "kl_share") == 1);
      double sum = 0;
      for (std::size_t b = 0; b < 4; ++b) {
        const std::size_t r = all + 1 + b;
        INFO("row " << r);
        double predicted = 0, share = 0, kl = 0;
        for (std::size_t v = 0; v < mean.size(); ++v) {
          if (buckets.bucket_of[v] != b) continue;
          predicted += mean[v];
          share += corpus[v];
          kl += mean[v] - corpus[v] + (corpus[v] > 0 ? corpus[v] * std::log(corpus[v] / mean[v]) : 0);
        }
        CHECK(table.word(r, "lens") == (n == 0 ? "logit" : "tuned"));
        CHECK(table.integer(r, "layer") == static_cast<std::int64_t>(layer));
        CHECK(table.word(r, "bucket") == buckets.names[b]);
        CHECK(table.number(r, "corpus_share") == Approx(share).epsilon(1e-12).margin(1e-15));
        CHECK(table.number(r, "predicted_share") == Approx(predicted).epsilon(1e-12).margin(1e-15));
        CHECK(table.number(r, "kl_corpus") == Approx(kl).epsilon(1e-10).margin(1e-15));
        CHECK(table.number(r, "kl_corpus") >= 0);
        CHECK(table.number(r, "kl_share") == Approx(kl / divergence).epsilon(1e-10).margin(1e-15));
        sum += table.number(r, "kl_corpus");
      }
      CHECK(sum == Approx(divergence).epsilon(1e-10));
    }
  }
}

TEST_CASE("calibration.frequency_bias: a mean probability too small for a number counts by its logarithm") {
  const data::TokenCounts counts = some_counts();
  ReadoutBuilder builder({"logit"}, 1, kVocabulary, kTopK);
  std::vector<double> logits(kVocabulary, 0);
  builder.add(0, 1, {{logits}});
  builder.add(0, 1, {{logits}});
  decode::ProbabilitySums sums = builder.probability_sums();
  sums.log_small = {std::vector<double>(kVocabulary, -std::numeric_limits<double>::infinity())};
  sums.sums[0][2] = 0;  // 12 of 100 occurrences
  sums.log_small[0][2] = -2000;
  sums.sums[0][4] = 0;  // never occurs
  sums.log_small[0][4] = -3000;
  Trial trial("calibration", context_of(counts));
  trial.last().begin(builder.shape());
  builder.show(trial.last(), /*begin_and_end=*/false);
  trial.last().accept_sums(sums);
  trial.state.commit();
  double divergence = 0;
  for (std::size_t v = 0; v < kVocabulary; ++v) {
    const double c = static_cast<double>(counts.count(static_cast<TokenId>(v))) / 100;
    const double q = sums.sums[0][v] / 2;
    const double log_q = v == 2 ? -2000 - std::log(2) : std::log(q);
    divergence += (c > 0 ? c * (std::log(c) - log_q) : 0) - c + q;
  }
  const TableReader table(trial.last().tables()[2]);
  CHECK(table.word(0, "bucket") == "all");
  CHECK(table.number(0, "kl_corpus") == Approx(divergence).epsilon(1e-12));
  CHECK(table.number(0, "kl_corpus") > 0.12 * 2000);
}

TEST_CASE("calibration: without positions or without a frequency table numbers do not exist") {
  const data::TokenCounts counts = some_counts(), none;
  const ReadoutBuilder nothing({"logit"}, 2, kVocabulary, kTopK);
  for (const TableReader& table : tables_of("calibration", nothing, context_of(counts))) {
    INFO(table.name());
    REQUIRE(table.num_rows() > 0);
    for (const char* column : {"mean_layer", "agreement", "speedup_bound", "mean_probability",
                               "cumulative_probability", "predicted_share", "kl_corpus", "kl_share"}) {
      const auto columns = table.columns();
      if (std::find(columns.begin(), columns.end(), column) == columns.end()) continue;
      INFO(column);
      CHECK(table.is_nothing(0, column));
    }
  }
  const TableReader uncounted =
      table_of("calibration", "calibration.frequency_bias", some_documents(2), context_of(none));
  CHECK(uncounted.is_nothing(0, "corpus_share"));
  CHECK(uncounted.is_nothing(0, "kl_corpus"));
}

TEST_CASE("calibration: needs ten ranks and the sums of probability") {
  const data::TokenCounts counts = some_counts();
  Trial trial("calibration", context_of(counts));
  CHECK(trial.last().needs().top_k == 10);
  CHECK(trial.last().needs().probability_sums);
}
