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
#include <limits>

#include "decode/kernel.hpp"
#include "depthlens/decode/row_statistics.hpp"
#include "depthlens/model/linear.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::decode {
namespace {

constexpr std::int64_t kTile = 1024;  // tokens; a row of it fits the first-level cache thrice
static_assert(kTile <= kLongestTile);

/// What is known of one row after some tiles.
struct RowState {
  float m = -std::numeric_limits<float>::infinity();
  double sum = 0, weighted = 0, cross = 0, reverse = 0;  // S, A, C, D
};

/// The K best of a row in order: falling logit, rising id among equals. Tokens must come in rising order.
class BestTokens {
 public:
  BestTokens(double* logits, TokenId* ids, std::int64_t k) : logits_(logits), ids_(ids), k_(k) {}

  void add_tile(const float* tile, const float* block_max, int width, TokenId first, std::int64_t& found) {
    for (int block = 0; block * kBlock < width; ++block) {
      if (found == k_ && !(block_max[block] > logits_[k_ - 1])) continue;
      const int end = std::min(width, (block + 1) * kBlock);
      for (int i = block * kBlock; i < end; ++i) add(tile[i], first + i, found);
    }
  }

 private:
  void add(double logit, TokenId id, std::int64_t& found) {
    if (found == k_ && !(logit > logits_[k_ - 1])) return;
    std::int64_t place = found < k_ ? found++ : k_ - 1;
    for (; place > 0 && logit > logits_[place - 1]; --place) {
      logits_[place] = logits_[place - 1];
      ids_[place] = ids_[place - 1];
    }
    logits_[place] = logit;
    ids_[place] = id;
  }

  double* logits_;
  TokenId* ids_;
  std::int64_t k_;
};

class CpuKernel : public Kernel {
 public:
  CpuKernel(const RowStatistics& statistics, const model::OutputHead& head,
            const std::vector<std::uint8_t>& token_groups, std::int64_t num_groups)
      : statistics_(statistics), head_(head), num_groups_(num_groups) {
    if (num_groups == 0) return;
    DEPTHLENS_ASSERT(static_cast<std::int64_t>(token_groups.size()) == head.unembedding.size(0));
    // The mass of the largest group is what the others leave: only their few tokens are looked at.
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(num_groups));
    for (const std::uint8_t group : token_groups) ++sizes.at(group);
    largest_group_ = std::max_element(sizes.begin(), sizes.end()) - sizes.begin();
    for (std::size_t v = 0; v < token_groups.size(); ++v) {
      if (token_groups[v] != largest_group_) grouped_.push_back({static_cast<TokenId>(v), token_groups[v]});
    }
  }

  std::string name() const override { return statistics_.name; }

  std::uint64_t working_memory(std::int64_t num_states, std::int64_t num_positions) const override {
    const std::int64_t tile = std::min(kTile, head_.unembedding.size(0));
    return sizeof(float) * static_cast<std::uint64_t>(num_positions * head_.unembedding.size(0) +
                                                      2 * num_states * num_positions * tile);
  }

  KernelOutput decode(const KernelInput& input) const override;

 private:
  struct GroupedToken {
    TokenId id;
    std::uint8_t group;
  };

  /// Logits [rows, width] of tokens first … first + width − 1.
  at::Tensor logits(const at::Tensor& rows, std::int64_t first, std::int64_t width) const {
    return model::linear(rows, head_.unembedding.narrow(0, first, width).to(at::kFloat),
                         head_.bias.defined() ? head_.bias.narrow(0, first, width) : at::Tensor())
        .contiguous();
  }

  const RowStatistics& statistics_;
  const model::OutputHead& head_;
  std::int64_t num_groups_;
  std::int64_t largest_group_ = 0;
  std::vector<GroupedToken> grouped_;  // by id; without the largest group
};

KernelOutput CpuKernel::decode(const KernelInput& input) const {
  const std::int64_t S = input.num_states, P = input.num_positions, K = input.top_k, W = input.num_watched;
  const std::int64_t R = S * P, V = head_.unembedding.size(0), G = num_groups_;
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

  auto next_grouped = grouped_.begin();
  for (std::int64_t first = 0; first < V; first += kTile) {
    const std::int64_t width = std::min(kTile, V - first);
    const at::Tensor other_logits = R > P ? logits(other_rows, first, width) : at::Tensor();
    const float* other_data = R > P ? other_logits.const_data_ptr<float>() : nullptr;
    const auto grouped_end = std::find_if(
        next_grouped, grouped_.end(), [&](const GroupedToken& token) { return token.id >= first + width; });
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
            if (first > 0) {
              const double shift = static_cast<double>(state.m) - tile_max;
              const double scale = std::exp(shift);
              state.weighted = scale * (state.weighted + shift * state.sum);
              state.sum *= scale;
              state.cross += shift * final_sum_before;
              state.reverse *= scale;
              for (std::int64_t g = 0; g < G; ++g) out.group_mass[sized(row * G + g)] *= scale;
            }
            state.m = tile_max;
          }
          const TileSums sums =
              statistics_.sums(tile, n, state.m, final_shifted, final_exponentials, exponentials);
          state.sum += s == 0 ? final_sum : sums.sum;
          state.weighted += sums.weighted;
          state.cross += sums.cross;
          state.reverse += sums.reverse;
          for (auto token = next_grouped; token != grouped_end; ++token) {
            out.group_mass[sized(row * G + token->group)] += exponentials[token->id - first];
          }

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
    next_grouped = grouped_end;
  }

  for (std::int64_t row = 0; row < R; ++row) {
    const RowState& state = states[sized(row)];
    const RowState& final_state = states[sized(row % P)];
    const double log_sum = std::log(state.sum), final_log_sum = std::log(final_state.sum);
    const double mean_logprob = state.weighted / state.sum - log_sum;  // Σ p log p
    const double final_mean_logprob = final_state.weighted / final_state.sum - final_log_sum;
    out.log_sum_exp.push_back(static_cast<double>(state.m) + log_sum);
    out.entropy.push_back(-mean_logprob);
    out.kl_final.push_back(final_mean_logprob - (state.cross / final_state.sum - log_sum));
    out.kl_reverse.push_back(mean_logprob - (state.reverse / state.sum - final_log_sum));
    if (G == 0) continue;
    double others = 0;
    for (std::int64_t g = 0; g < G; ++g) {
      double& mass = out.group_mass[sized(row * G + g)];
      mass /= state.sum;
      if (g != largest_group_) others += mass;
    }
    out.group_mass[sized(row * G + largest_group_)] = std::max(0.0, 1 - others);
  }
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
