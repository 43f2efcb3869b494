// settling.*: from which layer on the answer stays, and where it is first among the best few.
#include <cstddef>

#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;

namespace {

/// The definition read literally: smallest i such that the top-1 of every layer i … L is the final one.
std::size_t settled_layer(const BuiltPosition& position, std::size_t n) {
  for (std::size_t i = 0;; ++i) {
    bool stays = true;
    for (std::size_t layer = i; layer < kRows; ++layer)
      stays = stays && top1(position.lenses[n][layer]) == position.final_id;
    if (stays) return i;
  }
}

std::size_t first_hit(const BuiltPosition& position, std::size_t n, std::int64_t k) {
  std::size_t i = 0;
  while (position.lenses[n][i].final_rank > k) ++i;
  return i;
}

/// Logits over 12 tokens that put token 0 at `rank`.
std::vector<double> with_rank(int rank) {
  std::vector<double> logits(kVocabulary);
  for (int v = 1; v < static_cast<int>(kVocabulary); ++v)
    logits[static_cast<std::size_t>(v)] = v < rank ? 2 + 0.1 * v : -2 - 0.1 * v;
  return logits;
}

}  // namespace

TEST_CASE("settling.depth: recomputed by brute force") {
  const ReadoutBuilder builder = some_readouts(90, 8);
  const TableReader table = table_of("settling", "settling.depth", builder);
  REQUIRE(table.num_rows() == 2 * kRows);
  for (std::size_t n = 0; n < 2; ++n) {
    std::int64_t sum = 0;
    for (std::size_t layer = 0; layer < kRows; ++layer) {
      const std::size_t r = n * kRows + layer;
      INFO("row " << r);
      std::int64_t count = 0;
      for (const BuiltPosition& position : builder.positions()) count += settled_layer(position, n) == layer;
      CHECK(table.word(r, "lens") == (n == 0 ? "logit" : "tuned"));
      CHECK(table.integer(r, "layer") == static_cast<std::int64_t>(layer));
      CHECK(table.integer(r, "count") == count);
      CHECK(table.number(r, "share") == static_cast<double>(count) / 90);
      sum += count;
    }
    CHECK(sum == 90);
  }
}

TEST_CASE("settling.first_hit: recomputed by brute force, for the thresholds of the contract") {
  const ReadoutBuilder builder = some_readouts(90, 9);
  const TableReader table = table_of("settling", "settling.first_hit", builder);
  const std::vector<std::int64_t> thresholds = {1, 5, 10};
  REQUIRE(table.num_rows() == 2 * 3 * kRows);
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t t = 0; t < 3; ++t) {
      for (std::size_t layer = 0; layer < kRows; ++layer) {
        const std::size_t r = (n * 3 + t) * kRows + layer;
        INFO("row " << r);
        std::int64_t count = 0;
        for (const BuiltPosition& position : builder.positions())
          count += first_hit(position, n, thresholds[t]) == layer;
        CHECK(table.word(r, "lens") == (n == 0 ? "logit" : "tuned"));
        CHECK(table.integer(r, "threshold") == thresholds[t]);
        CHECK(table.integer(r, "layer") == static_cast<std::int64_t>(layer));
        CHECK(table.integer(r, "count") == count);
        CHECK(table.number(r, "share") == static_cast<double>(count) / 90);
      }
    }
  }
}

TEST_CASE("settling: a visit that does not last is a first hit, not the settled layer") {
  ReadoutBuilder builder({"logit"}, kRows, kVocabulary, 1);
  // Ranks of the answer by layer: 12, 1, 6, 5, 1.
  builder.add(0, 0, {{with_rank(12), with_rank(1), with_rank(6), with_rank(5), with_rank(1)}});
  // 11, 10, 6, 2, 1.
  builder.add(0, 0, {{with_rank(11), with_rank(10), with_rank(6), with_rank(2), with_rank(1)}});
  // From the beginning.
  builder.add(0, 0, {{with_rank(1), with_rank(1), with_rank(1), with_rank(1), with_rank(1)}});
  const auto counts = [](const TableReader& table, std::size_t first) {
    std::vector<std::int64_t> found;
    for (std::size_t layer = 0; layer < kRows; ++layer)
      found.push_back(table.integer(first + layer, "count"));
    return found;
  };
  using Counts = std::vector<std::int64_t>;
  CHECK(counts(table_of("settling", "settling.depth", builder), 0) == Counts{1, 0, 0, 0, 2});
  const TableReader first_hit = table_of("settling", "settling.first_hit", builder);
  CHECK(counts(first_hit, 0) == Counts{1, 1, 0, 0, 1});
  CHECK(counts(first_hit, kRows) == Counts{1, 1, 0, 1, 0});
  CHECK(counts(first_hit, 2 * kRows) == Counts{1, 2, 0, 0, 0});
}

TEST_CASE("settling: without positions counts are 0 and shares do not exist") {
  const ReadoutBuilder nothing({"logit"}, 2, kVocabulary, 1);
  const TableReader depth = table_of("settling", "settling.depth", nothing);
  REQUIRE(depth.num_rows() == 2);
  CHECK(depth.integer(0, "count") == 0);
  CHECK(depth.is_nothing(0, "share"));
}
