// Clean runs of both prompts, then the target's run again and again, each time with one state exchanged.
#include "depthlens/decode/patching.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <c10/core/InferenceMode.h>

#include <cmath>

#include "decode/self_check.hpp"
#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/log_probabilities.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/compute/statistics.hpp"
#include "depthlens/model/finite.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::decode {
namespace {

/// The final norm of the last state of each of n windows, [n, d], from all their states [n · T, d].
at::Tensor last_rows(const model::OutputHead& head, const at::Tensor& states, std::int64_t length) {
  return head.normed(states.view({-1, length, states.size(1)}).select(1, length - 1));
}

/// What n runs say of which the last state after the final norm is `normed` [n, d], against the clean
/// target's `clean` [1, d].
std::vector<LastPrediction> predictions(const model::Model& model, const compute::StatisticsDecoder& decoder,
                                        const at::Tensor& clean, const at::Tensor& normed,
                                        const PatchingPair& pair) {
  const std::int64_t n = normed.size(0);
  constexpr std::int64_t kFinal = 0, kSource = 1, kTarget = 2, kWatched = 3;
  compute::StatisticsInput input{.rows = at::cat({clean.expand({n, clean.size(1)}), normed}),
                                 .num_states = 2,
                                 .num_positions = n,
                                 .top_k = 1,
                                 .num_watched = kWatched,
                                 .watched = std::vector<TokenId>(static_cast<std::size_t>(n * kWatched))};
  for (std::size_t i = 0; i < input.watched.size(); i += kWatched) {
    input.watched[i + kFinal] = kNoToken;
    input.watched[i + kSource] = pair.source_answer;
    input.watched[i + kTarget] = pair.target_answer;
  }
  const compute::Statistics said = decoder.decode(input);
  std::vector<LastPrediction> all;
  for (auto row = static_cast<std::size_t>(n); row < static_cast<std::size_t>(2 * n); ++row) {
    const bool finite = std::isfinite(said.kl_final[row]) && std::isfinite(said.log_sum_exp[row]);
    check_log_sum_exp(model, finite ? said.log_sum_exp[row] : std::nan(""), said.top_ids[row],
                      "a run of a pair");
    const double* watched = said.watched_logits.data() + row * kWatched;
    all.push_back({.top1 = said.top_ids[row],
                   .log_probability_difference = watched[kSource] - watched[kTarget],
                   .kl = not_negative(said.kl_final[row])});
  }
  return all;
}

/// The greatest difference, in nats, of the log-probabilities of the first guesses between the decoder and a
/// plain product.
double error_of(const model::OutputHead& head, const compute::StatisticsDecoder& decoder,
                const at::Tensor& normed) {
  const std::int64_t K = std::min<std::int64_t>(10, head.unembedding.vocab_size());
  const compute::Statistics said = decoder.decode({.rows = normed,
                                                   .num_states = 1,
                                                   .num_positions = 1,
                                                   .top_k = K,
                                                   .num_watched = 1,
                                                   .watched = {kNoToken}});
  const at::Tensor plain =
      std::get<0>(compute::plain_log_probabilities(head.unembedding, normed).topk(K, 1)).to(at::kCPU);
  return error_of_best(said, 0, {plain.const_data_ptr<double>(), static_cast<std::size_t>(K)});
}

/// The positions whose state at `layer` < L differs between the prompts. Up to the first different token all
/// layers are equal, and layer 0 is a function of the token and its position.
std::vector<std::int64_t> different_positions(const PatchingPair& pair, std::int64_t layer) {
  std::vector<std::int64_t> positions;
  for (std::int64_t p = pair.first_different(); p < pair.length(); ++p) {
    const auto i = static_cast<std::size_t>(p);
    if (layer > 0 || pair.source[i] != pair.target[i]) positions.push_back(p);
  }
  return positions;
}

/// How many windows of `length` tokens may run together, of at most so many tokens in all.
std::int64_t windows_at_a_time(const model::Model& model, std::int64_t length, std::uint64_t memory,
                               std::int64_t most_tokens) {
  const std::uint64_t half = memory / 2;
  // The states that are changed are kept; of each window, its logits and what becomes of them.
  const std::int64_t tokens = model.tokens_at_once(/*num_kept=*/1, static_cast<double>(half));
  const std::int64_t logits = 32 * model.spec().vocab_size;
  return std::max<std::int64_t>(
      1, std::min({tokens / length, static_cast<std::int64_t>(half) / logits, most_tokens / length}));
}

}  // namespace

Patcher::Patcher(const model::Model& model, PatchingOptions options)
    : model_(model),
      options_(std::move(options)),
      pass_(model.backend().vocabulary_pass(model.head().unembedding, compute::Precision::kFloat32)),
      decoder_(std::make_unique<compute::StatisticsDecoder>(*pass_, std::vector<std::uint8_t>(), 0)) {
  model.require_states_are_all("activation patching");
}

Patcher::~Patcher() = default;

std::optional<PatchingResult> Patcher::patch(const PatchingPair& pair, bool checks) {
  try {
    return patch_whole(pair, checks);
  } catch (const util::Error& error) {
    // Products are given up in their middle.
    if (error.code() != util::ErrorCode::kInterrupted || !options_.should_stop()) throw;
    statistics_.stopped = true;
    return std::nullopt;
  }
}

std::optional<PatchingResult> Patcher::patch_whole(const PatchingPair& pair, bool checks) {
  DEPTHLENS_ASSERT(pair.source.size() == pair.target.size());
  const auto stopped = [&] { return statistics_.stopped = options_.should_stop(); };
  if (stopped()) return std::nullopt;
  const c10::InferenceMode inference;
  const model::ArchSpec& spec = model_.spec();
  const model::OutputHead& head = model_.head();
  const std::int64_t L = spec.num_layers, T = pair.length();
  const auto count_windows = [&](std::int64_t windows) {
    statistics_.windows += windows;
    statistics_.positions += windows;
    statistics_.tokens += windows * T;
  };

  model::PackedWindows both{.tokens = {pair.source.begin(), pair.source.end()}, .lengths = {T, T}};
  both.tokens.insert(both.tokens.end(), pair.target.begin(), pair.target.end());
  std::vector<at::Tensor> states;  // L + 1 of [2 T, d]
  model::forward_finite(
      model_, both, [&](std::int64_t /*layer*/, const at::Tensor& shown) { states.push_back(shown); },
      [&](std::int64_t row) {
        return util::cat(row < T ? "the source" : "the target", " of a pair, position ", row % T);
      });
  const at::Tensor normed = last_rows(head, states.back(), T);  // of the source, of the target
  const at::Tensor clean = normed.narrow(0, 1, 1);
  std::vector<LastPrediction> both_clean = predictions(model_, *decoder_, clean, normed, pair);
  both_clean[1].kl = 0;  // against itself, where rounding leaves 1e-8
  if (checks) {
    add_self_check(statistics_, error_of(head, *decoder_, clean), 1, compute::Precision::kExact,
                   "a clean run of a pair");
  }
  count_windows(2);

  PatchingResult result{
      .source = both_clean[0], .target = both_clean[1], .num_rows = L + 1, .length = T, .patched = {}};
  if (options_.predicted_only &&
      (result.source.top1 != pair.source_answer || result.target.top1 != pair.target_answer))
    return std::nullopt;

  // What is not run below changes nothing, but for layer L, whose last state is all that the output sees.
  result.patched.assign(static_cast<std::size_t>((L + 1) * T), result.target);
  result.patched.back() = result.source;
  const std::uint64_t memory = options_.memory > 0 ? options_.memory : 2 * model_.memory() / 3;
  const auto most = [&] { return windows_at_a_time(model_, T, memory, most_tokens_); };
  for (std::int64_t layer = 0; layer < L; ++layer) {
    const at::Tensor from = states[static_cast<std::size_t>(layer)].narrow(0, 0, T);
    const at::Tensor into = states[static_cast<std::size_t>(layer)].narrow(0, T, T);
    const std::vector<std::int64_t> positions = different_positions(pair, layer);
    const auto total = static_cast<std::int64_t>(positions.size());
    std::int64_t count = 0;
    for (std::int64_t first = 0; first < total; first += count) {
      if (stopped()) return std::nullopt;
      std::vector<LastPrediction> said;
      const auto run = [&] {
        count = std::min(most(), total - first);
        const std::int64_t* at = positions.data() + first;
        const at::Tensor changed = into.repeat({count, 1});
        for (std::int64_t k = 0; k < count; ++k)
          changed.select(0, k * T + at[k]).copy_(from.select(0, at[k]));
        at::Tensor last;
        model_.run_blocks(
            layer, changed,
            {.tokens = {}, .lengths = std::vector<std::int64_t>(static_cast<std::size_t>(count), T)},
            [&](std::int64_t /*layer*/, const at::Tensor& shown) { last = shown; });
        said = predictions(model_, *decoder_, clean, last_rows(head, last, T), pair);
      };
      const auto run_fewer = [&] {
        most_tokens_ = count / 2 * T;
        return count > 1;
      };
      compute::retry_with_less(model_.device(), run, run_fewer);
      for (std::int64_t k = 0; k < count; ++k)
        result.patched[static_cast<std::size_t>(layer * T + positions[static_cast<std::size_t>(first + k)])] =
            said[static_cast<std::size_t>(k)];
      count_windows(count);
    }
  }
  compute::release_free_memory();
  return result;
}

}  // namespace depthlens::decode
