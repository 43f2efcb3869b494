// The log-sum-exp of a model's logits and its gradient, in one pass over the vocabulary: what lens training
// needs from the unembedding.
//
// With logits z_v = w_v · x + b_v, F(x) = log Σ_v e^(z_v) has the gradient μ(x) = Σ_v softmax(z)_v w_v, the
// expected row of the unembedding. A divergence between the distributions at x and y follows without a second
// pass and without keeping a logit: KL(y ‖ x) = F(x) − F(y) − μ(y) · (x − y), and its gradient in x is
// μ(x) − μ(y) (docs/methods.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

namespace depthlens::model {
struct OutputHead;
}

namespace depthlens::train {

/// R rows of states after the final norm, as the function sees them.
struct LogSumExpValues {
  at::Tensor value;     ///< [R] float64: F(x)
  at::Tensor gradient;  ///< [G, d] in the rows' dtype: μ(x), its terms multiplied by the token scale
  at::Tensor top;       ///< [R] int64: the token with the greatest logit, the lowest id among equals
};

class LogSumExp {
 public:
  virtual ~LogSumExp() = default;
  /// Of rows [R, d], with the gradient of the first G of them. A row's result depends neither on the other
  /// rows nor on the number of threads.
  virtual LogSumExpValues evaluate(const at::Tensor& rows, std::int64_t num_gradients) const = 0;
  LogSumExpValues operator()(const at::Tensor& rows) const { return evaluate(rows, rows.size(0)); }
  /// The type in which logits and gradient are multiplied: "float32", "bfloat16", or the rows' own.
  virtual std::string products() const = 0;
};

/// `kFastest`: bfloat16 with float32 sums where this processor multiplies it faster, else float32.
enum class Products { kFloat32, kFastest };

/// Where the head's tensors are. `head` must outlive the result. `token_scale` [V] multiplies each token's
/// term of the gradient (not of the value); undefined: all 1. Throws a usage error for bfloat16 on a
/// processor that cannot multiply it.
std::unique_ptr<LogSumExp> make_log_sum_exp(const model::OutputHead& head, Products products,
                                            const at::Tensor& token_scale);

/// With ATen operations, on any device and in the rows' own dtype: the reference for the others.
std::unique_ptr<LogSumExp> make_aten_log_sum_exp(const model::OutputHead& head,
                                                 const at::Tensor& token_scale);

}  // namespace depthlens::train
