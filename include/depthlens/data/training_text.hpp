// A corpus as lens training sees it: documents joined into one stream, cut into windows of one length, in an
// order drawn by a seed, some of them held out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/text/tokenizer.hpp"
#include "depthlens/util/files.hpp"

namespace depthlens::data {

using text::TokenId;

struct TrainingTextOptions {
  std::int64_t window_length = 0;    ///< tokens, BOS included
  std::optional<TokenId> bos;        ///< put before every window
  std::optional<TokenId> separator;  ///< put before every document; usually EOS
  std::int64_t vocab_size = 0;
};

/// Takes documents one by one. Two bytes are kept for a token where the vocabulary allows it, else four.
class TrainingText {
 public:
  explicit TrainingText(TrainingTextOptions options) : options_(options) {}

  void add(const std::vector<TokenId>& document);

  /// Sets `num_validation` windows, drawn by the seed, apart and orders the others by it. What is left over
  /// at the end of the stream fills no window and is dropped. Call once, after the last document. Throws
  /// nothing; at most all windows but one are held out.
  void shuffle(std::uint64_t seed, std::int64_t num_validation);

  std::int64_t num_tokens() const;   ///< of the stream, separators included
  std::int64_t num_windows() const;  ///< for training
  std::int64_t num_validation() const { return static_cast<std::int64_t>(validation_.size()); }

  /// Window `i` of training; counting on past the last one begins again in another order.
  std::vector<TokenId> window(std::int64_t i) const;
  std::vector<TokenId> validation_window(std::int64_t i) const;

  /// SHA-256 over the stream as 32-bit ids: what was trained on.
  std::string digest() const;

 private:
  std::vector<TokenId> tokens_of(std::int64_t window) const;
  TokenId token(std::size_t i) const { return narrow() ? small_[i] : large_[i]; }
  bool narrow() const { return options_.vocab_size <= 65536; }

  TrainingTextOptions options_;
  std::vector<std::uint16_t> small_;
  std::vector<TokenId> large_;
  std::uint64_t seed_ = 0;
  std::vector<std::int64_t> training_;    // windows, in rising order
  std::vector<std::int64_t> validation_;  // windows
  mutable std::int64_t ordered_epoch_ = -1;
  mutable std::vector<std::int64_t> order_;  // of the epoch at hand
};

}  // namespace depthlens::data
