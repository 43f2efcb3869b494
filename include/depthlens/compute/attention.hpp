// Attention of windows of text.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>

namespace depthlens::compute {

/// How scores become weights, in the order of the fields.
struct AttentionRule {
  double scale = 1;               ///< of q · k
  double soft_cap = 0;            ///< then cap · tanh(score / cap); 0: none
  at::Tensor position_bias = {};  ///< [H, ≥ T] float32: that of the key's position is added; or undefined
  std::int64_t window = 0;        ///< positions that each one sees, its own included; 0: all before it
  /// Positions of a chunk: each sees those of its own chunk only, the first of which begins at 0; 0: all.
  std::int64_t chunk = 0;
  at::Tensor sinks = {};  ///< [H] float32: one more score in each softmax, of nothing; or undefined
};

/// Queries, keys and values [B, H, T, dh] of one type, of B windows; returns [B, H, T, dh] of that type.
/// Position i sees no key after it. Memory grows with T, not with T². A row's result does not depend on keys
/// it does not see, nor on other windows.
at::Tensor attend(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                  const AttentionRule& rule);

/// Windows of a batch, at the most: libtorch's kernel for adjoining ones takes no more than 65,535.
inline constexpr std::size_t kMaxWindows = 32768;

/// Windows of text one behind the other.
struct AdjoiningWindows {
  at::Tensor begins;         ///< [windows + 1] int32: where each begins, and where the last one ends
  std::int64_t longest = 0;  ///< rows
};

/// Whether `attend_adjoining` takes such queries: on a card, under a rule of nothing but a scale, where no
/// gradient is recorded.
bool attends_adjoining(const at::Tensor& queries, const AdjoiningWindows& windows, const AttentionRule& rule);
/// `attend` of windows of any lengths in one call, with nothing between them: queries, keys and values [T, H,
/// dh] of one type; returns [T, H, dh] of that type.
at::Tensor attend_adjoining(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                            const AdjoiningWindows& windows, const AttentionRule& rule);

}  // namespace depthlens::compute
