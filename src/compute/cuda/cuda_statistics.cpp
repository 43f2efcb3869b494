// Everything that a chunk leaves lies in one block of the card's memory, which is copied back once, at its
// end.
#include "compute/cuda/cuda_statistics.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/max.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "depthlens/compute/transfer.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::compute::cuda {
namespace {

/// A part of the block: `count` values from byte `place` on.
template <typename T>
struct Part {
  std::int64_t place = 0, count = 0;

  T* in(void* block) const { return reinterpret_cast<T*>(static_cast<char*>(block) + place); }
  const T* in(const void* block) const {
    return reinterpret_cast<const T*>(static_cast<const char*>(block) + place);
  }
};

/// What the kernel keeps of S · P rows.
struct Layout {
  Layout(std::int64_t rows, std::int64_t positions, std::int64_t best, std::int64_t watched_tokens,
         std::int64_t groups) {
    add(states, rows);
    add(mass, rows * groups);
    add(best_logits, rows * best);
    add(best_ids, rows * best);
    add(num_found, rows);
    add(watched, positions * watched_tokens);
    add(watched_logits, rows * watched_tokens);
    add(greater, rows * watched_tokens);
  }

  Part<KeptRow> states;
  Part<double> mass;
  Part<float> best_logits;
  Part<int> best_ids, num_found, watched;
  Part<float> watched_logits;
  Part<int> greater;
  std::int64_t bytes = 0;

 private:
  template <typename T>
  void add(Part<T>& part, std::int64_t count) {
    part = {.place = bytes, .count = count};
    bytes = util::round_up(bytes + count * static_cast<std::int64_t>(sizeof(T)), 16);
  }
};

class CudaStatistics : public DeviceStatistics {
 public:
  CudaStatistics(Kernels& kernels, const ReduceForms& forms, const DeviceChunk& chunk, GroupLists& lists,
                 const PassTiles& tiles, const GatherLogits& gather);

  void add(HostTile& /*tile*/, Workspace* /*workspace*/) override { DEPTHLENS_ASSERT(false); }
  void add(DeviceTile& tile) override;
  void end() override {
    fetched_ = HostCopy(block_);
    block_ = final_logits_ = final_max_ = tiles_.bias = at::Tensor();
    lists_ = {};
  }
  Statistics finished() override;

 private:
  template <typename T>
  T* part(const Part<T>& part) const {
    return part.in(block_.mutable_data_ptr());
  }
  /// A part of the block as a tensor.
  template <typename T>
  at::Tensor tensor(const Part<T>& of, at::IntArrayRef shape, at::ScalarType type) const {
    const auto bytes = of.count * static_cast<std::int64_t>(sizeof(T));
    return block_.narrow(0, of.place, bytes).view(type).view(shape);
  }
  /// For states from `first_state` on.
  ReduceWork work(std::int64_t first_state, std::int64_t num_states) const;

  Kernels& kernels_;
  ReduceForms forms_;
  const TokenGroups& groups_;
  KeptLogits* kept_;
  std::int64_t num_watched_;  // that are asked for
  PassTiles tiles_;
  std::int64_t S_, P_, K_, W_, G_;  // W: the kernel's, which may be more
  Layout layout_;
  at::Tensor block_;         // bytes, until the end
  HostCopy fetched_;         // the block, from the end on
  at::Tensor final_logits_;  // [P, V]
  at::Tensor final_max_;     // [P]
  GroupLists::Lists lists_;
};

CudaStatistics::CudaStatistics(Kernels& kernels, const ReduceForms& forms, const DeviceChunk& chunk,
                               GroupLists& lists, const PassTiles& tiles, const GatherLogits& gather)
    : kernels_(kernels),
      forms_(forms),
      groups_(chunk.groups),
      kept_(chunk.kept),
      num_watched_(chunk.input.num_watched),
      tiles_(tiles),
      S_(chunk.input.num_states),
      P_(chunk.input.num_positions),
      K_(chunk.input.top_k),
      W_(forms.others.watched),
      G_(chunk.groups.count()),
      layout_(S_ * P_, P_, K_, W_, G_),
      final_logits_(chunk.final_logits.logits().select(0, 0)) {
  const at::Device device = final_logits_.device();
  block_ = at::zeros({layout_.bytes}, at::TensorOptions(at::kByte).device(device));
  constexpr std::int64_t kNumbersOfRow = sizeof(KeptRow) / sizeof(double);
  tensor(layout_.states, {S_ * P_, kNumbersOfRow}, at::kDouble).select(1, 0).fill_(kNoLogit);

  const auto [greatest, top] = final_logits_.max(1);  // the first of equals
  final_max_ = greatest.contiguous();
  const std::int64_t W = num_watched_;
  const at::Tensor watched = tensor(layout_.watched, {P_, W_}, at::kInt);
  watched.fill_(kNoToken);
  watched.narrow(1, 0, W).copy_(
      copied_to(device, at::from_blob(const_cast<TokenId*>(chunk.input.watched.data()), {P_, W}, at::kInt)));
  watched.select(1, 0).copy_(top);
  tensor(layout_.watched_logits, {S_, P_, W_}, at::kFloat)
      .narrow(2, 0, W)
      .copy_(gather(watched.narrow(1, 0, W).to(at::kLong)));
  if (G_ > 0) lists_ = lists.of(chunk.groups, tiles.vocab_size, tiles.width, device);

  ReduceWork final = work(0, 1);
  final.products = final_logits_.const_data_ptr<float>();
  final.stride = final_logits_.stride(0);
  final.width = static_cast<int>(tiles.vocab_size);
  if (G_ > 0) final.group_begin = lists_.begin_of_all();
  kernels_.reduce(forms_.final_layer, final);
}

ReduceWork CudaStatistics::work(std::int64_t first_state, std::int64_t num_states) const {
  const std::int64_t row = first_state * P_;
  return {.num_states = static_cast<int>(num_states),
          .num_positions = static_cast<int>(P_),
          .num_best = static_cast<int>(K_),
          .num_groups = static_cast<int>(G_),
          .states = part(layout_.states) + row,
          .best_logits = part(layout_.best_logits) + row * K_,
          .best_ids = part(layout_.best_ids) + row * K_,
          .num_found = part(layout_.num_found) + row,
          .watched = part(layout_.watched),
          .watched_logits = part(layout_.watched_logits) + row * W_,
          .num_greater = part(layout_.greater) + row * W_,
          .group_tokens = G_ > 0 ? lists_.tokens.const_data_ptr<int>() : nullptr,
          .group_mass = part(layout_.mass) + row * G_};
}

void CudaStatistics::add(DeviceTile& tile) {
  if (S_ == 1) return;
  if (kept_ != nullptr) kept_->add(tile);
  const at::Tensor& products = kept_ != nullptr ? tile.logits() : tile.products();
  ReduceWork others = work(1, S_ - 1);
  others.products = products.const_data_ptr<float>();
  others.stride = products.stride(0);
  others.first = static_cast<int>(tile.first);
  others.width = static_cast<int>(tile.width());
  others.final_logits = final_logits_.const_data_ptr<float>() + tile.first;
  others.final_stride = final_logits_.stride(0);
  others.final_max = final_max_.const_data_ptr<float>();
  if (forms_.others.bias) others.bias = tiles_.bias.const_data_ptr<float>();
  const auto& [scale, cap] = tiles_.transform;
  others.scale = static_cast<float>(cap > 0 ? scale / cap : scale);
  others.cap = static_cast<float>(cap);
  if (G_ > 0) others.group_begin = lists_.begin_of(tile.first / tiles_.width);
  kernels_.reduce(forms_.others, others);
}

Statistics CudaStatistics::finished() {
  const void* const block = fetched_.values().const_data_ptr();
  const std::int64_t R = S_ * P_, W = num_watched_;
  Statistics out;
  const KeptRow* kept = layout_.states.in(block);
  std::vector<RowState> rows(sized(R));
  for (std::int64_t r = 0, p = 0; r < R; ++r, p = p + 1 == P_ ? 0 : p + 1) {
    const KeptRow& row = kept[r];
    RowState& state = rows[sized(r)];
    state = {.m = static_cast<float>(row.m),
             .sum = row.sum,
             .weighted = row.weighted,
             .cross = row.cross,
             .reverse = row.reverse};
    if (r < P_) {  // the final layer beside itself: divergences of exactly 0
      state.cross = state.reverse = state.weighted;
    } else {  // by the final layer's sum as it came out beside these, in the same order
      state.cross *= kept[p].sum / row.final_sum;
    }
  }
  const auto copy = [&](const auto& part, auto& to) {
    to.assign(part.in(block), part.in(block) + part.count);
  };
  copy(layout_.best_ids, out.top_ids);
  copy(layout_.best_logits, out.top_logits);
  if (G_ > 0) copy(layout_.mass, out.group_mass);
  const int* watched = layout_.watched.in(block);
  out.watched.resize(sized(P_ * W));
  for (std::int64_t p = 0; p < P_; ++p) std::copy_n(watched + p * W_, W, out.watched.data() + p * W);
  const float* logits = layout_.watched_logits.in(block);
  const int* greater = layout_.greater.in(block);
  out.watched_logits.resize(sized(R * W));
  out.watched_ranks.resize(sized(R * W));
  for (std::int64_t r = 0; r < R; ++r) {
    for (std::int64_t w = 0; w < W; ++w) {
      out.watched_logits[sized(r * W + w)] = logits[r * W_ + w];
      out.watched_ranks[sized(r * W + w)] = 1 + greater[r * W_ + w];
    }
  }
  finish(rows, P_, groups_, out);
  return out;
}

}  // namespace

GroupLists::Lists GroupLists::of(const TokenGroups& groups, std::int64_t vocab_size, std::int64_t width,
                                 at::Device device) {
  const std::lock_guard<std::mutex> lock(mutex_);
  // As long as the list of tokens is held, no other can have its place.
  if (key_ == groups.tokens() && width_ == width) return lists_;
  const std::int64_t G = groups.count();
  std::vector<int> begins, tokens;
  const auto add = [&](std::int64_t first, std::int64_t count) {
    const TokenGroups::Range range = groups.range(first, count);
    for (std::int64_t g = 0; g < G; ++g) {
      begins.push_back(static_cast<int>(tokens.size()));
      for (const TokenGroups::Token& token : range) {
        if (token.group == g) tokens.push_back(token.id);
      }
    }
    begins.push_back(static_cast<int>(tokens.size()));
  };
  for (std::int64_t first = 0; first < vocab_size; first += width)
    add(first, std::min(width, vocab_size - first));
  add(0, vocab_size);
  tokens.push_back(0);  // never empty
  const auto on_card = [&](std::vector<int>& values) {
    return copied_to(device,
                     at::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, at::kInt));
  };
  lists_ = {.begins = on_card(begins).view({-1, G + 1}), .tokens = on_card(tokens)};
  key_ = groups.tokens();
  width_ = width;
  return lists_;
}

std::optional<ReduceForms> ReduceForms::of(std::int64_t watched, std::int64_t top_k, const Unembedding& head,
                                           bool logits_are_kept) {
  std::optional<ReduceVariant> others = ReduceVariant::for_watched(watched);
  if (!others || top_k > ReduceVariant::kMaxBest) return std::nullopt;
  const ReduceVariant final_layer{.states = 1, .watched = others->watched};
  if (!logits_are_kept) {
    using Transform = ReduceVariant::Transform;
    others->bias = head.bias.defined();
    others->transform = head.transform.soft_cap > 0 ? Transform::kSoftCap
                        : head.transform.scale != 1 ? Transform::kScale
                                                    : Transform::kNone;
  }
  return ReduceForms{.final_layer = final_layer, .others = *others};
}

std::unique_ptr<DeviceStatistics> make_cuda_statistics(Kernels& kernels, const ReduceForms& forms,
                                                       const DeviceChunk& chunk, GroupLists& lists,
                                                       const PassTiles& tiles, const GatherLogits& gather) {
  return std::make_unique<CudaStatistics>(kernels, forms, chunk, lists, tiles, gather);
}

}  // namespace depthlens::compute::cuda
