// Which kernel serves a device and a processor.
#include "decode/kernel.hpp"

#include <cstdlib>
#include <functional>

#include "depthlens/decode/packed_panels.hpp"
#include "depthlens/decode/row_statistics.hpp"
#include "depthlens/decode/runtime.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::decode {
namespace {

enum class Products { kFloat32, kBfloat16, kAten };

/// A kernel by the name that DEPTHLENS_KERNEL gives it.
struct Choice {
  std::string name;
  bool usable;
  const RowStatistics* statistics;
  Products products;
};

/// The fastest first. To add a kernel: write its file under kernels/, add one line here.
std::vector<Choice> choices(Precision precision) {
#ifdef DEPTHLENS_X86
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return {
#ifdef DEPTHLENS_X86
      {"avx512-bf16", precision == Precision::kFast && avx512 && multiplies_bfloat16(), &kAvx512Statistics,
       Products::kBfloat16},
      {"avx512", avx512, &kAvx512Statistics, Products::kFloat32},
      {"avx2", avx2, &kAvx2Statistics, Products::kFloat32},
#endif
      {"portable", true, &kPortableStatistics, Products::kFloat32},
      {"aten", true, &kPortableStatistics, Products::kAten},
  };
}

Choice choose_for_cpu(Precision precision) {
  const char* wish = std::getenv("DEPTHLENS_KERNEL");
  std::vector<std::string> usable;
  for (const Choice& choice : choices(precision)) {
    if (!choice.usable) continue;
    if (wish == nullptr || choice.name == wish) return choice;
    usable.push_back(choice.name);
  }
  throw util::usage_error({.what = "no such kernel",
                           .where = "environment variable DEPTHLENS_KERNEL",
                           .expected = "one that this processor runs: " + util::join(usable, ", "),
                           .found = util::in_quotes(wish)});
}

}  // namespace

std::string cpu_kernel_name(Precision precision) {
  return choose_for_cpu(precision).name;
}

const RowStatistics& row_statistics() {
  return *choose_for_cpu(Precision::kExact).statistics;
}

std::unique_ptr<Kernel> make_kernel(const model::OutputHead& head,
                                    const std::vector<std::uint8_t>& token_groups, std::int64_t num_groups,
                                    Precision precision) {
  if (!head.unembedding.device().is_cpu()) return make_aten_kernel(head, token_groups, num_groups);
  const Choice choice = choose_for_cpu(precision);
  switch (choice.products) {
    case Products::kAten:
      return make_aten_kernel(head, token_groups, num_groups);
    case Products::kFloat32:
      return make_cpu_kernel(*choice.statistics, head, token_groups, num_groups);
    case Products::kBfloat16:
      return make_bfloat16_kernel(*choice.statistics, head, token_groups, num_groups);
  }
  DEPTHLENS_ASSERT(false);
  return nullptr;
}

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
