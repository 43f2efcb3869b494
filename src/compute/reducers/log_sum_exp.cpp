// With m the greatest logit of a row so far, S = Σ e^(z − m) and A = Σ e^(z − m) w are kept; when m grows,
// both are scaled. Nothing of the size [R, V] exists, and no logit is computed twice.
#include "depthlens/compute/log_sum_exp.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "compute/cpu/host_tile.hpp"
#include "compute/logit_tensors.hpp"
#include "compute/reducer.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::compute {
namespace {

class LogSumExpReducer : public Reducer {
 public:
  LogSumExpReducer(const VocabularyPass& pass, const at::Tensor& rows, std::int64_t num_gradients,
                   const at::Tensor& token_scale)
      : rows_(rows),
        num_gradients_(num_gradients),
        token_scale_(token_scale),
        transform_(pass.unembedding().transform) {}

  Split split() const override { return Split::kRows; }
  bool wants_expected_rows() const override { return num_gradients_ > 0; }

  void begin(const PassLayout& layout) override {
    layout_ = layout;
    host_rows_.resize(static_cast<std::size_t>(rows_.size(0)));
    // Products write whole blocks and panels.
    stride_ = util::round_up(rows_.size(1), layout.panel_columns);
    weighted_ = at::zeros({util::round_up(num_gradients_, layout.block_rows), stride_}, at::kFloat);
  }

  std::unique_ptr<Workspace> make_workspace() const override {
    auto memory = std::make_unique<Memory>();
    memory->exponentials.resize(static_cast<std::size_t>(layout_.block_rows * layout_.max_width));
    return memory;
  }

  void add(HostTile& tile, Workspace* workspace) override;
  void add(DeviceTile& tile) override;

  /// Once, at the end.
  LogSumExpValues values() { return there_.m.defined() ? device_values() : host_values(); }

 private:
  struct HostRow {
    float m = -std::numeric_limits<float>::infinity();
    double sum = 0;
    std::int64_t top = 0;
  };
  struct Memory : Workspace {
    std::vector<float> exponentials;  // [block_rows, width]
  };

  LogSumExpValues host_values();
  LogSumExpValues device_values() const {
    const auto& [m, top, sum, expected, token_scale] = there_;
    return {.value = m.to(at::kDouble) + sum.log(),
            .gradient = expected / sum.narrow(0, 0, num_gradients_).unsqueeze(1).to(rows_.scalar_type()),
            .top = top};
  }

  const at::Tensor& rows_;  // [R, d]
  std::int64_t num_gradients_;
  at::Tensor token_scale_;
  LogitTransform transform_;
  // On the processor.
  PassLayout layout_ = {};
  std::int64_t stride_ = 0;
  std::vector<HostRow> host_rows_;
  at::Tensor weighted_;  // A [≥ G, stride]
  // On a device; libtorch's operations keep it in the rows' type.
  SoftmaxRows there_;
};

/// Σ of each row in float64, [R]; of float32 by blocks of columns, so that none of them is widened first.
at::Tensor sum_of_rows(const at::Tensor& x) {
  constexpr std::int64_t kBlock = 64;
  if (x.scalar_type() == at::kDouble) return x.sum(1);
  const std::int64_t width = x.size(1), blocks = width / kBlock, rest = width % kBlock;
  at::Tensor sum = x.narrow(1, 0, blocks * kBlock)
                       .unflatten(1, {blocks, kBlock})
                       .sum(2)
                       .sum(1, /*keepdim=*/false, at::kDouble);
  if (rest > 0) sum.add_(x.narrow(1, blocks * kBlock, rest).sum(1));
  return sum;
}

void LogSumExpReducer::add(HostTile& tile, Workspace* workspace) {
  auto& memory = static_cast<Memory&>(*workspace);
  const RowStatistics& statistics = tile.statistics();
  const int width = tile.width;
  const std::int64_t d = rows_.size(1);
  const bool with_gradient = tile.begin < num_gradients_;
  float* const sums = with_gradient ? weighted_.mutable_data_ptr<float>() + tile.begin * stride_ : nullptr;
  const float* scale = token_scale_.defined() ? token_scale_.const_data_ptr<float>() + tile.first : nullptr;
  const float* logits = tile.logits(0);
  for (int i = 0; i < tile.count; ++i) {
    const float* z = logits + i * tile.stride();
    HostRow& row = host_rows_[static_cast<std::size_t>(tile.begin + i)];
    const float tile_max = statistics.max(z, width);
    if (tile_max > row.m) {
      row.top = tile.first + statistics.find_at_least(z, 0, width, tile_max);
      if (tile.first > 0) {
        const double factor = std::exp(static_cast<double>(row.m) - tile_max);
        row.sum *= factor;
        if (with_gradient) {
          float* a = sums + i * stride_;
          for (std::int64_t k = 0; k < d; ++k) a[k] *= static_cast<float>(factor);
        }
      }
      row.m = tile_max;
    }
    float* e = memory.exponentials.data() + static_cast<std::int64_t>(i) * width;
    row.sum += statistics.exponentials(z, width, row.m, e);
    if (!with_gradient) continue;
    if (scale != nullptr) {
      for (int v = 0; v < width; ++v) e[v] *= scale[v];
    }
    if (transform_.is_identity()) continue;
    for (int v = 0; v < width; ++v) e[v] *= slope(transform_, z[v]);
  }
  if (with_gradient) tile.add_expected_rows(memory.exponentials.data(), sums, stride_);
}

void LogSumExpReducer::add(DeviceTile& tile) {
  const at::Tensor& z = tile.logits();
  auto& [m, top, sum, expected, token_scale] = there_;
  if (!m.defined()) {
    const std::int64_t R = rows_.size(0);
    m = at::full({R}, -std::numeric_limits<double>::infinity(), z.options());
    top = at::zeros({R}, z.options().dtype(at::kLong));
    sum = at::zeros({R}, z.options().dtype(at::kDouble));
    expected = at::zeros({num_gradients_, rows_.size(1)}, z.options());
    token_scale = token_scale_;
  }
  if (tile.soften && tile.soften(there_)) return;
  const auto [tile_max, tile_top] = z.max(1);  // the first of equals
  const at::Tensor new_m = m.maximum(tile_max), factor = (m - new_m).exp();
  top = at::where(tile_max > m, tile_top + tile.first, top);
  m = new_m;
  at::Tensor slopes;
  if (transform_.soft_cap > 0) slopes = slope(transform_, z.narrow(0, 0, num_gradients_));
  const at::Tensor e = z.sub_(m.unsqueeze(1)).exp_();
  sum = sum * factor + sum_of_rows(e);
  if (num_gradients_ == 0) return;
  at::Tensor coefficients = e.narrow(0, 0, num_gradients_);
  if (token_scale.defined())
    coefficients = coefficients * token_scale.narrow(0, tile.first, tile.width()).to(z.scalar_type());
  if (slopes.defined()) {
    coefficients = coefficients * slopes;
  } else if (transform_.scale != 1) {
    coefficients = coefficients * transform_.scale;
  }
  expected.mul_(factor.narrow(0, 0, num_gradients_).unsqueeze(1)).add_(tile.times_weights(coefficients));
}

LogSumExpValues LogSumExpReducer::host_values() {
  const std::int64_t R = rows_.size(0), d = rows_.size(1);
  // The sums become the gradient where they lie.
  LogSumExpValues out{.value = at::empty({R}, at::kDouble),
                      .gradient = weighted_.narrow(0, 0, num_gradients_).narrow(1, 0, d),
                      .top = at::empty({R}, at::kLong)};
  auto* const sums = weighted_.mutable_data_ptr<float>();
  at::parallel_for(0, R, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const HostRow& state = host_rows_[static_cast<std::size_t>(row)];
      out.value.mutable_data_ptr<double>()[row] = static_cast<double>(state.m) + std::log(state.sum);
      out.top.mutable_data_ptr<std::int64_t>()[row] = state.top;
      if (row >= num_gradients_) continue;
      float* gradient = sums + row * stride_;
      const double factor = 1 / state.sum;
      for (std::int64_t k = 0; k < d; ++k) gradient[k] = static_cast<float>(gradient[k] * factor);
    }
  });
  return out;
}

}  // namespace

LogSumExpValues log_sum_exp(const VocabularyPass& pass, const at::Tensor& rows, std::int64_t num_gradients,
                            const at::Tensor& token_scale) {
  DEPTHLENS_ASSERT(num_gradients >= 0 && num_gradients <= rows.size(0));
  const at::Tensor scale = token_scale.defined() ? token_scale.to(at::kFloat).contiguous() : token_scale;
  LogSumExpReducer reducer(pass, rows, num_gradients, scale);
  pass.run(pass.pack(rows, 1), reducer);
  return reducer.values();
}

}  // namespace depthlens::compute
