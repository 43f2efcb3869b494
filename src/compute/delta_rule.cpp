// The gated delta rule by chunks of positions: within one, what its positions write is the solution of a
// triangular system; from one to the next goes the state.
#include "depthlens/compute/delta_rule.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>

#include <limits>
#include <vector>

namespace depthlens::compute {
namespace {

/// What a chunk does to the state S [key_size, value_size], of N heads and all chunks, [chunks, N, …]: it
/// writes written − reads · S with its keys, and shows shown · S + seen · what it writes.
struct Chunks {
  at::Tensor written, reads, shown, seen, keys, decay;
};

/// The arguments are those of `gated_delta_rule`.
Chunks chunks_of(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                 const at::Tensor& updates, const at::Tensor& log_decays) {
  const std::int64_t chunk = values.size(-2);
  // Sums of logs can be large where what matters is their small differences; and no exponential here is of
  // more than 0.
  const at::Tensor sums = log_decays.squeeze(-1).to(at::kDouble).cumsum(-1);
  const at::Tensor later = at::ones({chunk, chunk}, values.options().dtype(at::kBool)).triu(1);
  const at::Tensor between = (sums.unsqueeze(-1) - sums.unsqueeze(-2))
                                 .to(at::kFloat)
                                 .masked_fill(later, -std::numeric_limits<double>::infinity())
                                 .exp();
  const at::Tensor from_start = sums.to(at::kFloat).exp().unsqueeze(-1);
  const at::Tensor last = sums.narrow(-1, chunk - 1, 1);
  const at::Tensor to_end = (last - sums).to(at::kFloat).exp().unsqueeze(-1);

  const at::Tensor turned = keys.transpose(-1, -2);
  const at::Tensor system = at::matmul(keys, turned) * between * updates;
  const at::Tensor sides = at::cat({values * updates, keys * (updates * from_start)}, -1);
  // Of the system the entries below the diagonal are read.
  const at::Tensor solved = at::linalg_solve_triangular(system, sides, /*upper=*/false, /*left=*/true,
                                                        /*unitriangular=*/true);
  const std::vector<at::Tensor> parts = solved.split_with_sizes({values.size(-1), keys.size(-1)}, -1);
  const auto by_head = [](const at::Tensor& x) { return x.flatten(1, 3); };
  return {.written = by_head(parts[0]),
          .reads = by_head(parts[1]),
          .shown = by_head(queries * from_start),
          .seen = by_head(at::matmul(queries, turned) * between),
          .keys = by_head(keys * to_end),
          .decay = by_head(last.to(at::kFloat).exp().unsqueeze(-1))};
}

/// Of each chunk what the state shows of it, [chunks, N, chunk, value_size].
at::Tensor run_through(const Chunks& chunks) {
  // Taken apart at once: the derivative of a view is as large as the whole.
  const auto written = chunks.written.unbind(), reads = chunks.reads.unbind(), shown = chunks.shown.unbind(),
             seen = chunks.seen.unbind(), keys = chunks.keys.unbind(), decay = chunks.decay.unbind();
  at::Tensor state;
  std::vector<at::Tensor> outputs;
  for (std::size_t c = 0; c < written.size(); ++c) {
    if (!state.defined()) {  // nothing has been written
      outputs.push_back(at::matmul(seen[c], written[c]));
      state = at::matmul(keys[c].transpose(-1, -2), written[c]);
      continue;
    }
    const at::Tensor writes = at::baddbmm(written[c], reads[c], state, /*beta=*/1, /*alpha=*/-1);
    outputs.push_back(at::baddbmm(at::matmul(shown[c], state), seen[c], writes));
    if (c + 1 < written.size()) state = at::baddbmm(state * decay[c], keys[c].transpose(-1, -2), writes);
  }
  return at::stack(outputs);
}

}  // namespace

at::Tensor gated_delta_rule(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                            const at::Tensor& updates, const at::Tensor& log_decays) {
  return run_through(chunks_of(queries, keys, values, updates, log_decays));
}

}  // namespace depthlens::compute
