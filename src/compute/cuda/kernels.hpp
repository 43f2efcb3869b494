// The kernels of our own for one card: compiled when first asked for, and launched on libtorch's default
// stream.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "compute/cuda/nvrtc.hpp"

namespace depthlens::compute::cuda {

/// What is kept of a row while tiles go by; as in reduce_tile.cu.
struct KeptRow {
  double m, sum, weighted, cross, reverse, final_sum;
};

/// A launch of the reduction: the `TileWork` of reduce_tile.cu, where the members are explained.
struct ReduceWork {
  const float* products = nullptr;
  long long stride = 0;
  int num_states = 0, num_positions = 0, first = 0, width = 0;
  const float* final_logits = nullptr;
  long long final_stride = 0;
  const float* final_max = nullptr;
  const float* bias = nullptr;
  float scale = 1, cap = 0;
  int num_best = 0;
  int num_groups = 0;
  KeptRow* states = nullptr;
  float* best_logits = nullptr;
  int* best_ids = nullptr;
  int* num_found = nullptr;
  const int* watched = nullptr;
  float* watched_logits = nullptr;
  int* num_greater = nullptr;
  const int* group_begin = nullptr;
  const int* group_tokens = nullptr;
  double* group_mass = nullptr;
};
/// Of rows that no tile has reached yet: KeptRow::m.
constexpr double kNoLogit = -1e30;

/// Of the reduction.
struct ReduceVariant {
  /// Of products with their bias, as DEPTHLENS_TRANSFORM of reduce_tile.cu counts them.
  enum class Transform { kNone = 0, kScale = 1, kSoftCap = 2 };

  int states = 4;     ///< of a block
  int watched = 2;    ///< tokens of a position
  bool bias = false;  ///< whether products take one
  Transform transform = Transform::kNone;

  static constexpr int kMaxBest = 32;     ///< K that it takes
  static constexpr int kMaxWatched = 32;  ///< W that it takes
  /// The one for so many watched tokens that takes logits; none where they are too many.
  static std::optional<ReduceVariant> for_watched(std::int64_t watched);
  auto operator<=>(const ReduceVariant& other) const = default;
};

/// A launch of the softmax: that of soften_tile.cu, where the members are explained.
struct SoftenWork {
  const float* logits = nullptr;
  long long stride = 0;
  int num_rows = 0, num_gradients = 0, first = 0, width = 0;
  const float* token_scale = nullptr;
  float scale = 1, by_cap = 0;
  int num_terms = 0;
  float* m = nullptr;
  double* sum = nullptr;
  long long* top = nullptr;
  unsigned short* coefficients = nullptr;
  long long coefficient_stride = 0;
  float* expected = nullptr;
  int num_expected = 0;
};

/// What NVRTC is given, for a card of that capability.
Source reduce_source(const ReduceVariant& variant, std::array<int, 2> capability);
Source soften_source(std::array<int, 2> capability);
Source split_source(std::array<int, 2> capability);

class Kernels {
 public:
  virtual ~Kernels() = default;
  /// Whether the reduction can be launched; if not, says why in the log, once for all kernels.
  virtual bool has_reduction(const ReduceVariant& variant) = 0;
  virtual void reduce(const ReduceVariant& variant, const ReduceWork& work) = 0;
  /// The same of the softmax.
  virtual bool has_softening() = 0;
  virtual void soften(const SoftenWork& work) = 0;
  /// x of any floating type as `count` terms, [count, …] in bfloat16 (split_terms.hpp).
  virtual at::Tensor split(const at::Tensor& x, std::int64_t count) = 0;
  /// out = a · b, or with `add` out += a · b, of bfloat16 matrices with float32 sums.
  virtual void multiply(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add) = 0;
};

/// The one of this card: kernels are compiled when first asked for, and stay loaded while the process lives.
/// All goes into libtorch's default stream.
std::shared_ptr<Kernels> make_card_kernels(const Card& card, const std::filesystem::path& cache = {});

}  // namespace depthlens::compute::cuda
