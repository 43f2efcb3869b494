// The statistics of a chunk on the processor: slices of the vocabulary keep sums of their own, which are put
// together in the order of the slices.
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "compute/cpu/host_tile.hpp"
#include "compute/reducers/statistics_reducer.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::compute {
namespace {

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

/// What one slice of the vocabulary adds to each row.
struct SliceSums {
  /// What every tile changes: one line of the cache.
  struct alignas(64) Row {
    RowState state;
    std::int32_t num_best = 0;
  };
  std::vector<Row> rows;  // [R]
  // Uninitialised beyond `num_best`: most rows have few of their best in a slice, and what is never touched
  // costs no memory.
  std::unique_ptr<double[]> top_logits;  // [R, K]
  std::unique_ptr<TokenId[]> top_ids;    // [R, K]
  std::vector<std::int64_t> greater;     // [R, W]
  std::vector<double> mass;              // [R, G], relative to the row's m
};

/// The final layer's maximum at each position; the first token that has it is watched there.
std::vector<float> find_final_max(const StatisticsChunk& chunk, const RowStatistics& statistics,
                                  std::int64_t vocab_size, std::vector<TokenId>& watched) {
  std::vector<float> final_max(sized(chunk.P()));
  at::parallel_for(0, chunk.P(), 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      const float* row = chunk.final_logits.row(0, p);
      float most = row[0];
      for (std::int64_t v = 0; v < vocab_size; v += kMaxTile) {
        const auto n = static_cast<int>(std::min<std::int64_t>(kMaxTile, vocab_size - v));
        most = std::max(most, statistics.max(row + v, n));
      }
      const int best = statistics.find_at_least(row, 0, static_cast<int>(vocab_size), most);
      watched[sized(p * chunk.W())] = best < vocab_size ? best : 0;  // or NaN: reported at the end
      final_max[sized(p)] = most;
    }
  });
  return final_max;
}

class HostStatistics : public StatisticsReducer {
 public:
  HostStatistics(const VocabularyPass& pass, const StatisticsChunk& chunk)
      : chunk_(chunk),
        watched_(chunk.input.watched),
        final_max_(find_final_max(chunk, *pass.row_statistics(), pass.vocab_size(), watched_)),
        watched_logits_(pass.gather(chunk.rows, watched_).contiguous()),
        watched_values_(watched_logits_.const_data_ptr<float>()),
        bars_(chunk.S() * chunk.P()) {}

  Split split() const override { return Split::kBoth; }

  // Sums of each slice are kept apart: many slices take memory and time to put together.
  std::int64_t min_slice_tokens() const override { return kSliceTokens; }

  void begin(const PassLayout& layout) override {
    layout_ = layout;
    slices_.resize(sized(layout.num_slices));
    at::parallel_for(0, layout.num_slices, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) slices_[sized(i)] = empty_slice();
    });
    if (chunk_.kept != nullptr) chunk_.kept->begin(layout);
  }

  std::unique_ptr<Workspace> make_workspace() const override {
    auto memory = std::make_unique<Memory>();
    memory->final_shifted.resize(sized(layout_.block_rows * layout_.max_width));
    memory->final_exponentials.resize(memory->final_shifted.size());
    memory->exponentials.resize(sized(layout_.max_width));
    memory->final_sums.resize(sized(layout_.block_rows));
    return memory;
  }

  void add(HostTile& tile, Workspace* workspace) override;
  void add(DeviceTile& /*tile*/) override { DEPTHLENS_ASSERT(false); }

  Statistics finished() override;

 private:
  struct Memory : Workspace {
    std::vector<float> final_shifted, final_exponentials;  // [block_rows, max_width]
    std::vector<float> exponentials;                       // [max_width]
    std::vector<double> final_sums;                        // [block_rows], of the slice's tiles before
  };

  /// One row's logits of one tile, and the final layer's at the same position.
  struct TileOfRow {
    const float* logits;
    std::int64_t first;  // token
    int width;
    const float* final_shifted;
    const float* final_exponentials;
    double final_sum_before, final_sum;  // of the slice's tiles before this one, and with it
    TokenGroups::Range grouped;
  };

  SliceSums empty_slice() const {
    const std::int64_t R = chunk_.S() * chunk_.P();
    SliceSums sums{.rows = std::vector<SliceSums::Row>(sized(R)),
                   .top_logits = std::make_unique_for_overwrite<double[]>(sized(R * chunk_.K())),
                   .top_ids = std::make_unique_for_overwrite<TokenId[]>(sized(R * chunk_.K())),
                   .greater = std::vector<std::int64_t>(sized(R * chunk_.W())),
                   .mass = std::vector<double>(sized(R * chunk_.G()))};
    for (std::int64_t p = 0; p < chunk_.P(); ++p) sums.rows[sized(p)].state.m = final_max_[sized(p)];
    return sums;
  }

  void add_row(const RowStatistics& statistics, const TileOfRow& tile, std::int64_t row, SliceSums& sums,
               float* exponentials);

  const StatisticsChunk chunk_;
  std::vector<TokenId> watched_;  // [P, W]
  std::vector<float> final_max_;  // [P]
  at::Tensor watched_logits_;     // [S, P, W]
  const float* watched_values_;   // what it holds
  Bars bars_;
  PassLayout layout_ = {};
  std::vector<SliceSums> slices_;
};

void HostStatistics::add_row(const RowStatistics& statistics, const TileOfRow& tile, std::int64_t row,
                             SliceSums& sums, float* exponentials) {
  const std::int64_t K = chunk_.K(), W = chunk_.W(), G = chunk_.G(), p = row % chunk_.P();
  SliceSums::Row& kept = sums.rows[sized(row)];
  RowState& state = kept.state;
  double* mass = sums.mass.data() + row * G;
  const auto raise = [&](float greater, double final_sum) {
    const double scale = state.raise(greater, final_sum);
    for (std::int64_t g = 0; g < G; ++g) mass[g] *= scale;
  };
  const auto sums_of_tile = [&] {
    return statistics.sums(tile.logits, tile.width, state.m, tile.final_shifted, tile.final_exponentials,
                           exponentials);
  };
  // One reading gives the sums, relative to the maximum so far, and the new one.
  if (state.m == -std::numeric_limits<float>::infinity()) state.m = statistics.max(tile.logits, tile.width);
  TileSums added = sums_of_tile();
  if (added.max > state.m + kMaxExcess) {
    raise(added.max, tile.final_sum_before);
    added = sums_of_tile();
  }
  state.sum += added.sum;
  state.weighted += added.weighted;
  state.cross += added.cross;
  state.reverse += added.reverse;
  TokenGroups::add(tile.grouped, exponentials, tile.first, mass);
  if (added.max > state.m) raise(added.max, tile.final_sum);
  if (added.max >= bars_.of(row)) {
    BestTokens best(sums.top_logits.get() + row * K, sums.top_ids.get() + row * K, K);
    kept.num_best = static_cast<std::int32_t>(best.add_tile(
        statistics, tile.logits, tile.width, static_cast<TokenId>(tile.first), bars_.of(row), kept.num_best));
    if (kept.num_best == K) bars_.raise(row, static_cast<float>(best.last()));
  }
  const float* bars = watched_values_ + row * W;
  for (std::int64_t w = 0; w < W; ++w) {
    // Most tokens that are watched are near the top, and most tiles have nothing above them.
    if (watched_[sized(p * W + w)] == kNoToken || added.max <= bars[w]) continue;
    sums.greater[sized(row * W + w)] += statistics.count_greater(tile.logits, tile.width, bars[w]);
  }
}

void HostStatistics::add(HostTile& tile, Workspace* workspace) {
  auto& memory = static_cast<Memory&>(*workspace);
  const RowStatistics& statistics = tile.statistics();
  SliceSums& sums = slices_[sized(tile.slice)];
  const std::int64_t stride = layout_.max_width;
  const TokenGroups::Range grouped = chunk_.groups.range(tile.first, tile.width);
  const auto add = [&](const float* logits, std::int64_t i, std::int64_t state) {
    add_row(statistics,
            {.logits = logits,
             .first = tile.first,
             .width = tile.width,
             .final_shifted = memory.final_shifted.data() + i * stride,
             .final_exponentials = memory.final_exponentials.data() + i * stride,
             .final_sum_before = memory.final_sums[sized(i)],
             .final_sum = sums.rows[sized(tile.begin + i)].state.sum,
             .grouped = grouped},
            state * chunk_.P() + tile.begin + i, sums, memory.exponentials.data());
  };
  for (std::int64_t i = 0; i < tile.count; ++i) {
    const float* logits = chunk_.final_logits.row(0, tile.begin + i) + tile.first;
    statistics.shift_and_exp(logits, tile.width, final_max_[sized(tile.begin + i)],
                             memory.final_shifted.data() + i * stride,
                             memory.final_exponentials.data() + i * stride);
    memory.final_sums[sized(i)] = sums.rows[sized(tile.begin + i)].state.sum;
    add(logits, i, 0);
  }
  for (std::int64_t other = 0; other < tile.num_states(); ++other) {
    const std::int64_t first_row = (other + 1) * chunk_.P() + tile.begin;
    // There when the product is: blocks of rows have driven them out of the cache since the tile before.
    for (std::int64_t i = 0; i < tile.count; ++i) __builtin_prefetch(&sums.rows[sized(first_row + i)], 1);
    const float* logits;
    std::int64_t logit_stride = tile.stride();
    if (chunk_.kept != nullptr) {
      float* kept = chunk_.kept->row(other, tile.begin) + tile.first;
      logit_stride = chunk_.kept->stride();
      tile.write(other, kept, logit_stride);
      logits = kept;
    } else {
      logits = tile.logits(other);
    }
    for (std::int64_t i = 0; i < tile.count; ++i) add(logits + i * logit_stride, i, other + 1);
  }
}

Statistics HostStatistics::finished() {
  const std::int64_t S = chunk_.S(), P = chunk_.P(), R = S * P, K = chunk_.K(), W = chunk_.W(),
                     G = chunk_.G();
  Statistics out;
  out.watched = watched_;
  out.top_ids.resize(sized(R * K));
  out.top_logits.resize(sized(R * K));
  out.group_mass.assign(sized(R * G), 0);
  out.watched_ranks.assign(sized(R * W), 1);
  out.watched_logits.assign(watched_values_, watched_values_ + R * W);
  std::vector<RowState> states(sized(R));
  for (std::int64_t p = 0; p < P; ++p) states[sized(p)].m = final_max_[sized(p)];
  at::parallel_for(0, P, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      for (std::int64_t s = S - 1; s >= 0; --s) {
        const std::int64_t row = s * P + p;
        RowState& state = states[sized(row)];
        double* mass = out.group_mass.data() + row * G;
        std::int64_t found = 0;
        double final_sum = 0;  // of the slices before
        BestTokens best(out.top_logits.data() + row * K, out.top_ids.data() + row * K, K);
        for (SliceSums& sums : slices_) {
          RowState& part = sums.rows[sized(row)].state;
          const double part_final_sum = sums.rows[sized(p)].state.sum;
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
          for (std::int64_t k = 0; k < sums.rows[sized(row)].num_best; ++k)
            best.add(sums.top_logits[sized(row * K + k)], sums.top_ids[sized(row * K + k)], found);
          for (std::int64_t w = 0; w < W; ++w)
            out.watched_ranks[sized(row * W + w)] += sums.greater[sized(row * W + w)];
        }
      }
    }
  });
  finish(states, P, chunk_.groups, out);
  return out;
}

}  // namespace

std::unique_ptr<StatisticsReducer> make_host_statistics(const VocabularyPass& pass,
                                                        const StatisticsChunk& chunk) {
  return std::make_unique<HostStatistics>(pass, chunk);
}

}  // namespace depthlens::compute
