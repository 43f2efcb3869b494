// The statistics of a chunk with libtorch's operations, on any device.
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

#include <algorithm>
#include <utility>
#include <vector>

#include "compute/reducers/statistics_reducer.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::compute {
namespace {

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

class AtenStatistics : public StatisticsReducer {
 public:
  AtenStatistics(const VocabularyPass& pass, const StatisticsChunk& chunk)
      : chunk_(chunk),
        device_(chunk.rows.values.device()),
        final_logits_(chunk.final_logits.logits().select(0, 0)),
        watched_ids_(chunk.input.watched),
        top_(chunk.K()) {
    const at::Tensor top = final_logits_.argmax(1);  // [P]
    const auto tokens = to_vector<std::int64_t>(top, at::kLong);
    for (std::int64_t p = 0; p < chunk.P(); ++p)
      watched_ids_[sized(p * chunk.W())] = static_cast<TokenId>(tokens[sized(p)]);
    final_max_ = final_logits_.gather(1, top.unsqueeze(1));
    z_watched_ = pass.gather(chunk.rows, watched_ids_).clone();
    watched_ = copied_to(device_, at::from_blob(watched_ids_.data(), {chunk.P(), chunk.W()}, at::kInt))
                   .to(at::kLong);
    greater_ = at::zeros({chunk.S(), chunk.P(), chunk.W()}, at::TensorOptions(at::kLong).device(device_));
    if (chunk.G() > 0) membership_ = chunk.groups.membership(device_);
  }

  void add(HostTile& /*tile*/, Workspace* /*workspace*/) override { DEPTHLENS_ASSERT(false); }
  void add(DeviceTile& others) override;
  Statistics finished() override;

 private:
  const StatisticsChunk chunk_;
  at::Device device_;
  at::Tensor final_logits_;           // [P, V]
  std::vector<TokenId> watched_ids_;  // [P, W]
  at::Tensor final_max_;              // [P, 1]
  at::Tensor watched_;                // [P, W]
  at::Tensor z_watched_, greater_;    // [S, P, W]
  at::Tensor membership_;             // [V, G]
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
  out.watched = std::move(watched_ids_);
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

}  // namespace

std::unique_ptr<StatisticsReducer> make_aten_statistics(const VocabularyPass& pass,
                                                        const StatisticsChunk& chunk) {
  return std::make_unique<AtenStatistics>(pass, chunk);
}

}  // namespace depthlens::compute
