// frequency.*: buckets of the corpus, of the top-1 and of probability, recomputed by brute force.
#include <algorithm>
#include <cmath>

#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;

namespace {

const std::vector<std::string> kBuckets = {"top_1_2", "top_3_5", "empty", "rest"};

}  // namespace

TEST_CASE("frequency.corpus: counts and shares of the frequency table, not of the readouts") {
  const TableReader table = table_of("frequency", "frequency.corpus", some_readouts(5));
  REQUIRE(table.num_rows() == 4);
  const std::vector<std::int64_t> counts = {60, 30, 0, 10};
  const std::vector<double> shares = {0.6, 0.3, 0.0, 0.1};
  for (std::size_t b = 0; b < 4; ++b) {
    CHECK(table.word(b, "bucket") == kBuckets[b]);
    CHECK(table.integer(b, "count") == counts[b]);
    CHECK(table.number(b, "share") == shares[b]);
    // Five positions are not what the table counted.
    CHECK(table.is_nothing(b, "share_low"));
    CHECK(table.is_nothing(b, "share_high"));
  }
}

TEST_CASE("frequency.corpus: intervals where the table counted the tokens of the positions") {
  const ReadoutBuilder drawn = some_readouts(60, 2);
  ReadoutBuilder builder({"logit", "tuned"}, kRows, kVocabulary, 3, some_buckets().bucket_of, 4);
  data::TokenBuckets buckets = some_buckets();
  buckets.corpus_counts.assign(4, 0);
  tables::State expected;
  tables::BootstrapSums& sums = expected.sums("sums", 5, 0);
  for (std::size_t p = 0; p < drawn.positions().size(); ++p) {
    BuiltPosition position = drawn.positions()[p];
    position.document =
        static_cast<std::int64_t>(p / 6);  // each of ten begins with BOS, which no table counts
    position.position = static_cast<std::int64_t>(p % 6);
    position.num_bos = 1;
    if (position.position > 0) {
      const std::size_t bucket = buckets.bucket_of[static_cast<std::size_t>(position.token)];
      ++buckets.corpus_counts[bucket];
      const std::span<double> of = sums.of(static_cast<std::uint64_t>(position.document));
      of[bucket] += 1;
      of[4] += 1;
    }
    builder.add(position);
  }
  expected.commit();
  const auto corpus = [&](const data::TokenBuckets& counted) {
    Trial trial("frequency", {.buckets = counted});
    trial.show(builder);
    return TableReader(trial.last().tables().front());
  };
  const TableReader table = corpus(buckets);
  CHECK(table.columns() == std::vector<std::string>{"bucket", "count", "share", "share_low", "share_high"});
  for (std::size_t b = 0; b < 4; ++b) {
    INFO(kBuckets[b]);
    const tables::Estimate estimate = sums.ratio(b, 4);
    CHECK(table.integer(b, "count") == buckets.corpus_counts[b]);
    CHECK(table.number(b, "share") == estimate.value);
    if (b == 2) {  // the empty bucket
      CHECK(table.number(b, "share") == 0);
      continue;
    }
    CHECK(table.number(b, "share_low") == estimate.interval.low);
    CHECK(table.number(b, "share_high") == estimate.interval.high);
    CHECK(table.number(b, "share_low") < table.number(b, "share"));
    CHECK(table.number(b, "share") < table.number(b, "share_high"));
  }
  ++buckets.corpus_counts[3];  // a token of a text that was not shown
  for (std::size_t b = 0; b < 4; ++b) CHECK(corpus(buckets).is_nothing(b, "share_low"));
}

TEST_CASE("frequency.top1_share and mean_probability: recomputed by brute force") {
  for (const int count : {1, 50}) {
    const ReadoutBuilder builder = some_readouts(count, 3);
    const TableReader share = table_of("frequency", "frequency.top1_share", builder);
    const TableReader mass = table_of("frequency", "frequency.mean_probability", builder);
    const auto bucket_of = some_buckets().bucket_of;
    REQUIRE(share.num_rows() == 2 * kRows * 4);
    REQUIRE(mass.num_rows() == 2 * kRows * 4);
    for (std::size_t n = 0; n < 2; ++n) {
      for (std::size_t layer = 0; layer < kRows; ++layer) {
        double share_sum = 0, mass_sum = 0;
        for (std::size_t b = 0; b < 4; ++b) {
          const std::size_t r = (n * kRows + layer) * 4 + b;
          INFO("row " << r);
          int wins = 0;
          double probability = 0;
          for (const BuiltPosition& position : builder.positions()) {
            const BuiltRow& row = position.lenses[n][layer];
            wins += bucket_of[static_cast<std::size_t>(top1(row))] == b;
            for (std::size_t v = 0; v < kVocabulary; ++v)
              probability += bucket_of[v] == b ? row.probabilities[v] : 0;
          }
          for (const TableReader* table : {&share, &mass}) {
            CHECK(table->word(r, "lens") == (n == 0 ? "logit" : "tuned"));
            CHECK(table->integer(r, "layer") == static_cast<std::int64_t>(layer));
            CHECK(table->word(r, "bucket") == kBuckets[b]);
          }
          CHECK(share.integer(r, "count") == wins);
          CHECK(share.number(r, "share") == static_cast<double>(wins) / count);
          CHECK(mass.number(r, "probability") == Approx(probability / count).margin(1e-6));
          share_sum += share.number(r, "share");
          mass_sum += mass.number(r, "probability");
        }
        CHECK(share_sum == Approx(1));
        CHECK(mass_sum == Approx(1).margin(1e-6));
      }
    }
  }
}

TEST_CASE("frequency: a bucket can hold most of the mass and few of the top-1 predictions") {
  // Token 3 (rest) wins with 0.4, tokens 1 and 6 (top_1_2) share the other 0.6.
  ReadoutBuilder builder({"logit"}, 1, kVocabulary, 1, some_buckets().bucket_of, 4);
  std::vector<double> logits(kVocabulary, -1000);
  logits[1] = logits[6] = std::log(0.3);
  logits[3] = std::log(0.4);
  for (double& z : logits) z = std::max(z, -600.0);
  builder.add(0, 0, {{logits}});
  const TableReader share = table_of("frequency", "frequency.top1_share", builder);
  const TableReader mass = table_of("frequency", "frequency.mean_probability", builder);
  CHECK(share.integer(0, "count") == 0);
  CHECK(share.integer(3, "count") == 1);
  CHECK(mass.number(0, "probability") == Approx(0.6));
  CHECK(mass.number(3, "probability") == Approx(0.4));
}

TEST_CASE("frequency: without positions or an empty table shares do not exist") {
  const TableReader share =
      table_of("frequency", "frequency.top1_share", ReadoutBuilder({"logit"}, 1, kVocabulary, 1));
  REQUIRE(share.num_rows() == 4);
  CHECK(share.integer(0, "count") == 0);
  CHECK(share.is_nothing(0, "share"));
  data::TokenBuckets nothing = some_buckets();
  nothing.corpus_counts.assign(4, 0);
  Trial trial("frequency", {.buckets = nothing});
  trial.last().begin(some_readouts(1).shape());
  const TableReader corpus(trial.last().tables().front());
  CHECK(corpus.integer(0, "count") == 0);
  CHECK(corpus.is_nothing(0, "share"));
}
