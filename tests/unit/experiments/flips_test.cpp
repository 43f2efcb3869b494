// flips.*: guesses that the model gives up, recomputed by brute force.
#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;

TEST_CASE("flips.by_bucket: recomputed by brute force") {
  const ReadoutBuilder builder = some_readouts(80, 5);
  const TableReader table = table_of("flips", "flips.by_bucket", builder);
  const auto buckets = some_buckets();
  REQUIRE(table.num_rows() == 2 * kRows * 4);
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t layer = 0; layer < kRows; ++layer) {
      std::int64_t sum = 0;
      for (std::size_t b = 0; b < 4; ++b) {
        const std::size_t r = (n * kRows + layer) * 4 + b;
        INFO("row " << r);
        std::int64_t count = 0, flipped = 0;
        for (const BuiltPosition& position : builder.positions()) {
          const decode::TokenId guess = top1(position.lenses[n][layer]);
          if (buckets.bucket_of[static_cast<std::size_t>(guess)] != b) continue;
          ++count;
          flipped += guess != position.final_id;
        }
        CHECK(table.word(r, "lens") == (n == 0 ? "logit" : "tuned"));
        CHECK(table.integer(r, "layer") == static_cast<std::int64_t>(layer));
        CHECK(table.word(r, "bucket") == buckets.names[b]);
        CHECK(table.integer(r, "count") == count);
        CHECK(table.integer(r, "flipped") == flipped);
        if (count == 0) CHECK(table.is_nothing(r, "flip_rate"));
        if (count > 0)
          CHECK(table.number(r, "flip_rate") == static_cast<double>(flipped) / static_cast<double>(count));
        if (layer + 1 == kRows) CHECK(flipped == 0);
        sum += count;
      }
      CHECK(sum == 80);
    }
  }
}

TEST_CASE("flips.by_bucket: the bucket is that of the layer's own top-1, not of the final one") {
  // Layer 0 says token 1 (top_1_2), the model token 2 (top_3_5).
  std::vector<double> first(kVocabulary, 0), last(kVocabulary, 0);
  first[1] = last[2] = 3;
  ReadoutBuilder builder({"logit"}, 2, kVocabulary, 1);
  builder.add(0, 0, {{first, last}});
  const TableReader table = table_of("flips", "flips.by_bucket", builder);
  CHECK(table.integer(0, "flipped") == 1);
  CHECK(table.number(0, "flip_rate") == 1);
  CHECK(table.integer(1, "count") == 0);
  CHECK(table.is_nothing(1, "flip_rate"));
  CHECK(table.integer(4, "count") == 0);
  CHECK(table.integer(5, "count") == 1);
  CHECK(table.number(5, "flip_rate") == 0);
}

TEST_CASE("flips.changes: against the layer before, layers 1 to L, recomputed by brute force") {
  const ReadoutBuilder builder = some_readouts(80, 6);
  const TableReader table = table_of("flips", "flips.changes", builder);
  REQUIRE(table.num_rows() == 2 * (kRows - 1));
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t layer = 1; layer < kRows; ++layer) {
      const std::size_t r = n * (kRows - 1) + layer - 1;
      INFO("row " << r);
      std::int64_t changed = 0;
      for (const BuiltPosition& position : builder.positions())
        changed += top1(position.lenses[n][layer]) != top1(position.lenses[n][layer - 1]);
      CHECK(table.word(r, "lens") == (n == 0 ? "logit" : "tuned"));
      CHECK(table.integer(r, "layer") == static_cast<std::int64_t>(layer));
      CHECK(table.integer(r, "changed") == changed);
      CHECK(table.number(r, "share") == static_cast<double>(changed) / 80);
    }
  }
}

TEST_CASE("flips: without positions counts are 0 and rates do not exist") {
  const ReadoutBuilder nothing({"logit"}, 3, kVocabulary, 1);
  const TableReader by_bucket = table_of("flips", "flips.by_bucket", nothing);
  const TableReader changes = table_of("flips", "flips.changes", nothing);
  REQUIRE(by_bucket.num_rows() == 12);
  REQUIRE(changes.num_rows() == 2);
  CHECK(by_bucket.integer(0, "count") == 0);
  CHECK(by_bucket.is_nothing(0, "flip_rate"));
  CHECK(changes.integer(0, "changed") == 0);
  CHECK(changes.is_nothing(0, "share"));
}
