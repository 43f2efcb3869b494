// lens.quality against sums made here, position by position.
#include <algorithm>
#include <cmath>

#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;

TEST_CASE("lens.quality: every column, recomputed by brute force") {
  for (const int count : {1, 2, 7, 60}) {
    const ReadoutBuilder builder = some_readouts(count, static_cast<std::uint32_t>(count));
    const TableReader table = table_of("trajectory", "lens.quality", builder);
    REQUIRE(table.num_rows() == 2 * kRows);
    for (std::size_t n = 0; n < 2; ++n) {
      for (std::size_t layer = 0; layer < kRows; ++layer) {
        const std::size_t r = n * kRows + layer;
        INFO("row " << r);
        double kl_final = 0, kl_reverse = 0, entropy = 0, cross_entropy = 0;
        int targets = 0, agreeing = 0, accurate = 0;
        std::vector<double> ranks;
        for (const BuiltPosition& position : builder.positions()) {
          const BuiltRow& row = position.lenses[n][layer];
          kl_final += row.kl_final;
          kl_reverse += row.kl_reverse;
          entropy += row.entropy;
          ranks.push_back(static_cast<double>(row.final_rank));
          agreeing += top1(row) == position.final_id;
          if (position.target == decode::kNoToken) continue;
          ++targets;
          cross_entropy -= std::log(row.probabilities[static_cast<std::size_t>(position.target)]);
          accurate += top1(row) == position.target;
        }
        std::sort(ranks.begin(), ranks.end());
        double rank_sum = 0;
        for (const double rank : ranks) rank_sum += rank;
        const std::size_t half = ranks.size() / 2;
        const double median = ranks.size() % 2 == 1 ? ranks[half] : (ranks[half - 1] + ranks[half]) / 2;
        CHECK(table.word(r, "lens") == (n == 0 ? "logit" : "tuned"));
        CHECK(table.integer(r, "layer") == static_cast<std::int64_t>(layer));
        CHECK(table.integer(r, "positions") == count);
        CHECK(table.number(r, "kl_final") == Approx(kl_final / count).margin(1e-6));
        CHECK(table.number(r, "kl_reverse") == Approx(kl_reverse / count).margin(1e-6));
        CHECK(table.number(r, "entropy") == Approx(entropy / count).margin(1e-6));
        CHECK(table.number(r, "top1_agreement") == static_cast<double>(agreeing) / count);
        CHECK(table.number(r, "final_rank_mean") == Approx(rank_sum / count).epsilon(1e-15));
        CHECK(table.number(r, "final_rank_median") == median);
        CHECK(table.integer(r, "targets") == targets);
        if (targets == 0) continue;
        CHECK(table.number(r, "cross_entropy") == Approx(cross_entropy / targets).margin(1e-6));
        CHECK(table.number(r, "top1_accuracy") == static_cast<double>(accurate) / targets);
      }
    }
  }
}

TEST_CASE("lens.quality: at layer L everything agrees") {
  const TableReader table = table_of("trajectory", "lens.quality", some_readouts(30));
  for (const std::size_t last : {std::size_t{kRows - 1}, std::size_t{2 * kRows - 1}}) {
    CHECK(table.number(last, "kl_final") == 0);
    CHECK(table.number(last, "kl_reverse") == 0);
    CHECK(table.number(last, "top1_agreement") == 1);
    CHECK(table.number(last, "final_rank_mean") == 1);
    CHECK(table.number(last, "final_rank_median") == 1);
  }
}

TEST_CASE("lens.quality: positions without a target leave the columns of targets without a value") {
  ReadoutBuilder builder({"logit"}, 2, 3, 1);
  builder.add(0, decode::kNoToken, {{{1, 0, 0}, {0, 1, 0}}});
  const TableReader table = table_of("trajectory", "lens.quality", builder);
  for (std::size_t r = 0; r < 2; ++r) {
    CHECK(table.integer(r, "positions") == 1);
    CHECK(table.integer(r, "targets") == 0);
    CHECK(table.is_nothing(r, "cross_entropy"));
    CHECK(table.is_nothing(r, "top1_accuracy"));
    CHECK_FALSE(table.is_nothing(r, "entropy"));
  }
}

TEST_CASE("lens.quality: a tie for the first place is rank 1 but not agreement") {
  ReadoutBuilder builder({"logit"}, 2, 3, 1);
  builder.add(0, 2, {{{0, 0, 5}, {0, 0, 5}}});  // settles the vocabulary: agreement at once
  builder.add(0, 2, {{{5, 0, 5}, {0, 0, 5}}});  // token 0 has the same logit and the lower id
  const TableReader table = table_of("trajectory", "lens.quality", builder);
  CHECK(table.number(0, "final_rank_mean") == 1);
  CHECK(table.number(0, "top1_agreement") == 0.5);
  CHECK(table.number(0, "top1_accuracy") == 0.5);
}

TEST_CASE("lens.quality: without positions there are rows, and no means") {
  const TableReader table = table_of("trajectory", "lens.quality", ReadoutBuilder({"logit"}, 3, 4, 1));
  REQUIRE(table.num_rows() == 3);
  for (std::size_t r = 0; r < 3; ++r) {
    CHECK(table.integer(r, "positions") == 0);
    for (const char* column : {"kl_final", "kl_reverse", "entropy", "cross_entropy", "top1_agreement",
                               "top1_accuracy", "final_rank_mean", "final_rank_median"}) {
      CHECK(table.is_nothing(r, column));
    }
  }
}
