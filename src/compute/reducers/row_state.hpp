// What is kept of a row while a pass goes through the vocabulary.
//
// With m a row's reference (the greatest logit so far), and per row: S = Σ e^(z − m), A = Σ e^(z − m) (z −
// m). Against the final layer f, whose maximum is known before: C = Σ e^(z_f − m_f) (z − m) and D = Σ e^(z −
// m) (z_f − m_f). When m grows, S, A and D are scaled and C shifted. From these follow (docs/methods.md):
// log-sum-exp, entropy, both divergences. Sums within a tile are float32, over tiles float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "compute/cpu/row_statistics.hpp"
#include "depthlens/compute/statistics.hpp"

namespace depthlens::compute {

/// Of an index or a size that is not negative.
inline std::size_t sized(std::int64_t size) {
  return static_cast<std::size_t>(size);
}

/// What is known of one row after some tiles.
struct RowState {
  float m = -std::numeric_limits<float>::infinity();
  double sum = 0, weighted = 0, cross = 0, reverse = 0;  // S, A, C, D

  /// Takes a greater reference; `final_sum` is the final layer's sum over the same tiles. Returns the factor
  /// for whatever else is summed relative to m.
  double raise(float greater, double final_sum) {
    double scale = 1;
    if (sum > 0) {
      const double shift = static_cast<double>(m) - greater;
      scale = std::exp(shift);
      weighted = scale * (weighted + shift * sum);
      sum *= scale;
      cross += shift * final_sum;
      reverse *= scale;
    }
    m = greater;
    return scale;
  }
};

/// The K best of a row in order: falling logit, rising id among equals. Tokens must come in rising order.
class BestTokens {
 public:
  BestTokens(double* logits, TokenId* ids, std::int64_t k) : logits_(logits), ids_(ids), k_(k) {}

  /// Tokens whose logit is less than `bar` are left out. `found` tokens are kept before; returns how many are
  /// afterwards.
  std::int64_t add_tile(const RowStatistics& statistics, const float* tile, int width, TokenId first,
                        float bar, std::int64_t found);

  double last() const { return logits_[k_ - 1]; }

  void add(double logit, TokenId id, std::int64_t& found) {
    if (found == k_ && !(logit > logits_[k_ - 1])) return;
    const std::int64_t place = std::upper_bound(logits_, logits_ + found, logit, std::greater<>()) - logits_,
                       last = found < k_ ? found++ : k_ - 1;
    std::copy_backward(logits_ + place, logits_ + last, logits_ + last + 1);
    std::copy_backward(ids_ + place, ids_ + last, ids_ + last + 1);
    logits_[place] = logit;
    ids_[place] = id;
  }

 private:
  double* logits_;
  TokenId* ids_;
  std::int64_t k_;
};

/// Sums of probability over groups of tokens. The mass of the largest group is what the others leave, so that
/// only their few tokens are looked at.
class TokenGroups {
 public:
  struct Token {
    TokenId id;
    std::uint8_t group;
  };
  using Range = std::span<const Token>;

  TokenGroups(const std::vector<std::uint8_t>& group_of, std::int64_t count);
  std::int64_t count() const { return count_; }
  /// What the largest group does not hold of tokens first … first + width − 1.
  Range range(std::int64_t first, std::int64_t width) const;
  /// Adds a range's exponentials to `mass` [count]; exponentials[0] is that of token `first`.
  static void add(Range range, const float* exponentials, std::int64_t first, double* mass) {
    for (const Token& token : range) mass[token.group] += exponentials[token.id - first];
  }
  /// Divides by the sum of all exponentials, and fills in the largest group.
  void finish(double sum, double* mass) const;
  /// [V, G]: 1 where the token is of the group. Made when it is first asked for, and kept on that device.
  at::Tensor membership(at::Device device) const;
  /// All that the largest group does not hold, by id: the same object for the same groups.
  const std::shared_ptr<const std::vector<Token>>& tokens() const { return tokens_; }

 private:
  std::int64_t count_, vocab_size_;
  std::int64_t largest_ = 0;
  std::shared_ptr<const std::vector<Token>> tokens_;
  mutable std::mutex mutex_;
  mutable at::Tensor membership_;
};

/// Log-sum-exp, entropy, divergences and masses of all rows from their sums; row s · P + p, the final layer
/// first.
void finish(const std::vector<RowState>& rows, std::int64_t num_positions, const TokenGroups& groups,
            Statistics& output);

}  // namespace depthlens::compute
