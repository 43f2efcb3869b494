// The portable kernel: ATen operations on tiles of the vocabulary, on any device.
//
// With m the running maximum of a row's logits z, and per row: S = Σ e^(z − m), A = Σ e^(z − m) (z − m).
// Against the final layer f, whose maximum is known before: C = Σ e^(z_f − m_f) (z − m) and D = Σ e^(z − m)
// (z_f − m_f). When m grows, S, A and D are scaled and C shifted. From these follow (docs/methods.md):
// log-sum-exp, entropy, both divergences.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "decode/kernel.hpp"
#include "depthlens/model/linear.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::decode {
namespace {

constexpr std::int64_t kTile = 2048;  // tokens; a tile of 1,000 rows is 8 MB

/// The K best (logit, id) of each row seen so far, best first, the lower id first among equals.
class TopK {
 public:
  TopK(std::int64_t rows, std::int64_t k) : rows_(rows), k_(k) {}

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

  std::int64_t rows_;
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

class AtenKernel : public Kernel {
 public:
  AtenKernel(const model::OutputHead& head, const std::vector<std::uint8_t>& token_groups,
             std::int64_t num_groups)
      : head_(head) {
    if (num_groups > 0) {
      const std::int64_t V = head.unembedding.size(0);
      DEPTHLENS_ASSERT(static_cast<std::int64_t>(token_groups.size()) == V);
      membership_ = at::zeros({V, num_groups}, at::kFloat);
      float* data = membership_.mutable_data_ptr<float>();
      for (std::int64_t v = 0; v < V; ++v)
        data[v * num_groups + token_groups[static_cast<std::size_t>(v)]] = 1;
      membership_ = membership_.to(head.unembedding.device());
    }
  }

  std::string name() const override { return "aten"; }

  std::uint64_t working_memory(std::int64_t num_states, std::int64_t num_positions) const override {
    const std::int64_t tile = std::min(kTile, head_.unembedding.size(0));
    const std::int64_t final_logits = num_positions * head_.unembedding.size(0);
    return sizeof(float) * static_cast<std::uint64_t>(final_logits + 4 * num_states * num_positions * tile);
  }

  KernelOutput decode(const KernelInput& input) const override;
  void add_probabilities(const KernelInput& input, const KernelOutput& output,
                         TokenSums& sums) const override;

 private:
  /// Logits of `rows` for tokens first … first + width − 1.
  at::Tensor logits(const at::Tensor& rows, std::int64_t first, std::int64_t width) const {
    const at::Tensor weight = head_.unembedding.narrow(0, first, width).to(at::kFloat);
    return model::linear(rows, weight,
                         head_.bias.defined() ? head_.bias.narrow(0, first, width) : at::Tensor());
  }

  const model::OutputHead& head_;
  at::Tensor membership_;  // [V, G]: 1 where the token is of the group
};

KernelOutput AtenKernel::decode(const KernelInput& input) const {
  const std::int64_t S = input.num_states, P = input.num_positions, K = input.top_k, W = input.num_watched;
  const std::int64_t R = S * P, V = head_.unembedding.size(0), d = head_.unembedding.size(1);
  const at::Device device = head_.unembedding.device();
  DEPTHLENS_ASSERT(input.rows.size(0) == R && static_cast<std::int64_t>(input.watched.size()) == P * W);

  // The final layer first: its top-1 is watched at every other layer, and its maximum is the reference of C
  // and D.
  const at::Tensor final_rows = input.rows.narrow(0, 0, P);
  const at::Tensor other_rows = input.rows.narrow(0, P, R - P);
  at::Tensor final_logits = at::empty({P, V}, final_rows.options());
  for (std::int64_t first = 0; first < V; first += kTile) {
    const std::int64_t width = std::min(kTile, V - first);
    final_logits.narrow(1, first, width).copy_(logits(final_rows, first, width));
  }
  const at::Tensor final_top = final_logits.argmax(1);                          // [P]
  const at::Tensor final_max = final_logits.gather(1, final_top.unsqueeze(1));  // [P, 1]

  KernelOutput out;
  out.watched = input.watched;
  {
    const auto top = to_vector<std::int64_t>(final_top, at::kLong);
    for (std::int64_t p = 0; p < P; ++p) {
      out.watched[static_cast<std::size_t>(p * W)] = static_cast<TokenId>(top[static_cast<std::size_t>(p)]);
    }
  }
  const at::Tensor watched =
      at::from_blob(out.watched.data(), {P, W}, at::kInt).to(device, at::kLong);  // [P, W]
  const at::Tensor present = watched.ge(0);
  const at::Tensor watched_or_0 = watched.clamp_min(0);

  // Watched logits by products of their own; replaced below by the tile's own value, so that a token is
  // compared with others as they came out of the same product.
  const at::Tensor columns =
      head_.unembedding.index_select(0, watched_or_0.view({-1})).to(at::kFloat).view({P, W, d});
  at::Tensor z_watched = at::bmm(input.rows.view({S, P, d}).transpose(0, 1), columns.transpose(1, 2))
                             .transpose(0, 1);  // [S, P, W]
  if (head_.bias.defined())
    z_watched = z_watched + head_.bias.index_select(0, watched_or_0.view({-1})).view({P, W});
  z_watched = z_watched.contiguous();
  at::Tensor greater = at::zeros({S, P, W}, at::TensorOptions(at::kLong).device(device));

  at::Tensor m, sum, weighted, cross, reverse,
      mass;              // m, S, A, C, D, each [S, P] float64 but m float32; mass [S, P, G]
  at::Tensor final_sum;  // [P] Σ e^(z_f − m_f) over the tiles seen
  TopK top(R, K);

  for (std::int64_t first = 0; first < V; first += kTile) {
    const std::int64_t width = std::min(kTile, V - first);
    const at::Tensor final_tile = final_logits.narrow(1, first, width);  // [P, Vt]
    at::Tensor tile = R > P ? at::cat({final_tile, logits(other_rows, first, width)})
                            : final_tile.clone();  // changed below
    top.add(tile, first);
    tile = tile.view({S, P, width});

    const at::Tensor in_tile =
        present.logical_and(watched.ge(first)).logical_and(watched.lt(first + width));  // [P, W]
    const at::Tensor place = (watched - first).clamp(0, width - 1).expand({S, P, W});
    const at::Tensor own = tile.gather(2, place);  // [S, P, W]
    for (std::int64_t w = 0; w < W; ++w) {
      const at::Tensor bar = z_watched.select(2, w).unsqueeze(2);
      at::Tensor count = tile.gt(bar).sum(2);
      // The token itself never counts, though its own product may differ in the last bit.
      count.sub_(own.select(2, w).gt(bar.squeeze(2)).logical_and(in_tile.select(1, w)).to(at::kLong));
      greater.select(2, w).add_(count);
    }
    z_watched = at::where(in_tile.unsqueeze(0), own, z_watched);

    at::Tensor new_m = tile.amax(2);  // [S, P]
    if (m.defined()) new_m = at::maximum(m, new_m);
    // The final layer's maximum is known: with it from the start, its divergence from itself is exactly 0.
    new_m.select(0, 0).copy_(final_max.squeeze(1));
    tile.sub_(new_m.unsqueeze(2));
    const at::Tensor e = tile.exp();
    const at::Tensor final_shifted = final_tile - final_max;  // [P, Vt]
    const at::Tensor final_e = final_shifted.exp();
    const at::Tensor tile_sum = e.sum(2).to(at::kDouble);
    const at::Tensor tile_weighted = (e * tile).sum(2).to(at::kDouble);
    const at::Tensor tile_cross = (tile * final_e).sum(2).to(at::kDouble);
    const at::Tensor tile_reverse = (e * final_shifted).sum(2).to(at::kDouble);
    const at::Tensor tile_final_sum = final_e.sum(1).to(at::kDouble);
    at::Tensor tile_mass;
    if (membership_.defined()) tile_mass = at::matmul(e, membership_.narrow(0, first, width)).to(at::kDouble);
    if (!m.defined()) {
      sum = tile_sum;
      weighted = tile_weighted;
      cross = tile_cross;
      reverse = tile_reverse;
      final_sum = tile_final_sum;
      mass = tile_mass;
    } else {
      const at::Tensor shift = (m - new_m).to(at::kDouble);
      const at::Tensor scale = shift.exp();
      weighted = scale * (weighted + shift * sum) + tile_weighted;
      sum = scale * sum + tile_sum;
      cross = cross + shift * final_sum + tile_cross;
      reverse = scale * reverse + tile_reverse;
      final_sum = final_sum + tile_final_sum;
      if (mass.defined()) mass = scale.unsqueeze(2) * mass + tile_mass;
    }
    m = new_m;
  }

  const at::Tensor log_sum = sum.log();  // [S, P]
  const at::Tensor log_sum_exp = m.to(at::kDouble) + log_sum;
  const at::Tensor mean_logprob = weighted / sum - log_sum;  // Σ p log p
  const at::Tensor final_mean_logprob = mean_logprob.select(0, 0);
  const at::Tensor kl_final = final_mean_logprob - (cross / sum.select(0, 0) - log_sum);
  const at::Tensor kl_reverse = mean_logprob - (reverse / sum - log_sum.select(0, 0));

  out.top_ids = to_vector<TokenId>(top.ids(), at::kInt);
  out.top_logits = to_vector<double>(top.values(), at::kDouble);
  out.log_sum_exp = to_vector<double>(log_sum_exp, at::kDouble);
  out.entropy = to_vector<double>(mean_logprob.neg(), at::kDouble);
  out.kl_final = to_vector<double>(kl_final, at::kDouble);
  out.kl_reverse = to_vector<double>(kl_reverse, at::kDouble);
  out.watched_ranks = to_vector<std::int64_t>(greater + 1, at::kLong);
  out.watched_logits = to_vector<double>(z_watched, at::kDouble);
  rank_by_top_k(input, out);
  if (mass.defined()) out.group_mass = to_vector<double>(mass / sum.unsqueeze(2), at::kDouble);
  return out;
}

void AtenKernel::add_probabilities(const KernelInput& input, const KernelOutput& output,
                                   TokenSums& sums) const {
  const std::int64_t S = input.num_states, P = input.num_positions, R = S * P, V = head_.unembedding.size(0);
  const at::Tensor log_sum_exp =  // [R, 1]
      at::from_blob(const_cast<double*>(output.log_sum_exp.data()), {R, 1}, at::kDouble)
          .to(head_.unembedding.device());
  // What rounding takes from the reference is put back as a factor.
  const at::Tensor reference = log_sum_exp.to(at::kFloat);
  const at::Tensor factor = (reference.to(at::kDouble) - log_sum_exp).exp().to(at::kFloat);
  for (std::int64_t first = 0; first < V; first += kTile) {
    const std::int64_t width = std::min(kTile, V - first);
    // Products as in `decode`: the final layer's rows for themselves.
    at::Tensor tile = logits(input.rows.narrow(0, 0, P), first, width);
    if (R > P) tile = at::cat({tile, logits(input.rows.narrow(0, P, R - P), first, width)});
    const at::Tensor shifted = tile - reference;
    const at::Tensor small = shifted.lt(TokenSums::kLowestLog);
    const at::Tensor probabilities = shifted.exp().mul_(factor).masked_fill_(small, 0);
    sums.sums.narrow(1, first, width)
        .add_(probabilities.view({S, P, width}).sum(1, false, at::kDouble).to(at::kCPU));
    if (!small.any().item<bool>()) continue;
    const at::Tensor logs = (tile.to(at::kDouble) - log_sum_exp)
                                .masked_fill_(small.logical_not(), -std::numeric_limits<double>::infinity())
                                .view({S, P, width})
                                .logsumexp(1)
                                .to(at::kCPU);
    const at::Tensor before = sums.log_small.narrow(1, first, width);
    before.copy_(at::logaddexp(before, logs));
  }
}

}  // namespace

std::unique_ptr<Kernel> make_aten_kernel(const model::OutputHead& head,
                                         const std::vector<std::uint8_t>& token_groups,
                                         std::int64_t num_groups) {
  return std::make_unique<AtenKernel>(head, token_groups, num_groups);
}

}  // namespace depthlens::decode
