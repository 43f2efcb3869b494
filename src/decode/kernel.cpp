// Which kernel serves a device and a processor.
#include "decode/kernel.hpp"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "depthlens/decode/row_statistics.hpp"
#include "depthlens/decode/runtime.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::decode {

std::string cpu_kernel_name(Precision precision) {
  return model::cpu_arithmetic(precision).name;
}

const RowStatistics& row_statistics(model::Vectors vectors) {
#ifdef DEPTHLENS_X86
  if (vectors == model::Vectors::kAvx512) return kAvx512Statistics;
  if (vectors == model::Vectors::kAvx2) return kAvx2Statistics;
#endif
  DEPTHLENS_ASSERT(vectors == model::Vectors::kPortable);
  return kPortableStatistics;
}

std::unique_ptr<Kernel> make_kernel(const model::OutputHead& head,
                                    const std::vector<std::uint8_t>& token_groups, std::int64_t num_groups,
                                    Precision precision) {
  if (!head.unembedding.device().is_cpu()) return make_aten_kernel(head, token_groups, num_groups);
  return make_kernel(head, token_groups, num_groups, model::cpu_arithmetic(precision));
}

std::unique_ptr<Kernel> make_kernel(const model::OutputHead& head,
                                    const std::vector<std::uint8_t>& token_groups, std::int64_t num_groups,
                                    const model::Arithmetic& arithmetic) {
  if (arithmetic.products == nullptr) return make_aten_kernel(head, token_groups, num_groups);
  return make_packed_kernel(arithmetic, head, token_groups, num_groups);
}

TokenSums::TokenSums(std::int64_t num_states, std::int64_t vocab_size)
    : sums(at::zeros({num_states, vocab_size}, at::kDouble)),
      log_small(at::full({num_states, vocab_size}, -std::numeric_limits<double>::infinity(), at::kDouble)) {}

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

}  // namespace depthlens::decode
