// The kernel for processors: a tile of logits is made from packed states and weights and read while it is in
// the cache, for all layers against one tile of weights. Nothing of the size of the vocabulary is written but
// the final layer's logits, and no packed copy of the unembedding is kept: a tile's weights are packed when
// they are needed, which for the rows of a chunk costs little beside the products.
//
// With m a row's reference (the greatest logit so far), and per row: S = Σ e^(z − m), A = Σ e^(z − m) (z −
// m). Against the final layer f, whose maximum is known before: C = Σ e^(z_f − m_f) (z − m) and D = Σ e^(z −
// m) (z_f − m_f). When m grows, S, A and D are scaled and C shifted. From these follow (docs/methods.md):
// log-sum-exp, entropy, both divergences. Sums within a tile are float32, over tiles float64.
//
// The vocabulary is cut into slices, which threads take as they become free; each slice keeps sums of its
// own, and these are put together in the order of the slices. So results depend neither on the number of
// threads nor on what else is in the chunk.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "decode/kernel.hpp"
#include "depthlens/decode/row_statistics.hpp"
#include "depthlens/model/multiplier.hpp"
#include "depthlens/model/work.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"
#include "row_state.hpp"

namespace depthlens::decode {
namespace {

constexpr std::int64_t kWidestTile = 384;  // tokens
constexpr std::int64_t kSlice = 1024;      // tokens, about
static_assert(kWidestTile <= kLongestTile);

using util::parts_of;
using util::rounded_up;

std::size_t sized(std::int64_t size) {
  return static_cast<std::size_t>(size);
}

/// log(e^a + e^b), b finite.
double log_of_sum(double a, double b) {
  const double greater = std::max(a, b);
  return greater + std::log1p(std::exp(std::min(a, b) - greater));
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

/// A lower bound of every row's K-th best logit, which all slices raise: what is below it is looked at no
/// further. Which tokens are best does not depend on it.
class Bars {
 public:
  explicit Bars(std::int64_t rows) : bars_(sized(rows)) {
    for (auto& bar : bars_) bar.store(-std::numeric_limits<float>::infinity(), std::memory_order_relaxed);
  }
  float of(std::int64_t row) const { return bars_[sized(row)].load(std::memory_order_relaxed); }
  void raise(std::int64_t row, float bar) {
    if (bar > of(row)) bars_[sized(row)].store(bar, std::memory_order_relaxed);
  }

 private:
  std::vector<std::atomic<float>> bars_;
};

class PackedKernel : public Kernel {
 public:
  PackedKernel(const model::Arithmetic& arithmetic, const model::OutputHead& head,
               const std::vector<std::uint8_t>& token_groups, std::int64_t num_groups)
      : name_(arithmetic.name),
        statistics_(row_statistics(arithmetic.vectors)),
        multiplier_(arithmetic, head.unembedding),
        head_(head),
        groups_(token_groups, num_groups),
        vocab_size_(head.unembedding.size(0)),
        tile_(multiplier_.tile_columns(kWidestTile)) {
    DEPTHLENS_ASSERT(num_groups == 0 || static_cast<std::int64_t>(token_groups.size()) == vocab_size_);
  }

  std::string name() const override { return name_; }

  std::uint64_t working_memory(std::int64_t num_states, std::int64_t num_positions) const override {
    const std::int64_t slices = parts_of(vocab_size_, kSlice), blocks = num_states * blocks_of(num_positions);
    constexpr std::int64_t kSumsOfRow = 400;  // bytes, with ten best tokens
    return static_cast<std::uint64_t>(4 * num_positions * final_stride() +
                                      blocks * multiplier_.block_bytes() +
                                      num_states * num_positions * slices * kSumsOfRow);
  }

  KernelOutput decode(const KernelInput& input) const override;
  void add_probabilities(const KernelInput& input, const KernelOutput& output,
                         TokenSums& sums) const override;

 private:
  /// A chunk's states, packed. Blocks are of neighbouring positions at one layer.
  struct Operands {
    std::int64_t positions, states, blocks, block_bytes;
    at::Tensor data;  // [blocks, S, block_bytes], in the order of use
    const std::uint8_t* block(std::int64_t state, std::int64_t index) const {
      return data.const_data_ptr<std::uint8_t>() + (index * states + state) * block_bytes;
    }
  };

  std::int64_t blocks_of(std::int64_t positions) const {
    return parts_of(positions, multiplier_.block_rows());
  }

  std::int64_t final_stride() const { return rounded_up(vocab_size_, multiplier_.panel_columns()); }

  Operands operands_of(const KernelInput& input) const {
    const std::int64_t S = input.num_states, P = input.num_positions, B = multiplier_.block_rows();
    const std::int64_t bytes = multiplier_.block_bytes(), d = multiplier_.depth();
    Operands out{.positions = P,
                 .states = S,
                 .blocks = blocks_of(P),
                 .block_bytes = bytes,
                 .data = model::aligned_bytes(S * blocks_of(P) * bytes)};
    auto* data = out.data.mutable_data_ptr<std::uint8_t>();
    const at::Tensor rows = input.rows.contiguous();
    const float* values = rows.const_data_ptr<float>();
    at::parallel_for(0, S * out.blocks, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t first = i / S * B;
        multiplier_.pack_block(values + (i % S * P + first) * d, std::min(B, P - first), data + i * bytes);
      }
    });
    return out;
  }

  at::Tensor panels_for(std::int64_t columns) const {
    return model::aligned_bytes(multiplier_.columns_bytes(columns));
  }

  void add_bias(float* logits, std::int64_t first, std::int64_t width) const {
    if (!head_.bias.defined()) return;
    const float* bias = head_.bias.const_data_ptr<float>() + first;
    for (std::int64_t v = 0; v < width; ++v) logits[v] += bias[v];
  }

  /// A chunk in work: what all slices read.
  struct Chunk {
    std::int64_t S, P, K, W;
    Operands operands;
    at::Tensor final_logits;            // [≥ P, final_stride]
    std::vector<float> final_max;       // [P]
    std::vector<TokenId> watched;       // [P, W]
    std::vector<float> watched_logits;  // [S · P, W]

    std::int64_t rows() const { return S * P; }
    const float* final_tile(std::int64_t position, std::int64_t first_token) const {
      return final_logits.const_data_ptr<float>() + position * final_logits.size(1) + first_token;
    }
  };

  /// A thread's own memory.
  struct Workspace {
    at::Tensor panels;
    std::vector<float> logits, final_shifted, final_exponentials;  // [block_rows, tile]
    std::vector<float> exponentials;                               // [tile]
  };

  /// One row's logits of one tile, and the final layer's at the same position.
  struct TileOfRow {
    const float* logits;
    std::int64_t first;  // token
    int width;
    const float* final_shifted;
    const float* final_exponentials;
    double final_sum_before;  // of the slice's tiles before this one
    TokenGroups::Range grouped;
  };

  at::Tensor final_logits(const Operands& operands) const;
  std::vector<float> watched_logits(const Operands& operands, const std::vector<TokenId>& watched,
                                    std::int64_t W) const;
  Chunk prepare(const KernelInput& input) const;
  Workspace make_workspace() const;
  /// Tokens first … end − 1, for all rows.
  SliceSums sum_slice(const Chunk& chunk, std::int64_t first, std::int64_t end, Bars& bars,
                      Workspace& workspace) const;
  void add_tile(const Chunk& chunk, const TileOfRow& tile, std::int64_t row, Bars& bars, SliceSums& sums,
                float* exponentials) const;
  KernelOutput merge(const Chunk& chunk, std::vector<SliceSums>& slices) const;
  void add_probabilities_of(const float* logits, int width, double log_sum_exp, Workspace& workspace,
                            double* sums, double* log_small) const;

  std::string name_;
  const RowStatistics& statistics_;
  model::Multiplier multiplier_;
  const model::OutputHead& head_;
  TokenGroups groups_;
  std::int64_t vocab_size_;
  std::int64_t tile_;  // tokens
};

/// [P, final_stride]
at::Tensor PackedKernel::final_logits(const Operands& operands) const {
  const std::int64_t P = operands.positions, B = multiplier_.block_rows(), stride = final_stride();
  // A block of AMX's is always whole.
  at::Tensor logits =
      model::aligned_bytes(4 * operands.blocks * B * stride).view(at::kFloat).view({-1, stride});
  float* data = logits.mutable_data_ptr<float>();
  model::for_each_free(
      parts_of(vocab_size_, tile_), [&] { return panels_for(tile_); },
      [&](std::int64_t tile, at::Tensor& workspace) {
        const std::int64_t first = tile * tile_, width = std::min(tile_, vocab_size_ - first);
        auto* panels = workspace.mutable_data_ptr<std::uint8_t>();
        multiplier_.pack_columns(
            width, [&](std::int64_t n) { return first + n; }, panels);
        for (std::int64_t b = 0; b < operands.blocks; ++b) {
          const std::int64_t count = std::min(B, P - b * B);
          float* block = data + b * B * stride + first;
          multiplier_.multiply(operands.block(0, b), count, panels, width, block, stride);
          for (std::int64_t i = 0; i < count; ++i) add_bias(block + i * stride, first, width);
        }
      });
  return logits;
}

/// [R, W] from the same products as in a tile, so that they have the same bits. R = S · P.
std::vector<float> PackedKernel::watched_logits(const Operands& operands, const std::vector<TokenId>& watched,
                                                std::int64_t W) const {
  const std::int64_t P = operands.positions, B = multiplier_.block_rows();
  const std::int64_t stride = rounded_up(B * W, multiplier_.panel_columns());
  std::vector<float> all(sized(operands.states * P * W));
  struct Gathered {
    at::Tensor panels;
    std::vector<float> logits;
  };
  model::for_each_free(
      operands.blocks,
      [&] {
        return Gathered{panels_for(stride), std::vector<float>(sized(B * stride))};
      },
      [&](std::int64_t b, Gathered& workspace) {
        const std::int64_t first = b * B, count = std::min(B, P - first), columns = count * W;
        auto* panels = workspace.panels.mutable_data_ptr<std::uint8_t>();
        multiplier_.pack_columns(
            columns,
            [&](std::int64_t column) { return std::max<TokenId>(0, watched[sized(first * W + column)]); },
            panels);
        for (std::int64_t s = 0; s < operands.states; ++s) {
          float* logits = workspace.logits.data();
          multiplier_.multiply(operands.block(s, b), count, panels, columns, logits, stride);
          for (std::int64_t i = 0; i < count; ++i) {
            for (std::int64_t w = 0; w < W; ++w) {
              float logit = logits[i * stride + i * W + w];
              const TokenId token = std::max<TokenId>(0, watched[sized((first + i) * W + w)]);
              if (head_.bias.defined()) logit += head_.bias.const_data_ptr<float>()[token];
              all[sized((s * P + first + i) * W + w)] = logit;
            }
          }
        }
      });
  return all;
}

PackedKernel::Chunk PackedKernel::prepare(const KernelInput& input) const {
  const std::int64_t P = input.num_positions, W = input.num_watched, V = vocab_size_;
  Chunk chunk{.S = input.num_states,
              .P = P,
              .K = input.top_k,
              .W = W,
              .operands = operands_of(input),
              .final_logits = {},
              .final_max = std::vector<float>(sized(P)),
              .watched = input.watched,
              .watched_logits = {}};
  // The final layer first: its top-1 is watched at every other layer, and its maximum is the reference of C
  // and D.
  chunk.final_logits = final_logits(chunk.operands);
  at::parallel_for(0, P, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      const float* row = chunk.final_tile(p, 0);
      float most = row[0];
      for (std::int64_t v = 0; v < V; v += kLongestTile) {
        const auto n = static_cast<int>(std::min<std::int64_t>(kLongestTile, V - v));
        most = std::max(most, statistics_.max(row + v, n));
      }
      const int best = statistics_.find_at_least(row, 0, static_cast<int>(V), most);  // the first of equals
      chunk.watched[sized(p * W)] = best < V ? best : 0;  // or no number: told of when all is summed
      chunk.final_max[sized(p)] = most;
    }
  });
  chunk.watched_logits = watched_logits(chunk.operands, chunk.watched, W);
  return chunk;
}

PackedKernel::Workspace PackedKernel::make_workspace() const {
  const std::int64_t B = multiplier_.block_rows();
  const std::vector<float> block(sized(B * tile_));
  return {.panels = panels_for(tile_),
          .logits = block,
          .final_shifted = block,
          .final_exponentials = block,
          .exponentials = std::vector<float>(sized(tile_))};
}

void PackedKernel::add_tile(const Chunk& chunk, const TileOfRow& tile, std::int64_t row, Bars& bars,
                            SliceSums& sums, float* exponentials) const {
  const std::int64_t K = chunk.K, W = chunk.W, G = groups_.count(), p = row % chunk.P;
  RowState& state = sums.rows[sized(row)];
  double* mass = sums.mass.data() + row * G;
  const float tile_max = statistics_.max(tile.logits, tile.width);
  if (tile_max >= bars.of(row)) {
    BestTokens best(sums.top_logits.data() + row * K, sums.top_ids.data() + row * K, K);
    std::int64_t& num_best = sums.num_best[sized(row)];
    num_best = best.add_tile(statistics_, tile.logits, tile.width, static_cast<TokenId>(tile.first),
                             bars.of(row), num_best);
    if (num_best == K) bars.raise(row, static_cast<float>(best.last()));
  }
  if (tile_max > state.m) {
    const double scale = state.raise(tile_max, tile.final_sum_before);
    for (std::int64_t g = 0; g < G; ++g) mass[g] *= scale;
  }
  const TileSums added = statistics_.sums(tile.logits, tile.width, state.m, tile.final_shifted,
                                          tile.final_exponentials, exponentials);
  state.sum += added.sum;
  state.weighted += added.weighted;
  state.cross += added.cross;
  state.reverse += added.reverse;
  TokenGroups::add(tile.grouped, exponentials, tile.first, mass);
  for (std::int64_t w = 0; w < W; ++w) {
    if (chunk.watched[sized(p * W + w)] == kNoToken) continue;
    sums.greater[sized(row * W + w)] +=
        statistics_.count_greater(tile.logits, tile.width, chunk.watched_logits[sized(row * W + w)]);
  }
}

SliceSums PackedKernel::sum_slice(const Chunk& chunk, std::int64_t slice_first, std::int64_t slice_end,
                                  Bars& bars, Workspace& workspace) const {
  const std::int64_t S = chunk.S, P = chunk.P, R = chunk.rows(), B = multiplier_.block_rows();
  SliceSums sums{.rows = std::vector<RowState>(sized(R)),
                 .top_logits = std::vector<double>(sized(R * chunk.K)),
                 .top_ids = std::vector<TokenId>(sized(R * chunk.K)),
                 .num_best = std::vector<std::int64_t>(sized(R)),
                 .greater = std::vector<std::int64_t>(sized(R * chunk.W)),
                 .mass = std::vector<double>(sized(R * groups_.count()))};
  for (std::int64_t p = 0; p < P; ++p) sums.rows[sized(p)].m = chunk.final_max[sized(p)];
  auto* panels = workspace.panels.mutable_data_ptr<std::uint8_t>();
  float* logits = workspace.logits.data();

  for (std::int64_t first = slice_first; first < slice_end; first += tile_) {
    const std::int64_t width = std::min(tile_, slice_end - first);
    const auto n = static_cast<int>(width);
    const TokenGroups::Range grouped = groups_.range(first, width);
    const auto token_of = [&](std::int64_t column) { return first + column; };
    multiplier_.pack_columns(width, token_of, panels);
    for (std::int64_t b = 0; b < chunk.operands.blocks; ++b) {
      const std::int64_t begin = b * B, count = std::min(B, P - begin);
      for (std::int64_t i = 0; i < count; ++i) {
        statistics_.shift_and_exp(chunk.final_tile(begin + i, first), n, chunk.final_max[sized(begin + i)],
                                  workspace.final_shifted.data() + i * tile_,
                                  workspace.final_exponentials.data() + i * tile_);
      }
      const auto tile_of = [&](const float* of_row, std::int64_t i) {
        return TileOfRow{.logits = of_row,
                         .first = first,
                         .width = n,
                         .final_shifted = workspace.final_shifted.data() + i * tile_,
                         .final_exponentials = workspace.final_exponentials.data() + i * tile_,
                         .final_sum_before = sums.rows[sized(begin + i)].sum,
                         .grouped = grouped};
      };
      for (std::int64_t s = 1; s < S; ++s) {
        multiplier_.multiply(chunk.operands.block(s, b), count, panels, width, logits, tile_);
        for (std::int64_t i = 0; i < count; ++i) {
          add_bias(logits + i * tile_, first, width);
          add_tile(chunk, tile_of(logits + i * tile_, i), s * P + begin + i, bars, sums,
                   workspace.exponentials.data());
        }
      }
      // The final layer's own sums grow last: the others need what it had before this tile.
      for (std::int64_t i = 0; i < count; ++i) {
        add_tile(chunk, tile_of(chunk.final_tile(begin + i, first), i), begin + i, bars, sums,
                 workspace.exponentials.data());
      }
    }
  }
  return sums;
}

/// Puts the slices together in their order.
KernelOutput PackedKernel::merge(const Chunk& chunk, std::vector<SliceSums>& slices) const {
  const std::int64_t S = chunk.S, P = chunk.P, R = chunk.rows(), K = chunk.K, W = chunk.W,
                     G = groups_.count();
  KernelOutput out;
  out.watched = chunk.watched;
  out.top_ids.resize(sized(R * K));
  out.top_logits.resize(sized(R * K));
  out.group_mass.assign(sized(R * G), 0);
  out.watched_ranks.assign(sized(R * W), 1);
  out.watched_logits.assign(chunk.watched_logits.begin(), chunk.watched_logits.end());
  std::vector<RowState> states(sized(R));
  for (std::int64_t p = 0; p < P; ++p) states[sized(p)].m = chunk.final_max[sized(p)];
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
  return out;
}

KernelOutput PackedKernel::decode(const KernelInput& input) const {
  DEPTHLENS_ASSERT(input.rows.size(0) == input.num_states * input.num_positions &&
                   static_cast<std::int64_t>(input.watched.size()) ==
                       input.num_positions * input.num_watched);
  const Chunk chunk = prepare(input);
  const std::int64_t V = vocab_size_;
  // Where very many best tokens are kept, fewer and longer slices bound the memory.
  constexpr std::int64_t kMostKept = 4 << 20;
  std::int64_t slice = rounded_up(kSlice, tile_);
  while (slice < V && parts_of(V, slice) * chunk.rows() * chunk.K > kMostKept) slice *= 2;

  std::vector<SliceSums> slices(sized(parts_of(V, slice)));
  Bars bars(chunk.rows());
  model::for_each_free(
      static_cast<std::int64_t>(slices.size()), [&] { return make_workspace(); },
      [&](std::int64_t i, Workspace& workspace) {
        slices[sized(i)] = sum_slice(chunk, i * slice, std::min(V, (i + 1) * slice), bars, workspace);
      });
  KernelOutput out = merge(chunk, slices);
  rank_by_top_k(input, out);
  return out;
}

/// Each tile of the vocabulary has its own columns of the sums, and takes the positions in their order.
void PackedKernel::add_probabilities(const KernelInput& input, const KernelOutput& output,
                                     TokenSums& sums) const {
  const Operands operands = operands_of(input);
  const std::int64_t S = operands.states, P = operands.positions, B = multiplier_.block_rows();
  double* const all = sums.sums.mutable_data_ptr<double>();
  double* const all_small = sums.log_small.mutable_data_ptr<double>();
  model::for_each_free(
      parts_of(vocab_size_, tile_), [&] { return make_workspace(); },
      [&](std::int64_t tile, Workspace& workspace) {
        const std::int64_t first = tile * tile_, width = std::min(tile_, vocab_size_ - first);
        auto* panels = workspace.panels.mutable_data_ptr<std::uint8_t>();
        float* logits = workspace.logits.data();
        multiplier_.pack_columns(
            width, [&](std::int64_t column) { return first + column; }, panels);
        for (std::int64_t b = 0; b < operands.blocks; ++b) {
          const std::int64_t count = std::min(B, P - b * B);
          for (std::int64_t s = 0; s < S; ++s) {
            multiplier_.multiply(operands.block(s, b), count, panels, width, logits, tile_);
            const std::int64_t place = s * vocab_size_ + first;
            for (std::int64_t i = 0; i < count; ++i) {
              add_bias(logits + i * tile_, first, width);
              add_probabilities_of(logits + i * tile_, static_cast<int>(width),
                                   output.log_sum_exp[sized(s * P + b * B + i)], workspace, all + place,
                                   all_small + place);
            }
          }
        }
      });
}

/// Adds e^(z − log_sum_exp) of one row's tile.
void PackedKernel::add_probabilities_of(const float* logits, int width, double log_sum_exp,
                                        Workspace& workspace, double* sums, double* log_small) const {
  // What rounding takes from the reference is put back as a factor.
  const auto reference = static_cast<float>(log_sum_exp);
  const double factor = std::exp(static_cast<double>(reference) - log_sum_exp);
  float* shifted = workspace.final_shifted.data();
  float* exponentials = workspace.exponentials.data();
  statistics_.shift_and_exp(logits, width, reference, shifted, exponentials);
  for (int v = 0; v < width; ++v) sums[v] += factor * static_cast<double>(exponentials[v]);
  if (statistics_.count_greater(shifted, width, TokenSums::kLowestLog) == width) return;
  for (int v = 0; v < width; ++v) {
    if (shifted[v] < TokenSums::kLowestLog)
      log_small[v] = log_of_sum(log_small[v], static_cast<double>(logits[v]) - log_sum_exp);
  }
}

}  // namespace

std::unique_ptr<Kernel> make_packed_kernel(const model::Arithmetic& arithmetic, const model::OutputHead& head,
                                           const std::vector<std::uint8_t>& token_groups,
                                           std::int64_t num_groups) {
  return std::make_unique<PackedKernel>(arithmetic, head, token_groups, num_groups);
}

}  // namespace depthlens::decode
