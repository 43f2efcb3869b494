// The kernel on libtorch's small products: a tile of logits is made and read while it is in the cache, for
// all layers against one tile of packed weights. Nothing of the size of the vocabulary is written but the
// final layer's logits.
//
// The vocabulary is cut into slices, which threads take as they become free; each slice keeps sums of its
// own, and these are put together in the order of the slices. So results depend neither on the number of
// threads nor on what else is in the chunk.
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "decode/kernel.hpp"
#include "depthlens/decode/packed_panels.hpp"
#include "depthlens/decode/row_statistics.hpp"
#include "depthlens/util/error.hpp"
#include "row_state.hpp"

namespace depthlens::decode {
namespace {

constexpr std::int64_t kTile = 256;          // tokens; their packed weights fit the second-level cache
constexpr std::int64_t kSlice = 16 * kTile;  // tokens
static_assert(kTile <= kLongestTile && kTile % kPanel == 0);

std::size_t sized(std::int64_t size) {
  return static_cast<std::size_t>(size);
}

/// Calls use(i) for 0 ≤ i < count, on all threads, each taking the next i as it becomes free.
template <typename Use>
void for_each_free(std::int64_t count, const Use& use) {
  std::atomic<std::int64_t> next = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t thread = begin; thread < end; ++thread) {
      for (std::int64_t i = next++; i < count; i = next++) use(i);
    }
  });
}

/// What one slice of the vocabulary adds to each row.
struct SliceSums {
  std::vector<RowState> rows;          // [R]
  std::vector<double> top_logits;      // [R, K]
  std::vector<TokenId> top_ids;        // [R, K]
  std::vector<std::int64_t> num_best;  // [R]
  std::vector<std::int64_t> greater;   // [R, W]
  std::vector<double> mass;            // [R, G], relative to the row's m
};

class Bfloat16Kernel : public Kernel {
 public:
  Bfloat16Kernel(const RowStatistics& statistics, const model::OutputHead& head,
                 const std::vector<std::uint8_t>& token_groups, std::int64_t num_groups)
      : statistics_(statistics),
        head_(head),
        groups_(token_groups, num_groups),
        d_(head.unembedding.size(1)),
        vocab_size_(head.unembedding.size(0)),
        stride_(rounded_up(d_, 2)),
        panel_size_(kPanel * stride_) {
    DEPTHLENS_ASSERT(head.unembedding.is_contiguous());
    const std::int64_t panels = rounded_up(vocab_size_, kPanel) / kPanel;
    packed_ = at::empty({panels, panel_size_}, at::kBFloat16);
    at::BFloat16* data = packed_.mutable_data_ptr<at::BFloat16>();
    at::parallel_for(0, panels, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) pack_tokens(data + i * panel_size_, i * kPanel);
    });
  }

  std::string name() const override { return std::string(statistics_.name) + "-bf16"; }

  std::uint64_t working_memory(std::int64_t num_states, std::int64_t num_positions) const override {
    const auto rows = static_cast<std::uint64_t>(num_states * rounded_up(num_positions, kRowsAtOnce));
    const auto slices = static_cast<std::uint64_t>((vocab_size_ + kSlice - 1) / kSlice);
    return 4 * static_cast<std::uint64_t>(rounded_up(num_positions, kRowsAtOnce) * vocab_size_) +
           rows * (slices * 512 + 4 * static_cast<std::uint64_t>(d_));
  }

  KernelOutput decode(const KernelInput& input) const override;

 private:
  /// A chunk's states as operands: [S, Pp, padded d], with Pp the positions rounded up to whole blocks.
  struct Operands {
    std::int64_t states, positions, padded_positions, stride;
    std::vector<at::BFloat16> rows;
    const at::BFloat16* block(std::int64_t state, std::int64_t first_position) const {
      return rows.data() + (state * padded_positions + first_position) * stride;
    }
  };

  Operands operands_of(const KernelInput& input) const {
    Operands out{.states = input.num_states,
                 .positions = input.num_positions,
                 .padded_positions = rounded_up(input.num_positions, kRowsAtOnce),
                 .stride = stride_,
                 .rows = {}};
    out.rows.resize(sized(out.states * out.padded_positions * out.stride));
    const at::Tensor rows = input.rows.contiguous();
    const float* values = rows.const_data_ptr<float>();
    at::parallel_for(0, out.states * out.positions, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t state = row / out.positions, position = row % out.positions;
        at::BFloat16* to = out.rows.data() + (state * out.padded_positions + position) * out.stride;
        for (std::int64_t k = 0; k < d_; ++k) to[k] = static_cast<at::BFloat16>(values[row * d_ + k]);
      }
    });
    return out;
  }

  /// The panel of tokens first … first + kPanel − 1; beyond the vocabulary zeros.
  void pack_tokens(at::BFloat16* panel, std::int64_t first) const {
    pack_columns(panel, [&](std::int64_t n) { return first + n < vocab_size_ ? first + n : -1; });
  }

  /// Column n of the panel is token_of(n), or zeros where that is negative.
  template <typename TokenOf>
  void pack_columns(at::BFloat16* panel, const TokenOf& token_of) const {
    const auto pack = [&](const auto* weights) {
      std::fill(panel, panel + panel_size_, at::BFloat16(0.0F));
      // A few dimensions at a time: their lines of the panel stay in the first-level cache for all tokens.
      constexpr std::int64_t kDimensions = 16;
      for (std::int64_t first = 0; first < d_; first += kDimensions) {
        const std::int64_t end = std::min(first + kDimensions, d_);
        for (std::int64_t n = 0; n < kPanel; ++n) {
          const std::int64_t token = token_of(n);
          if (token < 0) continue;
          for (std::int64_t k = first; k < end; ++k) {
            panel[(k / 2 * kPanel + n) * 2 + k % 2] =
                static_cast<at::BFloat16>(static_cast<float>(weights[token * d_ + k]));
          }
        }
      }
    };
    switch (head_.unembedding.scalar_type()) {
      case at::kFloat:
        return pack(head_.unembedding.const_data_ptr<float>());
      case at::kBFloat16:
        return pack(head_.unembedding.const_data_ptr<at::BFloat16>());
      case at::kHalf:
        return pack(head_.unembedding.const_data_ptr<at::Half>());
      default:
        DEPTHLENS_ASSERT(false);
    }
  }

  const at::BFloat16* panels_from(std::int64_t first_token) const {
    return packed_.const_data_ptr<at::BFloat16>() + first_token / kPanel * panel_size_;
  }

  /// logits[i · stride + n] of kRowsAtOnce rows and `width` tokens, without the bias. Writes whole panels.
  void multiply(const at::BFloat16* rows, std::int64_t row_stride, const at::BFloat16* panels,
                std::int64_t width, float* logits, std::int64_t stride) const {
    for (std::int64_t n = 0; n < width; n += kPanel) {
      at::native::cpublas::brgemm(kRowsAtOnce, kPanel, row_stride, row_stride, kPanel, stride,
                                  /*add_C=*/false, rows, panels + n / kPanel * panel_size_, logits + n,
                                  /*is_vnni=*/true);
    }
  }

  void add_bias(float* logits, std::int64_t first, std::int64_t width) const {
    if (!head_.bias.defined()) return;
    const float* bias = head_.bias.const_data_ptr<float>() + first;
    for (std::int64_t v = 0; v < width; ++v) logits[v] += bias[v];
  }

  std::vector<float> final_logits(const Operands& operands, std::int64_t stride) const;
  std::vector<float> watched_logits(const Operands& operands, const std::vector<TokenId>& watched,
                                    std::int64_t W) const;

  const RowStatistics& statistics_;
  const model::OutputHead& head_;
  TokenGroups groups_;
  std::int64_t d_;
  std::int64_t vocab_size_;
  std::int64_t stride_;      // of a row of operands
  std::int64_t panel_size_;  // elements
  at::Tensor packed_;        // [panels, panel_size], bfloat16
};

/// [Pp, stride]
std::vector<float> Bfloat16Kernel::final_logits(const Operands& operands, std::int64_t stride) const {
  std::vector<float> logits(sized(operands.padded_positions * stride));
  for_each_free((vocab_size_ + kTile - 1) / kTile, [&](std::int64_t tile) {
    const std::int64_t first = tile * kTile, width = std::min(kTile, vocab_size_ - first);
    const at::BFloat16* panels = panels_from(first);
    for (std::int64_t p = 0; p < operands.padded_positions; p += kRowsAtOnce) {
      float* block = logits.data() + p * stride + first;
      multiply(operands.block(0, p), operands.stride, panels, width, block, stride);
      for (std::int64_t i = 0; i < kRowsAtOnce; ++i) add_bias(block + i * stride, first, width);
    }
    at::native::cpublas::brgemm_release(/*is_vnni=*/true);
  });
  return logits;
}

/// [R, W] from the same products as in a tile, so that they have the same bits. R = S · P.
std::vector<float> Bfloat16Kernel::watched_logits(const Operands& operands,
                                                  const std::vector<TokenId>& watched, std::int64_t W) const {
  const std::int64_t P = operands.positions, columns = kRowsAtOnce * W, stride = rounded_up(columns, kPanel);
  std::vector<float> all(sized(operands.states * P * W));
  for_each_free(operands.padded_positions / kRowsAtOnce, [&](std::int64_t block) {
    const std::int64_t first = block * kRowsAtOnce;
    std::vector<at::BFloat16> panels(sized(stride / kPanel * panel_size_));
    for (std::int64_t n = 0; n < stride; n += kPanel) {
      pack_columns(panels.data() + n / kPanel * panel_size_, [&](std::int64_t column) {
        const std::int64_t index = first * W + n + column;
        const bool present = n + column < columns && index < P * W;
        return present ? static_cast<std::int64_t>(std::max<TokenId>(0, watched[sized(index)])) : -1;
      });
    }
    std::vector<float> logits(sized(kRowsAtOnce * stride));
    for (std::int64_t s = 0; s < operands.states; ++s) {
      multiply(operands.block(s, first), operands.stride, panels.data(), stride, logits.data(), stride);
      for (std::int64_t i = 0; i < std::min(kRowsAtOnce, P - first); ++i) {
        for (std::int64_t w = 0; w < W; ++w) {
          const TokenId token = std::max<TokenId>(0, watched[sized((first + i) * W + w)]);
          float logit = logits[sized(i * stride + i * W + w)];
          if (head_.bias.defined()) logit += head_.bias.const_data_ptr<float>()[token];
          all[sized((s * P + first + i) * W + w)] = logit;
        }
      }
    }
    at::native::cpublas::brgemm_release(/*is_vnni=*/true);
  });
  return all;
}

KernelOutput Bfloat16Kernel::decode(const KernelInput& input) const {
  const std::int64_t S = input.num_states, P = input.num_positions, K = input.top_k, W = input.num_watched;
  const std::int64_t R = S * P, V = vocab_size_, G = groups_.count();
  DEPTHLENS_ASSERT(input.rows.size(0) == R && static_cast<std::int64_t>(input.watched.size()) == P * W);

  const Operands operands = operands_of(input);
  // The final layer first: its top-1 is watched at every other layer, and its maximum is the reference of C
  // and D.
  const std::int64_t final_stride = rounded_up(V, kPanel);
  const std::vector<float> final_rows = final_logits(operands, final_stride);
  KernelOutput out;
  out.watched = input.watched;
  std::vector<float> final_max(sized(P));
  for (std::int64_t p = 0; p < P; ++p) {
    const float* row = final_rows.data() + p * final_stride;
    const float* best = std::max_element(row, row + V);  // the first of equals
    out.watched[sized(p * W)] = static_cast<TokenId>(best - row);
    final_max[sized(p)] = *best;
  }
  const std::vector<float> bars = watched_logits(operands, out.watched, W);

  // Where very many best tokens are kept, fewer and longer slices bound the memory.
  constexpr std::int64_t kMostKept = 4 << 20;
  std::int64_t slice = kSlice;
  while (slice < V && (V + slice - 1) / slice * R * K > kMostKept) slice *= 2;
  std::vector<SliceSums> slices(sized((V + slice - 1) / slice));
  for_each_free(static_cast<std::int64_t>(slices.size()), [&](std::int64_t index) {
    SliceSums& sums = slices[sized(index)];
    sums.rows.resize(sized(R));
    sums.top_logits.resize(sized(R * K));
    sums.top_ids.resize(sized(R * K));
    sums.num_best.resize(sized(R));
    sums.greater.resize(sized(R * W));
    sums.mass.resize(sized(R * G));
    for (std::int64_t p = 0; p < P; ++p) sums.rows[sized(p)].m = final_max[sized(p)];
    std::vector<float> logits(sized(kRowsAtOnce * kTile)), shifted(logits.size()),
        final_exponentials(logits.size());
    float exponentials[kTile], block_max[kTile / kBlock];
    double final_sums[kRowsAtOnce];

    for (std::int64_t first = index * slice; first < std::min(V, (index + 1) * slice); first += kTile) {
      const std::int64_t width = std::min(kTile, V - first);
      const auto n = static_cast<int>(width);
      const at::BFloat16* panels = panels_from(first);
      for (std::int64_t begin = 0; begin < P; begin += kRowsAtOnce) {
        const std::int64_t count = std::min(kRowsAtOnce, P - begin);
        for (std::int64_t i = 0; i < count; ++i) {
          final_sums[i] = statistics_.shift_and_exp(final_rows.data() + (begin + i) * final_stride + first, n,
                                                    final_max[sized(begin + i)], shifted.data() + i * kTile,
                                                    final_exponentials.data() + i * kTile);
        }
        // The final layer's own sums grow last: the others need what it had before this tile.
        for (std::int64_t s = S - 1; s >= 0; --s) {
          if (s > 0) multiply(operands.block(s, begin), operands.stride, panels, width, logits.data(), kTile);
          for (std::int64_t i = 0; i < count; ++i) {
            const std::int64_t p = begin + i, row = s * P + p;
            float* own = logits.data() + i * kTile;
            if (s > 0) add_bias(own, first, width);
            const float* tile = s > 0 ? own : final_rows.data() + p * final_stride + first;
            RowState& state = sums.rows[sized(row)];
            const float tile_max = statistics_.max(tile, n, block_max);
            BestTokens(sums.top_logits.data() + row * K, sums.top_ids.data() + row * K, K)
                .add_tile(tile, block_max, n, static_cast<TokenId>(first), sums.num_best[sized(row)]);
            if (tile_max > state.m) {
              const double scale = state.raise(tile_max, sums.rows[sized(p)].sum);
              for (std::int64_t g = 0; g < G; ++g) sums.mass[sized(row * G + g)] *= scale;
            }
            const TileSums added = statistics_.sums(tile, n, state.m, shifted.data() + i * kTile,
                                                    final_exponentials.data() + i * kTile, exponentials);
            state.sum += s == 0 ? final_sums[i] : added.sum;
            state.weighted += added.weighted;
            state.cross += added.cross;
            state.reverse += added.reverse;
            groups_.add(exponentials, first, width, sums.mass.data() + row * G);
            for (std::int64_t w = 0; w < W; ++w)
              sums.greater[sized(row * W + w)] +=
                  statistics_.count_greater(tile, n, bars[sized(row * W + w)]);
          }
        }
      }
    }
    at::native::cpublas::brgemm_release(/*is_vnni=*/true);
  });

  // The slices in order.
  std::vector<RowState> states(sized(R));
  out.top_ids.resize(sized(R * K));
  out.top_logits.resize(sized(R * K));
  out.group_mass.assign(sized(R * G), 0);
  out.watched_ranks.assign(sized(R * W), 1);
  out.watched_logits.assign(bars.begin(), bars.end());
  for (std::int64_t p = 0; p < P; ++p) states[sized(p)].m = final_max[sized(p)];
  at::parallel_for(0, P, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      for (std::int64_t s = S - 1; s >= 0; --s) {
        const std::int64_t row = s * P + p;
        RowState& state = states[sized(row)];
        double* mass = out.group_mass.data() + row * G;
        std::int64_t found = 0;
        double final_sum = 0;  // of the slices before
        BestTokens best(out.top_logits.data() + row * K, out.top_ids.data() + row * K, K);
        for (SliceSums& sums : slices) {
          RowState& part = sums.rows[sized(row)];
          const double part_final_sum = sums.rows[sized(p)].sum;
          double scale = 1;
          if (part.m > state.m) {
            const double own_scale = state.raise(part.m, final_sum);
            for (std::int64_t g = 0; g < G; ++g) mass[g] *= own_scale;
          } else if (part.m < state.m) {
            scale = part.raise(state.m, part_final_sum);
          }
          state.sum += part.sum;
          state.weighted += part.weighted;
          state.cross += part.cross;
          state.reverse += part.reverse;
          final_sum += part_final_sum;
          for (std::int64_t g = 0; g < G; ++g) mass[g] += scale * sums.mass[sized(row * G + g)];
          for (std::int64_t k = 0; k < sums.num_best[sized(row)]; ++k)
            best.add(sums.top_logits[sized(row * K + k)], sums.top_ids[sized(row * K + k)], found);
          for (std::int64_t w = 0; w < W; ++w)
            out.watched_ranks[sized(row * W + w)] += sums.greater[sized(row * W + w)];
        }
      }
    }
  });
  finish(states, P, groups_, out);
  rank_by_top_k(input, out);
  return out;
}

}  // namespace

bool multiplies_bfloat16() {
#ifdef DEPTHLENS_X86
  if (!__builtin_cpu_supports("avx512bf16")) return false;
  static const bool able = [] {
    try {  // where libtorch has no such product it throws
      constexpr std::int64_t kSize = 64;
      const std::vector<at::BFloat16> ones(kSize * kPanel, at::BFloat16(1.0F));
      std::vector<float> product(kRowsAtOnce * kPanel);
      at::native::cpublas::brgemm(kRowsAtOnce, kPanel, kSize, kSize, kPanel, kPanel, /*add_C=*/false,
                                  ones.data(), ones.data(), product.data(), /*is_vnni=*/true);
      at::native::cpublas::brgemm_release(/*is_vnni=*/true);
      return product[0] == kSize;
    } catch (const std::exception&) {
      return false;
    }
  }();
  return able;
#else
  return false;
#endif
}

std::unique_ptr<Kernel> make_bfloat16_kernel(const RowStatistics& statistics, const model::OutputHead& head,
                                             const std::vector<std::uint8_t>& token_groups,
                                             std::int64_t num_groups) {
  return std::make_unique<Bfloat16Kernel>(statistics, head, token_groups, num_groups);
}

}  // namespace depthlens::decode
