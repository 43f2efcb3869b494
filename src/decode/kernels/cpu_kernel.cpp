// The kernel for processors: products of a tile by libtorch, its statistics in two passes while it is in the
// cache.
//
// With m a row's reference (the greatest logit so far), and per row: S = Σ e^(z − m), A = Σ e^(z − m) (z −
// m). Against the final layer f, whose maximum is known before: C = Σ e^(z_f − m_f) (z − m) and D = Σ e^(z −
// m) (z_f − m_f). When m grows, S, A and D are scaled and C shifted. From these follow (docs/methods.md):
// log-sum-exp, entropy, both divergences. Sums within a tile are float32, over tiles float64. Every row is
// computed by itself, so that it has the same bits whatever stands beside it and however many threads there
// are.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>

#include <algorithm>
#include <cmath>

#include "decode/kernel.hpp"
#include "depthlens/decode/row_statistics.hpp"
#include "depthlens/model/linear.hpp"
#include "depthlens/util/error.hpp"
#include "row_state.hpp"

namespace depthlens::decode {
namespace {

constexpr std::int64_t kTile = 1024;  // tokens; a row of it fits the first-level cache thrice
static_assert(kTile <= kLongestTile);

class CpuKernel : public Kernel {
 public:
  CpuKernel(const RowStatistics& statistics, const model::OutputHead& head,
            const std::vector<std::uint8_t>& token_groups, std::int64_t num_groups)
      : statistics_(statistics), head_(head), groups_(token_groups, num_groups) {
    DEPTHLENS_ASSERT(num_groups == 0 ||
                     static_cast<std::int64_t>(token_groups.size()) == head.unembedding.size(0));
  }

  std::string name() const override { return statistics_.name; }

  std::uint64_t working_memory(std::int64_t num_states, std::int64_t num_positions) const override {
    const std::int64_t tile = std::min(kTile, head_.unembedding.size(0));
    return sizeof(float) * static_cast<std::uint64_t>(num_positions * head_.unembedding.size(0) +
                                                      2 * num_states * num_positions * tile);
  }

  KernelOutput decode(const KernelInput& input) const override;

 private:
  /// Logits [rows, width] of tokens first … first + width − 1.
  at::Tensor logits(const at::Tensor& rows, std::int64_t first, std::int64_t width) const {
    return model::linear(rows, head_.unembedding.narrow(0, first, width).to(at::kFloat),
                         head_.bias.defined() ? head_.bias.narrow(0, first, width) : at::Tensor())
        .contiguous();
  }

  const RowStatistics& statistics_;
  const model::OutputHead& head_;
  TokenGroups groups_;
};

KernelOutput CpuKernel::decode(const KernelInput& input) const {
  const std::int64_t S = input.num_states, P = input.num_positions, K = input.top_k, W = input.num_watched;
  const std::int64_t R = S * P, V = head_.unembedding.size(0), G = groups_.count();
  DEPTHLENS_ASSERT(input.rows.size(0) == R && static_cast<std::int64_t>(input.watched.size()) == P * W);
  const auto sized = [](std::int64_t size) { return static_cast<std::size_t>(size); };

  // The final layer first: its top-1 is watched at every other layer, and its maximum is the reference of C
  // and D.
  const at::Tensor final_rows = input.rows.narrow(0, 0, P);
  const at::Tensor other_rows = input.rows.narrow(0, P, R - P);
  const at::Tensor final_logits = at::empty({P, V}, final_rows.options());
  for (std::int64_t first = 0; first < V; first += kTile) {
    const std::int64_t width = std::min(kTile, V - first);
    final_logits.narrow(1, first, width).copy_(logits(final_rows, first, width));
  }
  const float* final_data = final_logits.const_data_ptr<float>();

  KernelOutput out;
  out.watched = input.watched;
  std::vector<RowState> states(sized(R));
  for (std::int64_t p = 0; p < P; ++p) {
    const float* row = final_data + p * V;
    const float* best = std::max_element(row, row + V);  // the first of equals
    out.watched[sized(p * W)] = static_cast<TokenId>(best - row);
    states[sized(p)].m = *best;  // with the maximum from the start, the divergence from itself is exactly 0
  }

  // The watched tokens' logits, by the same product: the same bits as in the tile that holds them, so that a
  // token is not counted against itself.
  std::vector<std::int64_t> columns;
  for (const TokenId id : out.watched) columns.push_back(std::max<TokenId>(id, 0));
  const at::Tensor chosen = at::from_blob(columns.data(), {P * W}, at::kLong);
  const at::Tensor watched_products =
      model::linear(input.rows, head_.unembedding.index_select(0, chosen).to(at::kFloat),
                    head_.bias.defined() ? head_.bias.index_select(0, chosen) : at::Tensor())
          .contiguous();  // [R, P · W]
  std::vector<float> bars(sized(R * W));
  out.watched_logits.resize(sized(R * W));
  for (std::int64_t row = 0; row < R; ++row) {
    const float* products = watched_products.const_data_ptr<float>() + row * P * W + row % P * W;
    for (std::int64_t w = 0; w < W; ++w) {
      bars[sized(row * W + w)] = products[w];
      out.watched_logits[sized(row * W + w)] = products[w];
    }
  }

  out.watched_ranks.assign(sized(R * W), 1);
  out.top_ids.resize(sized(R * K));
  out.top_logits.resize(sized(R * K));
  out.group_mass.assign(sized(R * G), 0);
  std::vector<std::int64_t> num_best(sized(R), 0);

  for (std::int64_t first = 0; first < V; first += kTile) {
    const std::int64_t width = std::min(kTile, V - first);
    const at::Tensor other_logits = R > P ? logits(other_rows, first, width) : at::Tensor();
    const float* other_data = R > P ? other_logits.const_data_ptr<float>() : nullptr;
    const auto n = static_cast<int>(width);

    at::parallel_for(0, P, 1, [&](std::int64_t begin, std::int64_t end) {
      alignas(64) float final_shifted[kTile], final_exponentials[kTile], exponentials[kTile],
          block_max[kTile / kBlock];
      for (std::int64_t p = begin; p < end; ++p) {
        const float* final_tile = final_data + p * V + first;
        const double final_sum =
            statistics_.shift_and_exp(final_tile, n, states[sized(p)].m, final_shifted, final_exponentials);
        const double final_sum_before = states[sized(p)].sum;  // state 0 comes first and adds to it below
        for (std::int64_t s = 0; s < S; ++s) {
          const std::int64_t row = s * P + p;
          const float* tile = s == 0 ? final_tile : other_data + (row - P) * width;
          RowState& state = states[sized(row)];
          const float tile_max = statistics_.max(tile, n, block_max);
          BestTokens(out.top_logits.data() + row * K, out.top_ids.data() + row * K, K)
              .add_tile(tile, block_max, n, static_cast<TokenId>(first), num_best[sized(row)]);

          if (tile_max > state.m) {
            const double scale = state.raise(tile_max, final_sum_before);
            for (std::int64_t g = 0; g < G; ++g) out.group_mass[sized(row * G + g)] *= scale;
          }
          const TileSums sums =
              statistics_.sums(tile, n, state.m, final_shifted, final_exponentials, exponentials);
          state.sum += s == 0 ? final_sum : sums.sum;
          state.weighted += sums.weighted;
          state.cross += sums.cross;
          state.reverse += sums.reverse;
          groups_.add(exponentials, first, width, out.group_mass.data() + row * G);

          for (std::int64_t w = 0; w < W; ++w) {
            const TokenId id = out.watched[sized(p * W + w)];
            if (id == kNoToken) continue;
            const float bar = bars[sized(row * W + w)];
            std::int64_t& rank = out.watched_ranks[sized(row * W + w)];
            rank += statistics_.count_greater(tile, n, bar);
            if (id < first || id >= first + width) continue;
            const float own = tile[id - first];
            if (own > bar) --rank;  // another library's products may differ in the last bit
            out.watched_logits[sized(row * W + w)] = own;
          }
        }
      }
    });
  }

  finish(states, P, groups_, out);
  rank_by_top_k(input, out);
  return out;
}

}  // namespace

std::unique_ptr<Kernel> make_cpu_kernel(const RowStatistics& statistics, const model::OutputHead& head,
                                        const std::vector<std::uint8_t>& token_groups,
                                        std::int64_t num_groups) {
  return std::make_unique<CpuKernel>(statistics, head, token_groups, num_groups);
}

}  // namespace depthlens::decode
