// All statistics of a chunk: the final layer's logits first, for its top-1 is watched at every other state
// and its maximum is the reference of C and D; then all other states beside it, tile by tile.
#include "depthlens/compute/statistics.hpp"

#include <algorithm>
#include <optional>
#include <span>

#include "compute/reducers/device_statistics.hpp"
#include "compute/reducers/kept_logits.hpp"
#include "compute/reducers/probability_sums.hpp"
#include "compute/reducers/row_state.hpp"
#include "compute/reducers/statistics_reducer.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::compute {
namespace {

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

std::uint64_t StatisticsDecoder::working_memory(const Kept& kept, std::int64_t num_positions) const {
  constexpr std::int64_t kSums = 64, kBest = 12, kWatched = 8, kGroup = 8;  // bytes of each
  const std::int64_t slices = util::ceil_div(pass_.vocab_size(), kSliceTokens),
                     of_row =
                         kSums + kBest * kept.top_k + kWatched * kept.num_watched + kGroup * groups_->count();
  return pass_.working_memory(kept.num_states, num_positions) +
         static_cast<std::uint64_t>(4 * num_positions * pass_.logit_stride() +
                                    kept.num_states * num_positions * slices * of_row);
}

std::int64_t StatisticsDecoder::positions_to_keep(std::int64_t num_states) const {
  return static_cast<std::int64_t>(memory_) /
         (4 * std::max<std::int64_t>(1, num_states - 1) * pass_.logit_stride());
}

PendingStatistics StatisticsDecoder::begin(const StatisticsInput& input, ProbabilitySums* sums,
                                           LogitMemory* memory) const {
  const std::int64_t S = input.num_states, P = input.num_positions;
  DEPTHLENS_ASSERT(input.rows.size(0) == S * P &&
                   static_cast<std::int64_t>(input.watched.size()) == P * input.num_watched);
  const StateRows rows = pass_.pack(input.rows, S);
  const StateRows final_rows = rows.states(0, 1), others = rows.states(1, S - 1);
  KeptLogits final_logits(pass_, final_rows, memory != nullptr ? &memory->of_final : nullptr);
  pass_.run(final_rows, final_logits);
  std::optional<KeptLogits> kept;
  if (sums != nullptr && P <= positions_to_keep(S))
    kept.emplace(pass_, others, memory != nullptr ? &memory->of_others : nullptr);
  const DeviceChunk chunk{{.input = input,
                           .groups = *groups_,
                           .rows = rows,
                           .final_logits = final_logits,
                           .kept = kept ? &*kept : nullptr}};
  const auto finish = [S](StatisticsReducer& reducer) {
    Statistics found = reducer.finished();
    rank_by_top_k(S, found);
    return found;
  };
  const RowStatistics* on_host = pass_.row_statistics();
  const auto done = std::make_shared<Statistics>();
  if (const std::shared_ptr<DeviceStatistics> own = pass_.device_statistics(chunk)) {
    pass_.run(others, *own);
    own->end();
    if (sums == nullptr) return [own, finish] { return finish(*own); };
    *done = finish(*own);
  } else {
    const auto reducer =
        on_host != nullptr ? make_host_statistics(pass_, chunk) : make_aten_statistics(pass_, chunk);
    pass_.run(others, *reducer);
    *done = finish(*reducer);
  }
  const PendingStatistics ready = [done] { return std::move(*done); };
  if (sums == nullptr) return ready;

  const std::span<const double> log_sum_exp = done->log_sum_exp;
  try {
    ProbabilityReducer(*sums, 0, log_sum_exp.first(sized(P)), P).add_kept(final_logits, on_host);
    if (S == 1) return ready;
    ProbabilityReducer of_others(*sums, 1, log_sum_exp.subspan(sized(P)), P);
    if (kept) {
      of_others.add_kept(*kept, on_host);
    } else {
      of_others.add_all(pass_, others);
    }
  } catch (const std::exception& error) {
    if (!is_out_of_device_memory(error)) throw;
    throw out_of_memory(input.rows.device(), S, P);  // with fewer positions some would be added twice
  }
  return ready;
}

}  // namespace depthlens::compute
