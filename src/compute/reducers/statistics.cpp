// All statistics of a chunk: the final layer's logits first, for its top-1 is watched at every other state
// and its maximum is the reference of C and D; then all other states beside it, tile by tile.
#include "depthlens/compute/statistics.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <optional>

#include "compute/cpu/host_tile.hpp"
#include "compute/reducer.hpp"
#include "compute/reducers/device_statistics.hpp"
#include "compute/reducers/kept_logits.hpp"
#include "compute/reducers/probability_sums.hpp"
#include "compute/reducers/row_state.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::compute {
namespace {

using util::ceil_div;

constexpr std::int64_t kSliceTokens = 2048;  // at least, for each of which a row has sums of its own

std::size_t sized(std::int64_t size) {
  return static_cast<std::size_t>(size);
}

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

/// What both forms read: the chunk, and what is known of its final layer.
struct Chunk {
  const StatisticsInput& input;
  const TokenGroups& groups;
  const KeptLogits& final_logits;
  KeptLogits* kept;              // the logits of the other states, where they are kept
  std::vector<TokenId> watched;  // [P, W]

  std::int64_t S() const { return input.num_states; }
  std::int64_t P() const { return input.num_positions; }
  std::int64_t K() const { return input.top_k; }
  std::int64_t W() const { return input.num_watched; }
  std::int64_t G() const { return groups.count(); }
  std::int64_t rows() const { return S() * P(); }
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

/// On the processor: slices keep sums of their own, which are put together in the order of the slices.
class HostStatistics : public Reducer {
 public:
  HostStatistics(const Chunk& chunk, std::vector<float> final_max, const at::Tensor& watched_logits)
      : chunk_(chunk),
        final_max_(std::move(final_max)),
        watched_logits_(watched_logits.contiguous()),
        watched_values_(watched_logits_.const_data_ptr<float>()),
        bars_(chunk.rows()) {}

  Split split() const override { return Split::kBoth; }

  // Sums of each slice are kept apart: many slices take memory and time to put together. Where very many best
  // or watched tokens or groups are kept, longer ones bound the memory.
  std::int64_t min_slice_tokens(std::int64_t vocab_size) const override {
    constexpr std::int64_t kMaxKept = 4 << 20;
    const std::int64_t most = std::max<std::int64_t>(
        1, kMaxKept / (chunk_.rows() * std::max({chunk_.K(), chunk_.W(), chunk_.G()})));
    return std::max(kSliceTokens, ceil_div(vocab_size, most));
  }

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

  Statistics merged();

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
    const std::int64_t R = chunk_.rows();
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

  const Chunk& chunk_;
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
    if (chunk_.watched[sized(p * W + w)] == kNoToken || added.max <= bars[w]) continue;
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

Statistics HostStatistics::merged() {
  const std::int64_t S = chunk_.S(), P = chunk_.P(), R = chunk_.rows(), K = chunk_.K(), W = chunk_.W(),
                     G = chunk_.G();
  Statistics out;
  out.watched = chunk_.watched;
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

/// The final layer's maximum, and the first token that has it, at each position.
std::vector<float> find_final_max(Chunk& chunk, const RowStatistics& statistics, std::int64_t vocab_size) {
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
      chunk.watched[sized(p * chunk.W())] = best < vocab_size ? best : 0;  // or NaN: reported at the end
      final_max[sized(p)] = most;
    }
  });
  return final_max;
}

/// The K best (logit, id) of each row seen so far, best first, the lower id first among equals.
class TopK {
 public:
  explicit TopK(std::int64_t k) : k_(k) {}

  /// `tile` [R, Vt] holds the logits of tokens first … first + Vt − 1; tiles come in ascending order.
  void add(const at::Tensor& tile, std::int64_t first) {
    auto [values, ids] = best_of(tile);
    ids = ids + first;
    if (!values_.defined()) {
      values_ = values;
      ids_ = ids;
      return;
    }
    // A stable sort of "earlier first" keeps the lower id ahead among equals.
    const auto joined = at::cat({values_, values}, 1);
    const auto [sorted, order] = at::sort(joined, /*stable=*/true, /*dim=*/1, /*descending=*/true);
    const std::int64_t kept = std::min(k_, joined.size(1));
    values_ = sorted.narrow(1, 0, kept);
    ids_ = at::cat({ids_, ids}, 1).gather(1, order.narrow(1, 0, kept));
  }

  const at::Tensor& values() const { return values_; }  // [R, K] float32
  const at::Tensor& ids() const { return ids_; }        // [R, K] int64

 private:
  std::pair<at::Tensor, at::Tensor> best_of(const at::Tensor& tile) const {
    const std::int64_t width = tile.size(1);
    // One more than wanted shows whether equals were left out: topk promises no order among them.
    const std::int64_t taken = std::min(k_ + 1, width);
    auto [values, ids] = at::topk(tile, taken, 1, /*largest=*/true, /*sorted=*/true);
    if (taken > k_) {
      const at::Tensor tied = values.select(1, k_ - 1) == values.select(1, k_);
      if (tied.any().item<bool>()) {
        const at::Tensor rows = tied.nonzero().select(1, 0);
        const auto [sorted, order] =
            at::sort(tile.index_select(0, rows), /*stable=*/true, 1, /*descending=*/true);
        values.index_copy_(0, rows, sorted.narrow(1, 0, taken));
        ids.index_copy_(0, rows, order.narrow(1, 0, taken));
      }
    }
    // Equal values inside the K: by id. Sorting by id first and then stably by value gives both orders.
    const at::Tensor kept_values = values.narrow(1, 0, std::min(k_, taken));
    const at::Tensor kept_ids = ids.narrow(1, 0, std::min(k_, taken));
    const auto [by_id, id_order] = at::sort(kept_ids, 1);
    const auto [sorted, order] =
        at::sort(kept_values.gather(1, id_order), /*stable=*/true, 1, /*descending=*/true);
    return {sorted, by_id.gather(1, order)};
  }

  std::int64_t k_;
  at::Tensor values_;
  at::Tensor ids_;
};

template <typename T>
std::vector<T> to_vector(const at::Tensor& tensor, at::ScalarType dtype) {
  const at::Tensor host = tensor.to(at::kCPU, dtype).contiguous();
  const T* data = host.const_data_ptr<T>();
  return {data, data + host.numel()};
}

/// On any device, with libtorch's operations.
class AtenStatistics : public DeviceStatistics {
 public:
  AtenStatistics(const Chunk& chunk, const at::Tensor& final_max, const at::Tensor& watched_logits)
      : chunk_(chunk),
        device_(final_max.device()),
        final_logits_(chunk.final_logits.logits().select(0, 0)),
        final_max_(final_max),
        z_watched_(watched_logits.clone()),
        top_(chunk.K()) {
    watched_ = copied_to(device_, at::from_blob(const_cast<TokenId*>(chunk.watched.data()),
                                                {chunk.P(), chunk.W()}, at::kInt))
                   .to(at::kLong);
    greater_ = at::zeros({chunk.S(), chunk.P(), chunk.W()}, at::TensorOptions(at::kLong).device(device_));
    if (chunk.G() > 0) membership_ = chunk.groups.membership(device_);
  }

  void add(HostTile& /*tile*/, Workspace* /*workspace*/) override { DEPTHLENS_ASSERT(false); }
  void add(DeviceTile& others) override;
  Statistics finished() override;

 private:
  const Chunk& chunk_;
  at::Device device_;
  at::Tensor final_logits_;         // [P, V]
  at::Tensor final_max_;            // [P, 1]
  at::Tensor watched_;              // [P, W]
  at::Tensor z_watched_, greater_;  // [S, P, W]
  at::Tensor membership_;           // [V, G]
  // m float32, S, A, C, D float64: [S, P]; mass [S, P, G]
  at::Tensor m_, sum_, weighted_, cross_, reverse_, mass_;
  at::Tensor final_sum_;  // [P] Σ e^(z_f − m_f) over the tiles seen
  TopK top_;
};

void AtenStatistics::add(DeviceTile& others) {
  const std::int64_t S = chunk_.S(), P = chunk_.P(), W = chunk_.W(), first = others.first,
                     width = others.width();
  if (chunk_.kept != nullptr && S > 1) chunk_.kept->add(others);
  const at::Tensor final_tile = final_logits_.narrow(1, first, width);  // [P, Vt]
  at::Tensor tile = at::cat({final_tile, others.logits()});             // [S · P, Vt]
  top_.add(tile, first);
  tile = tile.view({S, P, width});

  // Watched logits are of products of their own; the tile's own value takes their place, so that a token is
  // compared with others as they came out of the same product.
  const at::Tensor in_tile = watched_.ge(first).logical_and_(watched_.lt(first + width));  // [P, W]
  const at::Tensor place = (watched_ - first).clamp(0, width - 1).expand({S, P, W});
  const at::Tensor own = tile.gather(2, place);  // [S, P, W]
  for (std::int64_t w = 0; w < W; ++w) {
    const at::Tensor bar = z_watched_.select(2, w).unsqueeze(2);
    at::Tensor count = tile.gt(bar).sum(2);
    // The token itself never counts, though its own product may differ in the last bit.
    count.sub_(own.select(2, w).gt(bar.squeeze(2)).logical_and(in_tile.select(1, w)).to(at::kLong));
    greater_.select(2, w).add_(count);
  }
  z_watched_ = at::where(in_tile.unsqueeze(0), own, z_watched_);

  at::Tensor new_m = tile.amax(2);  // [S, P]
  if (m_.defined()) new_m = at::maximum(m_, new_m);
  // The final layer's maximum is known: with it from the start, its divergence from itself is exactly 0.
  new_m.select(0, 0).copy_(final_max_.squeeze(1));
  tile.sub_(new_m.unsqueeze(2));
  const at::Tensor e = tile.exp();
  const at::Tensor final_shifted = final_tile - final_max_;  // [P, Vt]
  const at::Tensor final_e = final_shifted.exp();
  const at::Tensor tile_sum = e.sum(2).to(at::kDouble);
  const at::Tensor tile_weighted = (e * tile).sum(2).to(at::kDouble);
  const at::Tensor tile_cross = (tile * final_e).sum(2).to(at::kDouble);
  const at::Tensor tile_reverse = (e * final_shifted).sum(2).to(at::kDouble);
  const at::Tensor tile_final_sum = final_e.sum(1).to(at::kDouble);
  at::Tensor tile_mass;
  if (membership_.defined()) tile_mass = at::matmul(e, membership_.narrow(0, first, width)).to(at::kDouble);
  if (!m_.defined()) {
    sum_ = tile_sum;
    weighted_ = tile_weighted;
    cross_ = tile_cross;
    reverse_ = tile_reverse;
    final_sum_ = tile_final_sum;
    mass_ = tile_mass;
  } else {
    const at::Tensor shift = (m_ - new_m).to(at::kDouble);
    const at::Tensor scale = shift.exp();
    weighted_ = scale * (weighted_ + shift * sum_) + tile_weighted;
    sum_ = scale * sum_ + tile_sum;
    cross_ = cross_ + shift * final_sum_ + tile_cross;
    reverse_ = scale * reverse_ + tile_reverse;
    final_sum_ = final_sum_ + tile_final_sum;
    if (mass_.defined()) mass_ = scale.unsqueeze(2) * mass_ + tile_mass;
  }
  m_ = new_m;
}

Statistics AtenStatistics::finished() {
  const at::Tensor log_sum = sum_.log();  // [S, P]
  const at::Tensor log_sum_exp = m_.to(at::kDouble) + log_sum;
  const at::Tensor mean_logprob = weighted_ / sum_ - log_sum;  // Σ p log p
  const at::Tensor final_mean_logprob = mean_logprob.select(0, 0);
  const at::Tensor kl_final = final_mean_logprob - (cross_ / sum_.select(0, 0) - log_sum);
  const at::Tensor kl_reverse = mean_logprob - (reverse_ / sum_ - log_sum.select(0, 0));
  Statistics out;
  out.watched = chunk_.watched;
  out.top_ids = to_vector<TokenId>(top_.ids(), at::kInt);
  out.top_logits = to_vector<double>(top_.values(), at::kDouble);
  out.log_sum_exp = to_vector<double>(log_sum_exp, at::kDouble);
  out.entropy = to_vector<double>(mean_logprob.neg(), at::kDouble);
  out.kl_final = to_vector<double>(kl_final, at::kDouble);
  out.kl_reverse = to_vector<double>(kl_reverse, at::kDouble);
  out.watched_ranks = to_vector<std::int64_t>(greater_ + 1, at::kLong);
  out.watched_logits = to_vector<double>(z_watched_, at::kDouble);
  if (mass_.defined()) out.group_mass = to_vector<double>(mass_ / sum_.unsqueeze(2), at::kDouble);
  return out;
}

/// Sets the rank of every watched token that is among the top K by its place there, and 0 where there is no
/// token: a watched logit may be of a product of its own, but a row's top-1 always has rank 1.
void rank_by_top_k(std::int64_t num_states, Statistics& output) {
  const auto R = static_cast<std::int64_t>(output.log_sum_exp.size()), P = R / num_states,
             W = static_cast<std::int64_t>(output.watched.size()) / P,
             K = static_cast<std::int64_t>(output.top_ids.size()) / R;
  for (std::int64_t row = 0, p = 0; row < R; ++row, p = p + 1 == P ? 0 : p + 1) {
    const TokenId* ids = output.top_ids.data() + row * K;
    const double* logits = output.top_logits.data() + row * K;
    for (std::int64_t w = 0; w < W; ++w) {
      const TokenId token = output.watched[sized(p * W + w)];
      std::int64_t& rank = output.watched_ranks[sized(row * W + w)];
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

}  // namespace

util::Error out_of_memory(at::Device device, std::int64_t num_states, std::int64_t num_positions) {
  return util::input_error({.what = "the device's memory does not suffice for the decoder",
                            .where = "--device " + device.str(),
                            .found = util::cat(num_states, " states at ", num_positions, " positions"),
                            .hint =
                                "other programs may hold some of it (nvidia-smi); --stream-layers keeps no "
                                "blocks there, --dtype bfloat16 halves those of float32"});
}

StatisticsDecoder::StatisticsDecoder(const VocabularyPass& pass,
                                     const std::vector<std::uint8_t>& token_groups, std::int64_t num_groups,
                                     std::uint64_t memory)
    : pass_(pass), groups_(std::make_unique<TokenGroups>(token_groups, num_groups)), memory_(memory) {
  DEPTHLENS_ASSERT(num_groups == 0 || static_cast<std::int64_t>(token_groups.size()) == pass.vocab_size());
}

StatisticsDecoder::~StatisticsDecoder() = default;

std::uint64_t StatisticsDecoder::working_memory(std::int64_t num_states, std::int64_t num_positions) const {
  constexpr std::int64_t kSumsOfRow = 400;  // bytes, with ten best tokens
  const std::int64_t slices = ceil_div(pass_.vocab_size(), kSliceTokens);
  return pass_.working_memory(num_states, num_positions) +
         static_cast<std::uint64_t>(4 * num_positions * pass_.logit_stride() +
                                    num_states * num_positions * slices * kSumsOfRow);
}

std::int64_t StatisticsDecoder::positions_to_keep(std::int64_t num_states) const {
  return static_cast<std::int64_t>(memory_) /
         (4 * std::max<std::int64_t>(1, num_states - 1) * pass_.logit_stride());
}

PendingStatistics StatisticsDecoder::begin(const StatisticsInput& input, ProbabilitySums* sums) const {
  const std::int64_t S = input.num_states, P = input.num_positions;
  DEPTHLENS_ASSERT(input.rows.size(0) == S * P &&
                   static_cast<std::int64_t>(input.watched.size()) == P * input.num_watched);
  const StateRows rows = pass_.pack(input.rows, S);
  const StateRows final_rows = rows.states(0, 1), others = rows.states(1, S - 1);
  KeptLogits final_logits(pass_, final_rows);
  pass_.run(final_rows, final_logits);
  std::optional<KeptLogits> kept;
  if (sums != nullptr && P <= positions_to_keep(S)) kept.emplace(pass_, others);
  Chunk chunk{.input = input,
              .groups = *groups_,
              .final_logits = final_logits,
              .kept = kept ? &*kept : nullptr,
              .watched = input.watched};
  const RowStatistics* on_host = pass_.row_statistics();
  const auto done = std::make_shared<Statistics>();
  Statistics& out = *done;
  if (on_host != nullptr) {
    std::vector<float> final_max = find_final_max(chunk, *on_host, pass_.vocab_size());
    HostStatistics reducer(chunk, std::move(final_max), pass_.gather(rows, chunk.watched));
    pass_.run(others, reducer);
    out = reducer.merged();
  } else if (const std::shared_ptr<DeviceStatistics> own =
                 pass_.device_statistics({.input = input,
                                          .groups = *groups_,
                                          .rows = rows,
                                          .final_logits = final_logits,
                                          .kept = chunk.kept})) {
    pass_.run(others, *own);
    own->end();
    if (sums == nullptr) {
      return [own, S] {
        Statistics found = own->finished();
        rank_by_top_k(S, found);
        return found;
      };
    }
    out = own->finished();
  } else {
    const at::Tensor all = final_logits.logits().select(0, 0), top = all.argmax(1);  // [P]
    const auto tokens = to_vector<std::int64_t>(top, at::kLong);
    for (std::int64_t p = 0; p < P; ++p)
      chunk.watched[sized(p * input.num_watched)] = static_cast<TokenId>(tokens[sized(p)]);
    AtenStatistics reducer(chunk, all.gather(1, top.unsqueeze(1)), pass_.gather(rows, chunk.watched));
    pass_.run(others, reducer);
    out = reducer.finished();
  }
  rank_by_top_k(S, out);
  const PendingStatistics ready = [done] { return std::move(*done); };
  if (sums == nullptr) return ready;

  const std::span<const double> log_sum_exp = out.log_sum_exp;
  try {
    ProbabilityReducer(*sums, 0, log_sum_exp.first(sized(P)), P).add_kept(final_logits, on_host);
    if (S == 1) return ready;
    ProbabilityReducer of_others(*sums, 1, log_sum_exp.subspan(sized(P)), P);
    if (kept) {
      of_others.add_kept(*kept, on_host);
    } else {
      of_others.add_all(pass_, others);
    }
  } catch (const c10::OutOfMemoryError&) {
    throw out_of_memory(input.rows.device(), S, P);  // with fewer positions some would be added twice
  }
  return ready;
}

}  // namespace depthlens::compute
