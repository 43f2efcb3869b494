// Which kernel serves a device.
#include "kernel.hpp"

namespace depthlens::decode {

void rank_by_top_k(const KernelInput& input, KernelOutput& output) {
  const std::int64_t S = input.num_states, P = input.num_positions, W = input.num_watched;
  const std::int64_t K = static_cast<std::int64_t>(output.top_ids.size()) / (S * P);
  for (std::int64_t row = 0; row < S * P; ++row) {
    const TokenId* ids = output.top_ids.data() + row * K;
    const double* logits = output.top_logits.data() + row * K;
    for (std::int64_t w = 0; w < W; ++w) {
      const TokenId token = output.watched[static_cast<std::size_t>(row % P * W + w)];
      std::int64_t& rank = output.watched_ranks[static_cast<std::size_t>(row * W + w)];
      if (token == kNoToken) rank = 0;
      for (std::int64_t k = 0; k < K; ++k) {
        if (ids[k] != token) continue;
        std::int64_t first_equal = k;
        while (first_equal > 0 && logits[first_equal - 1] == logits[k]) --first_equal;
        rank = first_equal + 1;
      }
    }
  }
}

std::unique_ptr<Kernel> make_kernel(const model::OutputHead& head,
                                    const std::vector<std::uint8_t>& token_groups, std::int64_t num_groups) {
  return make_aten_kernel(head, token_groups, num_groups);
}

}  // namespace depthlens::decode
