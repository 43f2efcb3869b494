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
constexpr std::int64_t kTilesOfGroup = 16;  // packed together where rows are split
constexpr std::int64_t kBlocksOfGroup = 8;  // blocks of rows for which a thread keeps a tile in its cache
static_assert(kMaxWidth <= kMaxTile);

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
        width_(gemm_.tile_columns(kMaxWidth)),
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
    std::vector<float> logits;  // [block_rows, width]
    std::unique_ptr<Reducer::Workspace> workspace;
  };

  std::vector<float> block_of_logits(std::int64_t width) const {
    return std::vector<float>(
        static_cast<std::size_t>(gemm_.block_rows() * round_up(width, gemm_.panel_columns())));
  }

  /// Places a tile at the block of positions from `begin` on.
  void place(HostTile& tile, const StateRows& rows, std::int64_t begin) const {
    tile.begin = begin;
    tile.count = static_cast<int>(std::min(gemm_.block_rows(), rows.num_positions - begin));
  }

  CpuKernel kernel_;
  Precision precision_;
  PackedGemm gemm_;
  std::int64_t width_;  // tokens of a tile
  ShouldStop should_stop_;
};

void CpuPass::run_by_slices(const StateRows& rows, Reducer& reducer) const {
  const std::int64_t V = vocab_size(), P = rows.num_positions, block_rows = gemm_.block_rows();
  const std::int64_t slice = round_up(reducer.min_slice_tokens(V), width_);
  const std::int64_t num_slices = ceil_div(V, slice), num_blocks = ceil_div(P, block_rows);
  const std::int64_t parts =
      reducer.split() == Split::kBoth ? parts_of_positions(num_slices, num_blocks, rows.num_rows()) : 1;
  reducer.begin({.num_slices = num_slices,
                 .max_width = width_,
                 .block_rows = block_rows,
                 .panel_columns = gemm_.panel_columns(),
                 .num_positions = P});
  const HostTile::Source source{gemm_, *kernel_.statistics, unembedding(), rows};
  parallel_for_dynamic(
      num_slices * parts, should_stop_,
      [&] {
        return Memory{.panels = aligned_bytes(gemm_.columns_bytes(width_)),
                      .coefficients = {},
                      .logits = block_of_logits(width_),
                      .workspace = reducer.make_workspace()};
      },
      [&](std::int64_t item, Memory& memory) {
        const std::int64_t i = item / parts, part = item % parts;
        HostTile tile(source);
        auto* panels = memory.panels.mutable_data_ptr<std::uint8_t>();
        tile.slice = i;
        tile.panels = panels;
        tile.buffer = memory.logits.data();
        tile.buffer_stride = round_up(width_, gemm_.panel_columns());
        for (std::int64_t first = i * slice, end = std::min(V, first + slice); first < end; first += width_) {
          tile.first = first;
          tile.width = static_cast<int>(std::min(width_, end - first));
          gemm_.pack_neighbours(first, tile.width, panels);
          for (std::int64_t b = part * num_blocks / parts; b < (part + 1) * num_blocks / parts; ++b) {
            place(tile, rows, b * block_rows);
            reducer.add(tile, memory.workspace.get());
          }
        }
      });
}

void CpuPass::run_by_rows(const StateRows& rows, Reducer& reducer) const {
  const std::int64_t V = vocab_size(), P = rows.num_positions, block_rows = gemm_.block_rows();
  const bool twice = reducer.wants_expected_rows();
  const std::int64_t width =
      twice ? gemm_.tile_columns_packed_twice(kMaxExpected) : gemm_.tile_columns(kMaxExpected);
  const std::int64_t num_tiles = ceil_div(V, width), of_group = std::min(kTilesOfGroup, num_tiles);
  const std::int64_t tile_bytes = gemm_.columns_bytes(width),
                     transposed_bytes = gemm_.transposed_bytes(width);
  const at::Tensor panels = aligned_bytes(of_group * tile_bytes);
  const at::Tensor transposed = twice ? aligned_bytes(of_group * transposed_bytes) : at::Tensor();
  auto* const all_panels = panels.mutable_data_ptr<std::uint8_t>();
  auto* const all_transposed = twice ? transposed.mutable_data_ptr<std::uint8_t>() : nullptr;
  reducer.begin({.num_slices = 1,
                 .max_width = width,
                 .block_rows = block_rows,
                 .panel_columns = gemm_.panel_columns(),
                 .num_positions = P});
  const HostTile::Source source{gemm_, *kernel_.statistics, unembedding(), rows};

  for (std::int64_t first_tile = 0; first_tile < num_tiles; first_tile += of_group) {
    const std::int64_t count = std::min(of_group, num_tiles - first_tile);
    const auto first_of = [&](std::int64_t t) { return (first_tile + t) * width; };
    const auto width_of = [&](std::int64_t t) { return std::min(width, V - first_of(t)); };
    at::parallel_for(0, count * (twice ? 2 : 1), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t t = i % count;
        if (i < count) {
          gemm_.pack_neighbours(first_of(t), width_of(t), all_panels + t * tile_bytes);
        } else {
          gemm_.pack_transposed(first_of(t), width_of(t), all_transposed + t * transposed_bytes);
        }
      }
    });
    // Groups are dealt out as threads become free: with a fixed share each would wait for the slowest.
    parallel_for_dynamic(
        ceil_div(P, kBlocksOfGroup * block_rows), should_stop_,
        [&] {
          return Memory{.panels = {},
                        .coefficients = twice ? aligned_bytes(gemm_.coefficients_bytes(width)) : at::Tensor(),
                        .logits = block_of_logits(width),
                        .workspace = reducer.make_workspace()};
        },
        [&](std::int64_t group, Memory& memory) {
          HostTile tile(source);
          tile.buffer = memory.logits.data();
          tile.buffer_stride = round_up(width, gemm_.panel_columns());
          if (twice) tile.coefficients = memory.coefficients.mutable_data_ptr<std::uint8_t>();
          for (std::int64_t t = 0; t < count; ++t) {
            tile.first = first_of(t);
            tile.width = static_cast<int>(width_of(t));
            tile.panels = all_panels + t * tile_bytes;
            tile.transposed = twice ? all_transposed + t * transposed_bytes : nullptr;
            const std::int64_t end = std::min(P, (group + 1) * kBlocksOfGroup * block_rows);
            for (std::int64_t begin = group * kBlocksOfGroup * block_rows; begin < end; begin += block_rows) {
              place(tile, rows, begin);
              reducer.add(tile, memory.workspace.get());
            }
          }
        });
  }
}

/// From the same products as in a tile, of the columns of a block's tokens.
at::Tensor CpuPass::gather(const StateRows& rows, const std::vector<TokenId>& tokens) const {
  const std::int64_t P = rows.num_positions, S = rows.num_states, block_rows = gemm_.block_rows();
  const auto W = static_cast<std::int64_t>(tokens.size()) / P;
  const std::int64_t stride = round_up(block_rows * W, gemm_.panel_columns());
  at::Tensor all = at::empty({S, P, W}, at::kFloat);
  float* const to = all.mutable_data_ptr<float>();
  const auto token_at = [&](std::int64_t p, std::int64_t w) {
    return std::max<TokenId>(0, tokens[static_cast<std::size_t>(p * W + w)]);
  };
  const at::Tensor& bias = unembedding().bias;
  std::vector<float> biases;  // [P, W]
  if (bias.defined()) {
    for (std::int64_t p = 0; p < P; ++p) {
      for (std::int64_t w = 0; w < W; ++w) biases.push_back(bias.const_data_ptr<float>()[token_at(p, w)]);
    }
  }
  parallel_for_dynamic(
      ceil_div(P, block_rows), should_stop_,
      [&] {
        return Memory{.panels = aligned_bytes(gemm_.columns_bytes(stride)),
                      .coefficients = {},
                      .logits = block_of_logits(stride),
                      .workspace = nullptr};
      },
      [&](std::int64_t b, Memory& memory) {
        const std::int64_t first = b * block_rows, count = std::min(block_rows, P - first);
        auto* panels = memory.panels.mutable_data_ptr<std::uint8_t>();
        gemm_.pack_columns(
            count * W, [&](std::int64_t column) { return token_at(first + column / W, column % W); }, panels);
        for (std::int64_t s = 0; s < S; ++s) {
          gemm_.multiply(block_of(gemm_, rows, b, s), count, panels, count * W, memory.logits.data(), stride);
          for (std::int64_t i = 0; i < count; ++i) {
            float* out = to + (s * P + first + i) * W;
            std::copy_n(memory.logits.data() + i * stride + i * W, W, out);
            finish_logits(*kernel_.statistics, unembedding().transform,
                          biases.empty() ? nullptr : biases.data() + (first + i) * W, out, W);
          }
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
