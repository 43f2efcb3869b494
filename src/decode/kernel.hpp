// The seam for decoding kernels: from normed states to the statistics of their distributions over the
// vocabulary, in one pass over the unembedding. Kernels differ in how they are computed and where, never in
// what is computed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "depthlens/decode/engine.hpp"
#include "depthlens/decode/readout.hpp"
#include "depthlens/model/arithmetic.hpp"
#include "depthlens/model/model.hpp"

namespace depthlens::decode {

/// S states at each of P positions. State 0 is the final layer, with which the others are compared.
struct KernelInput {
  at::Tensor rows;                 ///< [S · P, d] float32, after the final norm; row s · P + p
  std::int64_t num_states = 0;     ///< S
  std::int64_t num_positions = 0;  ///< P
  std::int64_t top_k = 0;          ///< K ≥ 1
  std::int64_t num_watched = 0;    ///< W ≥ 1
  /// [P, W] on the host; kNoToken where there is none. Entry 0 of each position is filled in by the kernel:
  /// the token with the greatest final logit, the lowest id among equals.
  std::vector<TokenId> watched;
  std::int64_t num_groups = 0;  ///< G
};

/// Per state and position, row-major [S, P, …], on the host.
struct KernelOutput {
  std::vector<TokenId> watched;             // [P, W], entry 0 filled in
  std::vector<TokenId> top_ids;             // [S, P, K]
  std::vector<double> top_logits;           // [S, P, K]
  std::vector<double> log_sum_exp;          // [S, P]
  std::vector<double> entropy;              // [S, P]
  std::vector<double> kl_final;             // [S, P]
  std::vector<double> kl_reverse;           // [S, P]
  std::vector<std::int64_t> watched_ranks;  // [S, P, W]
  std::vector<double> watched_logits;       // [S, P, W]
  std::vector<double> group_mass;           // [S, P, G]
};

/// Sums over positions of the probability of every token. A probability below e^kLowestLog, where float32
/// ends, is added up by its logarithm, so that none vanishes.
struct TokenSums {
  static constexpr float kLowestLog = -87.0F;
  at::Tensor sums;       ///< [S, V] float64
  at::Tensor log_small;  ///< [S, V] float64: log Σ of what is not in `sums`, −∞ where there is none

  TokenSums() = default;
  TokenSums(std::int64_t num_states, std::int64_t vocab_size);
};

/// Sets the rank of every watched token that is among the top K by its place there, and 0 where there is no
/// token. A kernel that counts against a logit from a product of its own calls this, so that a row's top-1
/// always has rank 1.
void rank_by_top_k(const KernelInput& input, KernelOutput& output);

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual std::string name() const = 0;
  virtual KernelOutput decode(const KernelInput& input) const = 0;
  /// Adds the probabilities of an input that `decode` turned into `output`. They come from the same products:
  /// those of a state and position add up to 1.
  virtual void add_probabilities(const KernelInput& input, const KernelOutput& output,
                                 TokenSums& sums) const = 0;
  /// Bytes of working memory a call takes with S · P rows of which P are final, beyond input and output.
  virtual std::uint64_t working_memory(std::int64_t num_states, std::int64_t num_positions) const = 0;
};

/// The fastest kernel for where the head's tensors are. `token_groups`: [V] or empty. `kFast` takes one
/// product of low precision where the processor has a fast one, and is exact elsewhere.
std::unique_ptr<Kernel> make_kernel(const model::OutputHead& head,
                                    const std::vector<std::uint8_t>& token_groups, std::int64_t num_groups,
                                    Precision precision);

/// The kernel of an arithmetic, for a head on the CPU.
std::unique_ptr<Kernel> make_kernel(const model::OutputHead& head,
                                    const std::vector<std::uint8_t>& token_groups, std::int64_t num_groups,
                                    const model::Arithmetic& arithmetic);

/// `arithmetic` must have products.
std::unique_ptr<Kernel> make_packed_kernel(const model::Arithmetic& arithmetic, const model::OutputHead& head,
                                           const std::vector<std::uint8_t>& token_groups,
                                           std::int64_t num_groups);
std::unique_ptr<Kernel> make_aten_kernel(const model::OutputHead& head,
                                         const std::vector<std::uint8_t>& token_groups,
                                         std::int64_t num_groups);

}  // namespace depthlens::decode
