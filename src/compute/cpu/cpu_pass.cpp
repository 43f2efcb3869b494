// The pass over the vocabulary on processors. No packed copy of the unembedding is kept: a tile's weights are
// packed when they are needed, which for the rows of a chunk costs little beside the products, and every
// block of rows then takes its logits from the packed tile, and reads them, while all of it is in the cache.
//
// Where the vocabulary is split, slices of it are dealt out to threads as they become free; where a reducer
// allows it and there are many threads, parts of the positions too. Where rows are split, some tiles are
// packed by all threads together, then groups of positions are dealt out; threads wait for each other once in
// so many tiles. Either way a reducer's sums belong to a slice or to a position, and so depend neither on the
// number of threads nor on what else is in the chunk.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "compute/cpu/cpu_backend.hpp"
#include "compute/cpu/host_tile.hpp"
#include "compute/cpu/packed_gemm.hpp"
#include "compute/parallel.hpp"
#include "compute/reducer.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::compute {
namespace {

constexpr std::int64_t kMaxWidth = 384;     // tokens of a tile
constexpr std::int64_t kMaxExpected = 256;  // tokens of a tile that is packed twice
constexpr std::int64_t kTimesWider = 4;     // such a tile, where products are made slice by slice
constexpr std::int64_t kMaxOfGroup = 4096;  // tokens that are packed together where rows are split
constexpr std::int64_t kBlocksOfGroup = 8;  // blocks of rows for which a thread keeps a tile in its cache
static_assert(kMaxWidth * kTimesWider <= kMaxTile && kMaxWidth * kTimesWider <= kMaxOfGroup);

using util::ceil_div;
using util::round_up;

/// In how many parts the blocks of positions are dealt out, so that `num_slices` slices are done soonest:
/// with more of them threads wait less for the last one, and each packs the weights anew.
std::int64_t parts_of_positions(std::int64_t num_slices, std::int64_t num_blocks, std::int64_t num_rows) {
  constexpr std::int64_t kMaxParts = 32;
  constexpr double kPackingInRows = 75;  // what packing weights takes: as long as so many rows' products
  const double packing = kPackingInRows / static_cast<double>(num_rows);
  const std::int64_t threads = at::get_num_threads();
  std::int64_t best = 1;
  double least = std::numeric_limits<double>::infinity();
  for (std::int64_t parts = 1; parts <= std::min(kMaxParts, num_blocks); ++parts) {
    const auto rounds = static_cast<double>(ceil_div(num_slices * parts, threads));
    const double time =
        rounds *
        (static_cast<double>(ceil_div(num_blocks, parts)) / static_cast<double>(num_blocks) + packing);
    if (time < least) best = parts;
    least = std::min(least, time);
  }
  return best;
}

class CpuPass : public VocabularyPass {
 public:
  CpuPass(const CpuKernel& kernel, Precision precision, const Unembedding& unembedding,
          ShouldStop should_stop)
      : VocabularyPass(unembedding),
        kernel_(kernel),
        precision_(precision),
        gemm_(kernel, precision, unembedding.weight),
        should_stop_(std::move(should_stop)) {}

  std::string kernel_name() const override { return kernel_.name; }

  std::string products() const override {
    return kernel_.splits && kernel_.terms(precision_) == 1 ? "bfloat16" : "float32";
  }

  StateRows pack(const at::Tensor& rows, std::int64_t num_states) const override {
    return StateRows::of(rows, pack_blocks(gemm_, rows.to(at::kFloat).contiguous(), num_states), num_states);
  }
  void run(const StateRows& rows, Reducer& reducer) const override {
    if (reducer.split() == Split::kRows) return run_by_rows(rows, reducer);
    run_by_slices(rows, reducer);
  }
  at::Tensor gather(const StateRows& rows, const std::vector<TokenId>& tokens) const override;

  std::uint64_t working_memory(std::int64_t num_states, std::int64_t num_positions) const override {
    return static_cast<std::uint64_t>(num_states * ceil_div(num_positions, gemm_.block_rows()) *
                                      gemm_.block_bytes());
  }

  std::int64_t logit_stride() const override { return round_up(vocab_size(), gemm_.panel_columns()); }
  const RowStatistics* row_statistics() const override { return kernel_.statistics; }

 private:
  void run_by_slices(const StateRows& rows, Reducer& reducer) const;
  void run_by_rows(const StateRows& rows, Reducer& reducer) const;

  /// A thread's own memory.
  struct Memory {
    at::Tensor panels, coefficients;
    std::vector<float> logits;  // [blocks at once, block_rows, stride]
    std::unique_ptr<Reducer::Workspace> workspace;
  };

  std::vector<float> blocks_of_logits(std::int64_t blocks, std::int64_t stride) const {
    return std::vector<float>(static_cast<std::size_t>(blocks * gemm_.block_rows() * stride));
  }

  CpuKernel kernel_;
  Precision precision_;
  PackedGemm gemm_;
  ShouldStop should_stop_;
};

void CpuPass::run_by_slices(const StateRows& rows, Reducer& reducer) const {
  const std::int64_t V = vocab_size(), P = rows.num_positions, block_rows = gemm_.block_rows();
  const PackedGemm::Tiling tiling = gemm_.tiling(kMaxWidth, rows.num_states);
  const std::int64_t width = tiling.columns, slice = round_up(reducer.min_slice_tokens(), width);
  const std::int64_t num_slices = ceil_div(V, slice), num_blocks = ceil_div(P, block_rows);
  const std::int64_t parts =
      reducer.split() == Split::kBoth ? parts_of_positions(num_slices, num_blocks, rows.num_rows()) : 1;
  reducer.begin({.num_slices = num_slices,
                 .max_width = width,
                 .block_rows = block_rows,
                 .panel_columns = gemm_.panel_columns(),
                 .num_positions = P});
  const HostTile::Source source{gemm_, *kernel_.statistics, unembedding(), rows, tiling, width};
  parallel_for_dynamic(
      num_slices * parts, should_stop_,
      [&] {
        return Memory{.panels = aligned_bytes(gemm_.columns_bytes(width)),
                      .coefficients = {},
                      .logits = blocks_of_logits(tiling.blocks, width),
                      .workspace = reducer.make_workspace()};
      },
      [&](std::int64_t item, Memory& memory) {
        const std::int64_t i = item / parts, part = item % parts;
        const std::int64_t begin = part * num_blocks / parts * block_rows,
                           end = std::min(P, (part + 1) * num_blocks / parts * block_rows);
        HostTile tile(source, {.logits = memory.logits.data()});
        auto* panels = memory.panels.mutable_data_ptr<std::uint8_t>();
        tile.slice = i;
        for (std::int64_t first = i * slice, last = std::min(V, first + slice); first < last;
             first += width) {
          const std::int64_t count = std::min(width, last - first);
          gemm_.pack_neighbours(first, count, panels);
          tile.enter(first, count, begin, end, panels);
          for (std::int64_t position = begin; position < end; position += block_rows) {
            tile.place(position);
            reducer.add(tile, memory.workspace.get());
          }
        }
      });
}

void CpuPass::run_by_rows(const StateRows& rows, Reducer& reducer) const {
  constexpr std::int64_t kApart = 32;  // columns between rows of wide tiles, for the sake of the cache
  const std::int64_t V = vocab_size(), P = rows.num_positions, block_rows = gemm_.block_rows();
  const bool twice = reducer.wants_expected_rows();
  const PackedGemm::Tiling tiling =
      twice ? gemm_.tiling_both_ways(kMaxExpected, kMaxWidth) : gemm_.tiling(kMaxExpected, rows.num_states);
  const bool sliced = tiling.blocks > 1;
  // The way back is summed over the tokens of a tile: the more, the less often its sums come and go.
  const std::int64_t width = tiling.columns * (sliced && twice ? kTimesWider : 1),
                     stride = width + (sliced ? kApart : 0);
  const std::int64_t num_tiles = ceil_div(V, width), of_group = std::min(kMaxOfGroup / width, num_tiles);
  const std::int64_t tile_bytes = gemm_.columns_bytes(width),
                     transposed_bytes = gemm_.transposed_bytes(width, gemm_.depth());
  const at::Tensor panels = aligned_bytes(of_group * tile_bytes);
  const at::Tensor transposed = twice ? aligned_bytes(of_group * transposed_bytes) : at::Tensor();
  auto* const all_panels = panels.mutable_data_ptr<std::uint8_t>();
  auto* const all_transposed = twice ? transposed.mutable_data_ptr<std::uint8_t>() : nullptr;
  reducer.begin({.num_slices = 1,
                 .max_width = width,
                 .block_rows = block_rows,
                 .panel_columns = gemm_.panel_columns(),
                 .num_positions = P});
  const HostTile::Source source{gemm_, *kernel_.statistics, unembedding(), rows, tiling, stride};

  // As many blocks as are multiplied at once, but so few that all threads have work.
  const std::int64_t at_once = std::max(
                         kBlocksOfGroup,
                         std::min(tiling.blocks, ceil_div(ceil_div(P, block_rows), at::get_num_threads()))),
                     positions_of_group = at_once * block_rows;
  for (std::int64_t first_tile = 0; first_tile < num_tiles; first_tile += of_group) {
    const std::int64_t count = std::min(of_group, num_tiles - first_tile);
    const auto first_of = [&](std::int64_t t) { return (first_tile + t) * width; };
    const auto width_of = [&](std::int64_t t) { return std::min(width, V - first_of(t)); };
    const auto transposed_of = [&](std::int64_t t) {
      return twice ? all_transposed + t * transposed_bytes : nullptr;
    };
    // In pieces of so many columns either way.
    const std::int64_t columns = tiling.columns, pieces = ceil_div(width, columns),
                       pieces_back = twice ? ceil_div(gemm_.depth(), columns) : 0;
    at::parallel_for(0, count * (pieces + pieces_back), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t t = i % count, piece = i / count;
        if (piece < pieces) {
          const std::int64_t first = piece * columns, num = std::min(columns, width_of(t) - first);
          if (num > 0)
            gemm_.pack_neighbours(first_of(t) + first, num,
                                  all_panels + t * tile_bytes + gemm_.columns_bytes(first));
        } else {
          const std::int64_t first = (piece - pieces) * columns,
                             num = std::min(columns, gemm_.depth() - first);
          gemm_.pack_transposed(first_of(t), width_of(t), first, num,
                                transposed_of(t) + gemm_.transposed_bytes(width_of(t), first));
        }
      }
    });
    // Groups are dealt out as threads become free: with a fixed share each would wait for the slowest.
    parallel_for_dynamic(
        ceil_div(P, positions_of_group), should_stop_,
        [&] {
          return Memory{.panels = {},
                        .coefficients = twice ? aligned_bytes(tiling.blocks * gemm_.coefficients_bytes(width))
                                              : at::Tensor(),
                        .logits = blocks_of_logits(tiling.blocks, stride),
                        .workspace = reducer.make_workspace()};
        },
        [&](std::int64_t group, Memory& memory) {
          const std::int64_t begin = group * positions_of_group,
                             end = std::min(P, begin + positions_of_group);
          HostTile tile(source, {.logits = memory.logits.data(),
                                 .coefficients =
                                     twice ? memory.coefficients.mutable_data_ptr<std::uint8_t>() : nullptr});
          for (std::int64_t t = 0; t < count; ++t) {
            tile.enter(first_of(t), width_of(t), begin, end, all_panels + t * tile_bytes, transposed_of(t));
            for (std::int64_t position = begin; position < end; position += block_rows) {
              tile.place(position);
              reducer.add(tile, memory.workspace.get());
            }
            tile.finish_expected_rows();
          }
        });
  }
}

/// From the same products as in a tile, of the distinct tokens of a block of positions: what several watch is
/// packed and multiplied once.
at::Tensor CpuPass::gather(const StateRows& rows, const std::vector<TokenId>& tokens) const {
  const std::int64_t P = rows.num_positions, S = rows.num_states, block_rows = gemm_.block_rows();
  const auto W = static_cast<std::int64_t>(tokens.size()) / P;
  const PackedGemm::Tiling tiling = gemm_.tiling(kMaxWidth, 1);
  const std::int64_t stride = tiling.columns;
  at::Tensor all = at::empty({S, P, W}, at::kFloat);
  float* const to = all.mutable_data_ptr<float>();
  const at::Tensor& bias = unembedding().bias;
  parallel_for_dynamic(
      ceil_div(P, block_rows), should_stop_,
      [&] {
        return Memory{.panels = aligned_bytes(gemm_.columns_bytes(stride)),
                      .coefficients = {},
                      .logits = blocks_of_logits(1, stride),
                      .workspace = nullptr};
      },
      [&](std::int64_t b, Memory& memory) {
        const std::int64_t begin = b * block_rows, count = std::min(block_rows, P - begin);
        std::vector<TokenId> watched(tokens.begin() + begin * W, tokens.begin() + (begin + count) * W);
        for (TokenId& token : watched) token = std::max<TokenId>(0, token);
        std::vector<TokenId> distinct = watched;
        std::sort(distinct.begin(), distinct.end());
        distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
        std::vector<std::int64_t> column_of(watched.size());  // among the distinct ones
        std::vector<float> biases(bias.defined() ? watched.size() : 0);
        for (std::size_t i = 0; i < watched.size(); ++i) {
          column_of[i] = std::lower_bound(distinct.begin(), distinct.end(), watched[i]) - distinct.begin();
          if (bias.defined()) biases[i] = bias.const_data_ptr<float>()[watched[i]];
        }
        auto* panels = memory.panels.mutable_data_ptr<std::uint8_t>();
        const auto num_distinct = static_cast<std::int64_t>(distinct.size());
        for (std::int64_t first = 0; first < num_distinct; first += stride) {
          const std::int64_t width = std::min(stride, num_distinct - first);
          gemm_.pack_columns(
              width, [&](std::int64_t column) { return distinct[static_cast<std::size_t>(first + column)]; },
              panels);
          for (std::int64_t s = 0; s < S; ++s) {
            gemm_.multiply(block_of(gemm_, rows, b, s), count, panels, width, memory.logits.data(), stride);
            float* out = to + (s * P + begin) * W;
            for (std::size_t i = 0; i < watched.size(); ++i) {
              const std::int64_t column = column_of[i] - first;
              if (column < 0 || column >= width) continue;
              out[i] = memory.logits[i / static_cast<std::size_t>(W) * static_cast<std::size_t>(stride) +
                                     static_cast<std::size_t>(column)];
            }
          }
        }
        for (std::int64_t s = 0; s < S; ++s) {
          for (std::int64_t i = 0; i < count; ++i)
            finish_logits(*kernel_.statistics, unembedding().transform,
                          biases.empty() ? nullptr : biases.data() + i * W, to + (s * P + begin + i) * W, W);
        }
      });
  return all;
}

}  // namespace

std::unique_ptr<VocabularyPass> make_cpu_pass(const CpuKernel& kernel, Precision precision,
                                              const Unembedding& unembedding, ShouldStop should_stop) {
  return std::make_unique<CpuPass>(kernel, precision, unembedding, std::move(should_stop));
}

}  // namespace depthlens::compute
