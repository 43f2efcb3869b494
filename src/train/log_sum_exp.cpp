// Log-sum-exp with gradient: the form for any device, and the one for processors.
//
// For processors the pass is fused: a tile of the unembedding is packed, then every block of rows takes its
// logits, their exponentials and the product of these with the same tile while all of it is in the cache.
// With m the greatest logit of a row so far, S = Σ e^(z − m) and A = Σ e^(z − m) w are kept; when m grows,
// both are scaled. Nothing of the size [R, V] exists, and no logit is computed twice.
#include "depthlens/train/log_sum_exp.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "depthlens/decode/row_statistics.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/model/small_products.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::train {
namespace {

class AtenLogSumExp : public LogSumExp {
 public:
  AtenLogSumExp(const model::OutputHead& head, at::Tensor token_scale)
      : head_(head), token_scale_(std::move(token_scale)) {}

  std::string products() const override { return "the rows' own"; }

  LogSumExpValues evaluate(const at::Tensor& rows, std::int64_t num_gradients) const override {
    constexpr std::int64_t kTile = 2048;
    const std::int64_t V = head_.unembedding.size(0);
    at::Tensor m, sum, weighted, top;
    for (std::int64_t first = 0; first < V; first += kTile) {
      const std::int64_t width = std::min(kTile, V - first);
      const at::Tensor weight = head_.unembedding.narrow(0, first, width).to(rows.scalar_type());
      at::Tensor z = at::mm(rows, weight.t());  // [R, Vt]
      if (head_.bias.defined()) z.add_(head_.bias.narrow(0, first, width));
      const auto [tile_max, tile_top] = z.max(1);  // the first of equals
      const at::Tensor new_m = m.defined() ? m.maximum(tile_max) : tile_max;
      at::Tensor e = z.sub_(new_m.unsqueeze(1)).exp_();
      const at::Tensor tile_sum = e.sum(1, false, at::kDouble);
      if (token_scale_.defined()) e = e * token_scale_.narrow(0, first, width).to(rows.scalar_type());
      const at::Tensor tile_weighted = at::mm(e.narrow(0, 0, num_gradients), weight);  // [G, d]
      if (m.defined()) {
        const at::Tensor scale = (m - new_m).exp();
        top = at::where(tile_max > m, tile_top + first, top);
        sum = sum * scale + tile_sum;
        weighted = weighted * scale.narrow(0, 0, num_gradients).unsqueeze(1) + tile_weighted;
      } else {
        top = tile_top;
        sum = tile_sum;
        weighted = tile_weighted;
      }
      m = new_m;
    }
    return {.value = m.to(at::kDouble) + sum.log(),
            .gradient = weighted / sum.narrow(0, 0, num_gradients).unsqueeze(1).to(rows.scalar_type()),
            .top = top};
  }

 private:
  const model::OutputHead& head_;
  at::Tensor token_scale_;
};

constexpr std::int64_t kTile = 256;         // tokens; their packed weights, twice, fit the second-level cache
constexpr std::int64_t kTilesOfGroup = 16;  // packed together: threads wait for each other once a group
constexpr std::int64_t kBlocksAtOnce = 8;   // blocks of rows for which a thread keeps a tile in its cache
constexpr std::int64_t kPanel = model::kPanel;
constexpr std::int64_t kRows = model::kRowsAtOnce;
using util::rounded_up;
static_assert(kTile <= decode::kLongestTile && kTile % kPanel == 0);

/// T: float, or at::BFloat16, whose products sum pairs and so want pairs of rows interleaved.
template <typename T>
class CpuLogSumExp : public LogSumExp {
 public:
  CpuLogSumExp(const model::OutputHead& head, const at::Tensor& token_scale)
      : head_(head), statistics_(decode::row_statistics()) {
    if (token_scale.defined()) token_scale_ = token_scale.to(at::kFloat).contiguous();
  }

  std::string products() const override { return kPairs == 2 ? "bfloat16" : "float32"; }

  LogSumExpValues evaluate(const at::Tensor& rows, std::int64_t num_gradients) const override;

 private:
  static constexpr std::int64_t kPairs = model::kPairs<T>;

  struct Row {
    float m = -std::numeric_limits<float>::infinity();
    double sum = 0;
    std::int64_t top = 0;
  };
  struct Tile {
    std::int64_t first, width;
    std::vector<T> forward;   // [kTile / kPanel] panels of [d, kPanel]: wᵀ
    std::vector<T> backward;  // [d / kPanel] panels of [kTile, kPanel]: w, scaled
  };

  static T& packed(T* panel, std::int64_t k, std::int64_t n) {
    return panel[(k / kPairs * kPanel + n) * kPairs + k % kPairs];
  }

  void pack(Tile& tile, std::int64_t v) const;
  template <typename Weight>
  void pack_panel(Tile& tile, std::int64_t v, const Weight* unembedding) const;

  const model::OutputHead& head_;
  const decode::RowStatistics& statistics_;
  at::Tensor token_scale_;
};

/// Packs the kPanel tokens of the tile from its v-th on; beyond the vocabulary's end they are zeros.
template <typename T>
template <typename Weight>
void CpuLogSumExp<T>::pack_panel(Tile& tile, std::int64_t v, const Weight* unembedding) const {
  const std::int64_t d = head_.unembedding.size(1);
  const std::int64_t tokens = std::clamp<std::int64_t>(tile.width - v, 0, kPanel);
  const Weight* weights = unembedding + (tile.first + v) * d;
  const float* scale =
      token_scale_.defined() ? token_scale_.const_data_ptr<float>() + tile.first + v : nullptr;
  T* forward = tile.forward.data() + v * rounded_up(d, kPairs);
  if (tokens < kPanel) std::fill(forward, forward + kPanel * rounded_up(d, kPairs), T(0.0F));
  // A few columns at a time: their lines of the panel stay in the first-level cache for all tokens.
  constexpr std::int64_t kColumns = 16;
  for (std::int64_t first = 0; first < d; first += kColumns) {
    const std::int64_t width = std::min(kColumns, d - first);
    T* backward = tile.backward.data() + first / kPanel * kPanel * kTile;
    for (std::int64_t n = 0; n < kPanel; ++n) {
      T part[kColumns] = {};
      if (n < tokens) {
        const Weight* row = weights + n * d + first;
        for (std::int64_t k = 0; k < width; ++k) part[k] = static_cast<T>(row[k]);
        for (std::int64_t k = 0; k < width; ++k) packed(forward, first + k, n) = part[k];
        if (scale != nullptr) {
          for (std::int64_t k = 0; k < width; ++k)
            part[k] = static_cast<T>(static_cast<float>(row[k]) * scale[n]);
        }
      }
      for (std::int64_t k = 0; k < width; ++k) packed(backward, v + n, (first + k) % kPanel) = part[k];
    }
  }
}

template <typename T>
void CpuLogSumExp<T>::pack(Tile& tile, std::int64_t v) const {
  switch (head_.unembedding.scalar_type()) {
    case at::kFloat:
      return pack_panel(tile, v, head_.unembedding.const_data_ptr<float>());
    case at::kBFloat16:
      return pack_panel(tile, v, head_.unembedding.const_data_ptr<at::BFloat16>());
    case at::kHalf:
      return pack_panel(tile, v, head_.unembedding.const_data_ptr<at::Half>());
    default:
      DEPTHLENS_ASSERT(false);
  }
}

template <typename T>
LogSumExpValues CpuLogSumExp<T>::evaluate(const at::Tensor& input, std::int64_t num_gradients) const {
  const at::Tensor rows = input.to(at::kFloat).contiguous();
  const std::int64_t R = rows.size(0), d = rows.size(1), V = head_.unembedding.size(0);
  const std::int64_t padded_rows = rounded_up(R, kRows), padded_d = rounded_up(d, kPairs),
                     stride = rounded_up(d, kPanel);
  DEPTHLENS_ASSERT(head_.unembedding.is_contiguous() && head_.unembedding.size(1) == d);

  std::vector<T> states(static_cast<std::size_t>(padded_rows * padded_d));
  const float* values = rows.const_data_ptr<float>();
  at::parallel_for(0, R, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      T* state = states.data() + row * padded_d;
      for (std::int64_t k = 0; k < d; ++k) state[k] = static_cast<T>(values[row * d + k]);
    }
  });
  const std::int64_t gradient_rows = rounded_up(num_gradients, kRows);
  const at::Tensor weighted = at::zeros({gradient_rows, stride}, at::kFloat);  // A
  float* sums = weighted.mutable_data_ptr<float>();
  std::vector<Row> progress(static_cast<std::size_t>(padded_rows));
  const float* bias = head_.bias.defined() ? head_.bias.const_data_ptr<float>() : nullptr;

  std::vector<Tile> group(static_cast<std::size_t>(std::min(kTilesOfGroup, util::parts_of(V, kTile))));
  for (Tile& tile : group) {
    tile.forward.resize(static_cast<std::size_t>(kTile * padded_d));
    tile.backward.resize(static_cast<std::size_t>(kTile * stride));
  }
  const std::int64_t num_blocks = padded_rows / kRows;
  const int num_tasks = at::get_num_threads();

  const auto process_block = [&](const Tile& tile, std::int64_t block, float* logits, T* exponentials) {
    const T* block_states = states.data() + block * kRows * padded_d;
    const bool with_gradient = block * kRows < gradient_rows;
    float* block_sums = with_gradient ? sums + block * kRows * stride : nullptr;
    for (std::int64_t n = 0; n < tile.width; n += kPanel) {
      at::native::cpublas::brgemm(kRows, kPanel, padded_d, padded_d, kPanel, kTile, /*add_C=*/false,
                                  block_states, tile.forward.data() + n * padded_d, logits + n, kPairs == 2);
    }
    const auto width = static_cast<int>(tile.width);
    for (std::int64_t i = 0; i < kRows; ++i) {
      float* z = logits + i * kTile;
      if (bias != nullptr) {
        for (int v = 0; v < width; ++v) z[v] += bias[tile.first + v];
      }
      Row& row = progress[static_cast<std::size_t>(block * kRows + i)];
      const float tile_max = statistics_.max(z, width);
      if (tile_max > row.m) {
        row.top = tile.first + (std::find(z, z + width, tile_max) - z);
        if (tile.first > 0) {
          const double scale = std::exp(static_cast<double>(row.m) - tile_max);
          row.sum *= scale;
          if (with_gradient) {
            float* a = block_sums + i * stride;
            for (std::int64_t k = 0; k < d; ++k) a[k] *= static_cast<float>(scale);
          }
        }
        row.m = tile_max;
      }
      T* e = exponentials + i * kTile;
      if constexpr (kPairs == 1) {
        row.sum += statistics_.exponentials(z, width, row.m, e);
      } else {
        row.sum += statistics_.exponentials_bfloat16(z, width, row.m, reinterpret_cast<std::uint16_t*>(e));
      }
      std::fill(e + width, e + kTile, T(0.0F));
    }
    if (!with_gradient) return;
    for (std::int64_t n = 0; n < stride; n += kPanel) {
      at::native::cpublas::brgemm(kRows, kPanel, kTile, kTile, kPanel, stride, /*add_C=*/true, exponentials,
                                  tile.backward.data() + n * kTile, block_sums + n, kPairs == 2);
    }
  };

  for (std::int64_t first = 0; first < V; first += kTilesOfGroup * kTile) {
    std::int64_t num_tiles = 0;
    for (Tile& tile : group) {
      tile.first = first + num_tiles * kTile;
      tile.width = std::min(kTile, V - tile.first);
      if (tile.width <= 0) break;
      ++num_tiles;
    }
    constexpr std::int64_t kPanels = kTile / kPanel;
    at::parallel_for(0, num_tiles * kPanels, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        pack(group[static_cast<std::size_t>(i / kPanels)], i % kPanels * kPanel);
      }
    });
    // Blocks are dealt out as threads become free: with a fixed share each would wait for the slowest.
    std::atomic<std::int64_t> next = 0;
    at::parallel_for(0, num_tasks, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> logits(kRows * kTile);
      std::vector<T> exponentials(kRows * kTile);
      for (std::int64_t task = begin; task < end; ++task) {
        for (std::int64_t dealt = next.fetch_add(kBlocksAtOnce); dealt < num_blocks;
             dealt = next.fetch_add(kBlocksAtOnce)) {
          for (std::int64_t t = 0; t < num_tiles; ++t) {
            for (std::int64_t block = dealt; block < std::min(dealt + kBlocksAtOnce, num_blocks); ++block) {
              process_block(group[static_cast<std::size_t>(t)], block, logits.data(), exponentials.data());
            }
          }
        }
      }
      at::native::cpublas::brgemm_release(kPairs == 2);
    });
  }

  LogSumExpValues out{.value = at::empty({R}, at::kDouble),
                      .gradient = at::empty({num_gradients, d}, at::kFloat),
                      .top = at::empty({R}, at::kLong)};
  at::parallel_for(0, R, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const Row& state = progress[static_cast<std::size_t>(row)];
      out.value.mutable_data_ptr<double>()[row] = static_cast<double>(state.m) + std::log(state.sum);
      out.top.mutable_data_ptr<std::int64_t>()[row] = state.top;
      if (row >= num_gradients) continue;
      float* gradient = out.gradient.mutable_data_ptr<float>() + row * d;
      const double scale = 1 / state.sum;
      for (std::int64_t k = 0; k < d; ++k) gradient[k] = static_cast<float>(sums[row * stride + k] * scale);
    }
  });
  return out;
}

}  // namespace

std::unique_ptr<LogSumExp> make_aten_log_sum_exp(const model::OutputHead& head,
                                                 const at::Tensor& token_scale) {
  return std::make_unique<AtenLogSumExp>(head, token_scale);
}

std::unique_ptr<LogSumExp> make_log_sum_exp(const model::OutputHead& head, Products products,
                                            const at::Tensor& token_scale) {
  if (!head.unembedding.device().is_cpu()) return make_aten_log_sum_exp(head, token_scale);
  if (products == Products::kFastest && model::multiplies_bfloat16()) {
    return std::make_unique<CpuLogSumExp<at::BFloat16>>(head, token_scale);
  }
  return std::make_unique<CpuLogSumExp<float>>(head, token_scale);
}

}  // namespace depthlens::train
