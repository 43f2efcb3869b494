// The pass over the vocabulary on a card: tile after tile by libtorch's products, into one buffer. Nothing
// here waits for the card.
#include <ATen/TensorOperators.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "compute/cuda/cuda_backend.hpp"
#include "compute/cuda/cuda_statistics.hpp"
#include "compute/cuda/split_terms.hpp"
#include "compute/logit_tensors.hpp"
#include "compute/reducer.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/rounding.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::compute {
namespace {

/// Rows of tiles are so many float32s apart, or a multiple: aligned to 32 bytes.
constexpr std::int64_t kAlignment = 8;

class CudaPass : public VocabularyPass {
 public:
  CudaPass(std::shared_ptr<cuda::Kernels> kernels, Precision precision, const Unembedding& unembedding,
           std::int64_t tile_bytes)
      : VocabularyPass(unembedding),
        kernels_(std::move(kernels)),
        row_terms_(cuda::row_terms(precision)),
        weight_terms_(cuda::weight_terms(unembedding.weight.scalar_type(), row_terms_)),
        tile_bytes_(tile_bytes) {}

  std::string kernel_name() const override { return "cuda-bf16"; }
  std::string products() const override { return row_terms_ == 1 ? "bfloat16" : "float32"; }

  StateRows pack(const at::Tensor& rows, std::int64_t num_states) const override {
    return StateRows::of(rows, kernels_->split(rows.detach(), row_terms_), num_states);
  }

  void run(const StateRows& rows, Reducer& reducer) const override;

  at::Tensor gather(const StateRows& rows, const std::vector<TokenId>& tokens) const override {
    const std::int64_t P = rows.num_positions;
    const at::Tensor ids = at::from_blob(const_cast<TokenId*>(tokens.data()),
                                         {P, static_cast<std::int64_t>(tokens.size()) / P}, at::kInt);
    return gather(rows, copied_to(rows.values.device(), ids).to(at::kLong));
  }

  std::uint64_t working_memory(std::int64_t num_states, std::int64_t num_positions) const override {
    const std::int64_t R = num_states * num_positions, width = tile_width(R),
                       d = unembedding().weight.size(1);
    // Rows in terms, a tile, the terms of its weights; what `gather` takes comes before the tile.
    return static_cast<std::uint64_t>(2 * row_terms_ * R * d + 4 * R * width + 2 * weight_terms_ * width * d);
  }

  std::int64_t logit_stride() const override { return util::round_up(vocab_size(), kAlignment); }
  const RowStatistics* row_statistics() const override { return nullptr; }

  std::unique_ptr<DeviceStatistics> device_statistics(const DeviceChunk& chunk) const override {
    const auto forms = cuda::ReduceForms::of(chunk.input.num_watched, chunk.input.top_k, unembedding(),
                                             /*logits_are_kept=*/chunk.kept != nullptr);
    if (!forms) {
      std::call_once(said_too_many_, [] {
        util::log_info(util::cat(
            "statistics on the card by libtorch's operations, which is slower: they are of more than ",
            cuda::ReduceVariant::kMaxBest, " top or ", cuda::ReduceVariant::kMaxWatched, " watched tokens"));
      });
    }
    if (!forms || !forms->are_in(*kernels_)) return nullptr;
    return cuda::make_cuda_statistics(*kernels_, *forms, chunk, groups_,
                                      {.vocab_size = vocab_size(),
                                       .width = tile_width(chunk.rows.num_rows() - chunk.rows.num_positions),
                                       .bias = forms->others.bias ? bias_of_kernels() : at::Tensor(),
                                       .transform = unembedding().transform},
                                      [&](const at::Tensor& tokens) { return gather(chunk.rows, tokens); });
  }

 private:
  /// Tokens of a tile of so many rows: few launches, each with enough columns to fill the card.
  std::int64_t tile_width(std::int64_t rows) const {
    constexpr std::int64_t kMin = 2048, kMax = 32768;
    const std::int64_t fitting = tile_bytes_ / (4 * std::max<std::int64_t>(rows, 1));
    return std::min(std::clamp(fitting / kMin * kMin, kMin, kMax), logit_stride());
  }

  /// Of the packed rows, those of these states: [terms, S · P, d].
  at::Tensor terms_of(const StateRows& rows) const {
    return rows.blocks.narrow(1, rows.first_state * rows.num_positions, rows.num_rows());
  }

  /// Of all tokens in float32, and readable as far as rows of tiles are.
  at::Tensor bias_of_kernels() const {
    return at::constant_pad_nd(unembedding().bias.to(at::kFloat), {0, logit_stride() - vocab_size()});
  }

  void multiply(const at::Tensor& out, const at::Tensor& rows, const at::Tensor& weights,
                bool add = false) const {
    cuda::multiply_terms(
        out, rows, weights, [&](auto&&... of) { kernels_->multiply(of...); }, add);
  }

  /// Of a tile, the terms of whose weights are given: [terms, width, d].
  void soften(DeviceTile& tile, const at::Tensor& weights, const SoftmaxRows& rows) const;

  /// `tokens`: [P, W] int64 on the card.
  at::Tensor gather(const StateRows& rows, const at::Tensor& tokens) const;

  std::shared_ptr<cuda::Kernels> kernels_;
  std::int64_t row_terms_, weight_terms_, tile_bytes_;
  mutable cuda::GroupLists groups_;
  mutable std::once_flag said_too_many_;
};

void CudaPass::run(const StateRows& rows, Reducer& reducer) const {
  const std::int64_t V = vocab_size(), R = rows.num_rows(), tile = tile_width(R);
  const at::Tensor& weight = unembedding().weight;
  const at::Tensor& bias = unembedding().bias;
  const at::Tensor terms = terms_of(rows);
  const at::Tensor buffer =
      at::empty({R * util::round_up(std::min(tile, V), kAlignment)}, rows.values.options().dtype(at::kFloat));
  for (std::int64_t first = 0; first < V; first += tile) {
    const std::int64_t width = std::min(tile, V - first), stride = util::round_up(width, kAlignment);
    at::Tensor weights;  // in terms
    if (R > 0) weights = kernels_->split(weight.narrow(0, first, width), weight_terms_);
    const at::Tensor products = buffer.narrow(0, 0, R * stride).view({R, stride}).narrow(1, 0, width);
    if (R > 0) multiply(products, terms, weights);
    DeviceTile of_tile(products, first, [&](at::Tensor& of_all) {
      finish_logits(of_all, bias.defined() ? bias.narrow(0, first, width) : bias, unembedding().transform);
    });
    of_tile.times_weights = [&](const at::Tensor& coefficients) {
      const at::Tensor sums = at::empty({coefficients.size(0), weights.size(2)}, coefficients.options());
      if (sums.numel() > 0)
        multiply(sums, kernels_->split(coefficients, row_terms_), weights.transpose(1, 2));
      return sums;
    };
    of_tile.soften = [&](const SoftmaxRows& softmax) {
      if (!kernels_->has_softening()) return false;
      soften(of_tile, weights, softmax);
      return true;
    };
    reducer.add(of_tile);
  }
}

void CudaPass::soften(DeviceTile& tile, const at::Tensor& weights, const SoftmaxRows& rows) const {
  const at::Tensor& logits = tile.logits();
  const std::int64_t R = tile.num_rows(), G = rows.expected.size(0), d = rows.expected.size(1),
                     width = tile.width(), stride = util::round_up(width, kAlignment);
  const at::Tensor coefficients = at::empty({row_terms_, G, stride}, logits.options().dtype(at::kBFloat16));
  const auto& [scale, cap] = unembedding().transform;
  const bool first = tile.first == 0;
  kernels_->soften(
      {.logits = logits.const_data_ptr<float>(),
       .stride = logits.stride(0),
       .num_rows = static_cast<int>(R),
       .num_gradients = static_cast<int>(G),
       .first = static_cast<int>(tile.first),
       .width = static_cast<int>(width),
       .token_scale = rows.token_scale.defined() ? rows.token_scale.const_data_ptr<float>() : nullptr,
       .scale = static_cast<float>(scale),
       .by_cap = cap > 0 ? static_cast<float>(1 / cap) : 0,
       .num_terms = static_cast<int>(row_terms_),
       .m = rows.m.mutable_data_ptr<float>(),
       .sum = rows.sum.mutable_data_ptr<double>(),
       .top = reinterpret_cast<long long*>(rows.top.mutable_data_ptr<std::int64_t>()),
       .coefficients = static_cast<unsigned short*>(coefficients.mutable_data_ptr()),
       .coefficient_stride = stride,
       .expected = first ? nullptr : rows.expected.mutable_data_ptr<float>(),
       .num_expected = static_cast<int>(d)});
  if (rows.expected.numel() > 0)
    multiply(rows.expected, coefficients.narrow(2, 0, width), weights.transpose(1, 2), !first);
}

at::Tensor CudaPass::gather(const StateRows& rows, const at::Tensor& tokens) const {
  const std::int64_t S = rows.num_states, P = rows.num_positions, R = rows.num_rows(), W = tokens.size(1),
                     d = rows.values.size(1);
  const at::Tensor &weight = unembedding().weight, &bias = unembedding().bias;
  const at::Tensor ids = tokens.clamp_min(0), terms = terms_of(rows).view({row_terms_, S, P, d});
  at::Tensor logits = at::empty({S, P, W}, rows.values.options().dtype(at::kFloat));
  // As many positions at once as take no more memory than a tile: of states and weights two in float32, of
  // weights also as they are stored and in terms.
  const std::int64_t of_position = d * (8 * S + (8 + weight.element_size() + 2 * weight_terms_) * W),
                     strip = std::max<std::int64_t>(1, 4 * R * tile_width(R) / of_position);
  for (std::int64_t first = 0; first < P; first += strip) {
    const std::int64_t count = std::min(strip, P - first);
    // Sums of the same terms as in the products, so that one differs from the other by the order of a sum
    // only.
    const at::Tensor states = cuda::sum_of_terms(terms.narrow(2, first, count)).transpose(0, 1);
    const at::Tensor weights =
        cuda::sum_of_terms(
            kernels_->split(weight.index_select(0, ids.narrow(0, first, count).flatten()), weight_terms_))
            .view({count, W, d});
    logits.narrow(1, first, count).copy_(at::bmm(states, weights.transpose(1, 2)).transpose(0, 1));
  }
  finish_logits(logits, bias.defined() ? bias.index_select(0, ids.flatten()).view({P, W}) : bias,
                unembedding().transform);
  return logits;
}

}  // namespace

std::unique_ptr<VocabularyPass> make_cuda_pass(std::shared_ptr<cuda::Kernels> kernels, Precision precision,
                                               const Unembedding& unembedding, std::int64_t tile_bytes) {
  return std::make_unique<CudaPass>(std::move(kernels), precision, unembedding, tile_bytes);
}

}  // namespace depthlens::compute
