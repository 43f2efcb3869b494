// States that fade and are written to, by chunks of positions.
#include "compute/state_chunks.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>

#include <limits>
#include <vector>

namespace depthlens::compute {

Decays decays_of(const at::Tensor& log_decays) {
  const std::int64_t chunk = log_decays.size(-2);
  // Sums of logs can be large where what matters is their small differences; and no exponential here is of
  // more than 0.
  const at::Tensor sums = log_decays.squeeze(-1).to(at::kDouble).cumsum(-1);
  const at::Tensor later = at::ones({chunk, chunk}, log_decays.options().dtype(at::kBool)).triu(1);
  const at::Tensor last = sums.narrow(-1, chunk - 1, 1);
  return {.between = (sums.unsqueeze(-1) - sums.unsqueeze(-2))
                         .to(at::kFloat)
                         .masked_fill(later, -std::numeric_limits<double>::infinity())
                         .exp(),
          .from_start = sums.to(at::kFloat).exp().unsqueeze(-1),
          .to_end = (last - sums).to(at::kFloat).exp().unsqueeze(-1),
          .of_chunk = last.to(at::kFloat).exp().unsqueeze(-1)};
}

at::Tensor run_through(const StateChunks& chunks) {
  // Taken apart at once: the derivative of a view is as large as the whole.
  const auto written = chunks.written.unbind(), shown = chunks.shown.unbind(), seen = chunks.seen.unbind(),
             keys = chunks.keys.unbind(), decay = chunks.decay.unbind();
  const auto reads = chunks.reads.defined() ? chunks.reads.unbind() : std::vector<at::Tensor>();
  at::Tensor state;
  std::vector<at::Tensor> outputs;
  for (std::size_t c = 0; c < written.size(); ++c) {
    const at::Tensor turned = keys[c].transpose(-1, -2);
    if (!state.defined()) {  // nothing has been written
      outputs.push_back(at::matmul(seen[c], written[c]));
      state = at::matmul(turned, written[c]);
      continue;
    }
    const at::Tensor writes =
        reads.empty() ? written[c] : at::baddbmm(written[c], reads[c], state, /*beta=*/1, /*alpha=*/-1);
    outputs.push_back(at::baddbmm(at::matmul(shown[c], state), seen[c], writes));
    if (c + 1 < written.size()) state = at::baddbmm(state * decay[c], turned, writes);
  }
  return at::stack(outputs);
}

}  // namespace depthlens::compute
