// Products and passes of libtorch's operations.
#include "compute/aten/aten_backend.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "compute/logit_tensors.hpp"
#include "compute/reducer.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::compute {
namespace {

constexpr std::int64_t kTile = 2048;  // tokens; a tile of 1,000 rows is 8 MB

/// On processors float32 goes to oneDNN, which sums every element in the same order whatever stands beside
/// it; MKL, libtorch's default, splits long sums among threads when rows are few.
at::Tensor library_product(const at::Tensor& x, const at::Tensor& weight) {
  using Product =
      at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
                 c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto found = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  if (!found || !x.device().is_cpu() || x.scalar_type() != at::kFloat || !weight.is_contiguous())
    return at::linear(x, weight);
  static const auto one_dnn = found->typed<Product>();
  return one_dnn.call(x, weight, std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), std::nullopt);
}

class AtenPass : public VocabularyPass {
 public:
  explicit AtenPass(const Unembedding& unembedding) : VocabularyPass(unembedding) {}

  std::string kernel_name() const override { return "aten"; }
  std::string products() const override { return "float32"; }

  StateRows pack(const at::Tensor& rows, std::int64_t num_states) const override {
    return StateRows::of(rows, {}, num_states);
  }

  void run(const StateRows& rows, Reducer& reducer) const override {
    const std::int64_t V = vocab_size();
    for (std::int64_t first = 0; first < V; first += kTile) {
      const std::int64_t width = std::min(kTile, V - first);
      const at::Tensor weights = unembedding().weight.narrow(0, first, width).to(rows.values.scalar_type());
      at::Tensor logits = aten_product(rows.values, weights);  // [S · P, width]
      const at::Tensor& bias = unembedding().bias;
      finish_logits(logits, bias.defined() ? bias.narrow(0, first, width) : bias, unembedding().transform);
      DeviceTile tile(std::move(logits), first);
      tile.times_weights = [&](const at::Tensor& coefficients) { return at::mm(coefficients, weights); };
      reducer.add(tile);
    }
  }

  at::Tensor gather(const StateRows& rows, const std::vector<TokenId>& tokens) const override {
    const std::int64_t S = rows.num_states, P = rows.num_positions, d = rows.values.size(1);
    const auto W = static_cast<std::int64_t>(tokens.size()) / P;
    std::vector<std::int64_t> columns;
    for (const TokenId token : tokens) columns.push_back(std::max<TokenId>(0, token));
    const at::Tensor ids = copied_to(rows.values.device(), at::from_blob(columns.data(), {P * W}, at::kLong));
    const at::Tensor weights =
        unembedding().weight.index_select(0, ids).to(rows.values.scalar_type()).view({P, W, d});
    at::Tensor logits = at::bmm(rows.values.view({S, P, d}).transpose(0, 1), weights.transpose(1, 2))
                            .transpose(0, 1)
                            .contiguous();
    const at::Tensor& bias = unembedding().bias;
    finish_logits(logits, bias.defined() ? bias.index_select(0, ids).view({P, W}) : bias,
                  unembedding().transform);
    return logits;
  }

  std::uint64_t working_memory(std::int64_t num_states, std::int64_t num_positions) const override {
    return sizeof(float) *
           static_cast<std::uint64_t>(4 * num_states * num_positions * std::min(kTile, vocab_size()));
  }

  std::int64_t logit_stride() const override { return vocab_size(); }
  const RowStatistics* row_statistics() const override { return nullptr; }
};

class AtenBackend : public Backend {
 public:
  AtenBackend(const BackendOptions& options, at::Device device) : Backend(options, device) {}

  std::string kernel_name(Precision /*precision*/) const override { return "aten"; }
  WorkSizes work_sizes() const override {
    WorkSizes sizes;
    if (!device().is_cpu()) sizes.attention_padding = 2;
    return sizes;
  }
  bool multiplies_stored(at::ScalarType /*type*/) const override { return false; }
  PackedRows pack(const at::Tensor& rows, Precision precision) const override {
    return {.values = rows, .precision = precision, .blocks = {}};
  }
  std::unique_ptr<VocabularyPass> vocabulary_pass(const Unembedding& unembedding,
                                                  Precision /*precision*/) const override {
    return make_aten_pass(unembedding);
  }

 protected:
  at::Tensor product(const PackedRows& rows, const at::Tensor& weight, Way way) const override {
    return aten_linear(rows.values, weight, way);
  }

  bool takes_fewer_bits(Precision /*precision*/) const override { return false; }
};

}  // namespace

at::Tensor aten_product(const at::Tensor& x, const at::Tensor& weight) {
  // Products of one or a few rows take other code paths in the libraries, whose sums differ in the last
  // bits. With a minimum of rows a window gives the same bits alone and among others. In float64 there are
  // only the few rows of a check, always as many.
  constexpr std::int64_t kMinRows = 32;
  const std::int64_t rows = x.size(0);
  if (rows >= kMinRows || x.scalar_type() == at::kDouble) return library_product(x, weight);
  return library_product(at::constant_pad_nd(x, {0, 0, 0, kMinRows - rows}), weight).narrow(0, 0, rows);
}

at::Tensor aten_linear(const at::Tensor& x, const at::Tensor& weight, Way way) {
  const at::Tensor converted = weight.to(x.scalar_type());
  const at::Tensor y = aten_product(x, way == Way::kForward ? converted : converted.t());
  return y.scalar_type() == at::kDouble ? y : y.to(at::kFloat);
}

std::unique_ptr<VocabularyPass> make_aten_pass(const Unembedding& unembedding) {
  return std::make_unique<AtenPass>(unembedding);
}

std::shared_ptr<const Backend> make_aten_backend(const BackendOptions& options, at::Device device) {
  return std::make_shared<AtenBackend>(options, device);
}

}  // namespace depthlens::compute
