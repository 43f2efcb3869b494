// How often each token occurs in a corpus, and the buckets of tokens by frequency.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "depthlens/text/tokenizer.hpp"

namespace depthlens::data {

class TokenCounts {
 public:
  TokenCounts() = default;
  /// `counts[id]`.
  explicit TokenCounts(std::vector<std::int64_t> counts) : counts_(std::move(counts)) {}

  /// Reads a file of `count-tokens`, .json (`{id: {"token", "count", "ratio"}}`) or .csv
  /// (`id,token,count,ratio`), compressed or not. Counts are what is used. Throws input errors; ids must lie
  /// in 0 … vocab_size − 1, and most tokens, where the file has them, must be those of `tokenizer`: decoded
  /// or as a vocabulary spells them. Some other tokens, and ratios that contradict the counts, are warned of.
  static TokenCounts read(const std::string& path, std::int64_t vocab_size, const text::Tokenizer& tokenizer);

  void add(text::TokenId id, std::int64_t count = 1);
  std::int64_t count(text::TokenId id) const;
  std::int64_t total() const;
  std::int64_t num_distinct() const;
  /// Of the file that the table was read from, as it lies on the disk; "" where it was counted.
  const std::string& sha256() const { return sha256_; }

  /// The ids that occur, by falling count, then rising id.
  std::vector<text::TokenId> by_frequency() const;

  /// The file's content, most frequent first. The format follows from the extension, .json or .csv.
  std::string to_json(const text::Tokenizer& tokenizer) const;
  std::string to_csv(const text::Tokenizer& tokenizer) const;

 private:
  std::vector<std::int64_t> counts_;
  std::string sha256_;
};

/// Tokens grouped by their rank in a frequency table. With edges 10, 100, 1000 the buckets are top_1_10,
/// top_11_100, top_101_1000 and rest; tokens that never occur have no rank and belong to the rest.
struct TokenBuckets {
  std::vector<std::string> names;
  std::vector<std::uint8_t> bucket_of;      ///< [V]
  std::vector<std::int64_t> corpus_counts;  ///< occurrences in the frequency table, by bucket

  std::int64_t size() const { return static_cast<std::int64_t>(names.size()); }
};

/// Whether the edges rise from above 0, and are no more than a bucket's number has room for (200).
bool are_bucket_edges(const std::vector<std::int64_t>& edges);
/// Reads "10,100,1000": rising positive integers, at most 200. Throws usage errors.
std::vector<std::int64_t> parse_bucket_edges(const std::string& text);

TokenBuckets make_buckets(const TokenCounts& counts, const std::vector<std::int64_t>& edges,
                          std::int64_t vocab_size);

}  // namespace depthlens::data
