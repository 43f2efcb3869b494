// Each tile adds q(v) times its logits and, with the slope of the transform, times its rows of the
// unembedding.
#include "depthlens/compute/expected_logits.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "compute/cpu/host_tile.hpp"
#include "compute/logit_tensors.hpp"
#include "compute/reducer.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::compute {
namespace {

class ExpectedLogitsReducer : public Reducer {
 public:
  ExpectedLogitsReducer(const VocabularyPass& pass, const at::Tensor& rows, const at::Tensor& distributions,
                        const at::Tensor& token_scale)
      : rows_(rows),
        distributions_(distributions),
        token_scale_(token_scale),
        transform_(pass.unembedding().transform),
        value_(at::zeros({rows.size(0)}, rows.options().dtype(at::kDouble))) {}

  Split split() const override { return Split::kRows; }
  bool wants_expected_rows() const override { return true; }

  void begin(const PassLayout& layout) override {
    layout_ = layout;
    // Products write whole blocks and panels.
    sums_ = at::zeros({util::round_up(rows_.size(0), layout.block_rows),
                       util::round_up(rows_.size(1), layout.panel_columns)},
                      at::kFloat);
  }

  std::unique_ptr<Workspace> make_workspace() const override {
    auto memory = std::make_unique<Memory>();
    memory->coefficients.resize(static_cast<std::size_t>(layout_.block_rows * layout_.max_width));
    return memory;
  }

  void add(HostTile& tile, Workspace* workspace) override {
    std::vector<float>& coefficients = static_cast<Memory&>(*workspace).coefficients;
    const float* logits = tile.logits(0);
    const float* scale = token_scale_.defined() ? token_scale_.const_data_ptr<float>() + tile.first : nullptr;
    for (int i = 0; i < tile.count; ++i) {
      const float* z = logits + i * tile.stride();
      const std::int64_t row = tile.begin + i;
      const float* q = distributions_.const_data_ptr<float>() +
                       row % distributions_.size(0) * distributions_.size(1) + tile.first;
      float* c = coefficients.data() + static_cast<std::int64_t>(i) * tile.width;
      double sum = 0;
      for (int v = 0; v < tile.width; ++v) {
        sum += static_cast<double>(q[v]) * z[v];
        c[v] = q[v] * slope(transform_, z[v]) * (scale != nullptr ? scale[v] : 1.0F);
      }
      value_.mutable_data_ptr<double>()[row] += sum;
    }
    tile.add_expected_rows(coefficients.data(), sums_.mutable_data_ptr<float>() + tile.begin * sums_.size(1),
                           sums_.size(1));
  }

  void add(DeviceTile& tile) override {
    const at::Tensor q = distributions_.narrow(1, tile.first, tile.width());
    const at::Tensor by_row = q.repeat({rows_.size(0) / q.size(0), 1});  // [R, width]
    value_.add_((by_row * tile.logits()).sum(1, /*keepdim=*/false, at::kDouble));
    at::Tensor coefficients = by_row * slope(transform_, tile.logits());
    if (token_scale_.defined())
      coefficients =
          coefficients * token_scale_.narrow(0, tile.first, tile.width()).to(coefficients.scalar_type());
    const at::Tensor sums = tile.times_weights(coefficients);  // [R, d]
    sums_ = sums_.defined() ? sums_ + sums : sums;
  }

  ExpectedLogits values() const {
    return {.value = value_, .gradient = sums_.narrow(0, 0, rows_.size(0)).narrow(1, 0, rows_.size(1))};
  }

 private:
  struct Memory : Workspace {
    std::vector<float> coefficients;  // [block_rows, width]
  };

  const at::Tensor& rows_;           // [R, d]
  const at::Tensor& distributions_;  // [P, V]
  at::Tensor token_scale_;
  LogitTransform transform_;
  PassLayout layout_ = {};
  at::Tensor value_, sums_;  // [R], [≥ R, ≥ d]
};

}  // namespace

ExpectedLogits expected_logits(const VocabularyPass& pass, const at::Tensor& rows,
                               const at::Tensor& distributions, const at::Tensor& token_scale) {
  DEPTHLENS_ASSERT(distributions.is_contiguous() && distributions.size(1) == pass.vocab_size() &&
                   rows.size(0) % distributions.size(0) == 0 &&
                   distributions.scalar_type() == rows.scalar_type());
  const at::Tensor scale = token_scale.defined() ? token_scale.to(at::kFloat).contiguous() : token_scale;
  ExpectedLogitsReducer reducer(pass, rows, distributions, scale);
  pass.run(pass.pack(rows, 1), reducer);
  return reducer.values();
}

}  // namespace depthlens::compute
