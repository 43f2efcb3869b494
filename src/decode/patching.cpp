// Clean runs of both prompts, then the target's run again and again, each time with one state exchanged.
#include "depthlens/decode/patching.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <limits>

#include "decode/self_check.hpp"
#include "depthlens/decode/runtime.hpp"
#include "depthlens/model/finite.hpp"
#include "depthlens/model/linear.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::decode {
namespace {

/// The final norm of the last state of each of n windows, [n, d], from all their states [n · T, d].
at::Tensor last_rows(const model::OutputHead& head, const at::Tensor& states, std::int64_t length) {
  return head.normed(states.view({-1, length, states.size(1)}).select(1, length - 1));
}

/// Log-probabilities [n, V] in float64 on the host, of products in float32 as in the decoder. A row does not
/// depend on the others.
at::Tensor log_probabilities(const model::Model& model, const at::Tensor& normed) {
  const model::OutputHead& head = model.head();
  const std::int64_t V = head.unembedding.size(0);
  at::Tensor logits = at::empty({normed.size(0), V}, normed.options().dtype(at::kDouble));
  constexpr std::int64_t kPart = 4096;  // of weights that may have to be widened
  for (std::int64_t first = 0; first < V; first += kPart) {
    const std::int64_t width = std::min(kPart, V - first);
    const at::Tensor weight = head.unembedding.narrow(0, first, width).to(at::kFloat);
    logits.narrow(1, first, width).copy_(model::linear(normed, weight, {}));
  }
  if (head.bias.defined()) logits.add_(head.bias);
  const auto [greatest, tokens] = logits.max(1);
  const double most =
      at::linalg_vector_norm(greatest, std::numeric_limits<double>::infinity()).item<double>();
  check_log_sum_exp(model, at::isfinite(logits).all().item<bool>() ? most : std::nan(""),
                    static_cast<TokenId>(tokens[greatest.argmax()].item<std::int64_t>()), "a run of a pair");
  return logits.log_softmax(1).to(at::kCPU);
}

/// What a row of log-probabilities [V] says; `clean` is that of the clean target.
LastPrediction prediction(const double* row, const double* clean, std::int64_t V, const PatchingPair& pair) {
  LastPrediction all{.top1 = static_cast<TokenId>(std::max_element(row, row + V) - row),
                     .log_probability_difference = row[pair.source_answer] - row[pair.target_answer]};
  for (std::int64_t v = 0; v < V; ++v) all.kl += std::exp(clean[v]) * (clean[v] - row[v]);
  all.kl = std::max(0.0, all.kl);  // rounding may leave −1e-16
  return all;
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

/// How many windows of `length` tokens may run together.
std::int64_t windows_at_a_time(const model::ArchSpec& spec, std::int64_t length, std::uint64_t memory) {
  const std::int64_t half = static_cast<std::int64_t>(memory / 2);
  // Per token the largest of a block's intermediate results, per window its logits and what becomes of them.
  const std::int64_t states = 4 * length * (8 * spec.hidden_size + 4 * spec.mlp_size);
  const std::int64_t logits = 32 * spec.vocab_size;
  constexpr std::int64_t kMostTokens = 4096;
  return std::max<std::int64_t>(1, std::min({half / states, half / logits, kMostTokens / length}));
}

}  // namespace

std::optional<PatchingResult> Patcher::patch(const PatchingPair& pair) {
  DEPTHLENS_ASSERT(pair.source.size() == pair.target.size());
  const auto stopped = [&] { return statistics_.stopped = options_.should_stop(); };
  if (stopped()) return std::nullopt;
  const c10::InferenceMode inference;
  const model::ArchSpec& spec = model_.spec();
  const model::OutputHead& head = model_.head();
  const std::int64_t L = spec.num_layers, T = pair.length(), V = spec.vocab_size;
  const auto count_windows = [&](std::int64_t windows) {
    statistics_.windows += windows;
    statistics_.positions += windows;
    statistics_.tokens += windows * T;
  };

  model::PackedWindows both{.tokens = {pair.source.begin(), pair.source.end()}, .lengths = {T, T}};
  both.tokens.insert(both.tokens.end(), pair.target.begin(), pair.target.end());
  std::vector<at::Tensor> states;  // L + 1 of [2 T, d]
  model_.forward(both, [&](std::int64_t layer, const at::Tensor& shown) {
    model::require_finite(model_, layer, shown, [&](std::int64_t row) {
      return util::cat(row < T ? "the source" : "the target", " of a pair, position ", row % T);
    });
    states.push_back(shown);
  });
  const at::Tensor normed = last_rows(head, states.back(), T);
  const at::Tensor both_clean = log_probabilities(model_, normed);
  if (statistics_.positions >= next_self_check_) {
    const at::Tensor plain = plain_log_probabilities(head, normed.narrow(0, 1, 1)).to(at::kCPU);
    add_self_check(statistics_, (both_clean.narrow(0, 1, 1) - plain).abs().max().item<double>(), 1);
    next_self_check_ = statistics_.positions + kSelfCheckEvery;
  }
  count_windows(2);

  const double* source = both_clean.const_data_ptr<double>();
  const double* clean = source + V;
  PatchingResult result{.source = prediction(source, clean, V, pair),
                        .target = prediction(clean, clean, V, pair),
                        .num_rows = L + 1,
                        .length = T,
                        .patched = {}};
  if (options_.predicted_only &&
      (result.source.top1 != pair.source_answer || result.target.top1 != pair.target_answer))
    return std::nullopt;

  // What is not run below changes nothing, but for layer L, whose last state is all that the output sees.
  result.patched.assign(static_cast<std::size_t>((L + 1) * T), result.target);
  result.patched.back() = result.source;
  const std::int64_t most = windows_at_a_time(spec, T, options_.memory);
  for (std::int64_t layer = 0; layer < L; ++layer) {
    const at::Tensor from = states[static_cast<std::size_t>(layer)].narrow(0, 0, T);
    const at::Tensor into = states[static_cast<std::size_t>(layer)].narrow(0, T, T);
    const std::vector<std::int64_t> positions = different_positions(pair, layer);
    const auto total = static_cast<std::int64_t>(positions.size());
    for (std::int64_t first = 0; first < total; first += most) {
      if (stopped()) return std::nullopt;
      const std::int64_t count = std::min(most, total - first);
      const std::int64_t* at = positions.data() + first;
      const at::Tensor changed = into.repeat({count, 1});
      for (std::int64_t k = 0; k < count; ++k) changed.select(0, k * T + at[k]).copy_(from.select(0, at[k]));
      at::Tensor last;
      model_.run_blocks(
          layer, changed,
          {.tokens = {}, .lengths = std::vector<std::int64_t>(static_cast<std::size_t>(count), T)},
          [&](std::int64_t /*layer*/, const at::Tensor& shown) { last = shown; });
      const at::Tensor said = log_probabilities(model_, last_rows(head, last, T));
      for (std::int64_t k = 0; k < count; ++k) {
        result.patched[static_cast<std::size_t>(layer * T + at[k])] =
            prediction(said.const_data_ptr<double>() + k * V, clean, V, pair);
      }
      count_windows(count);
    }
  }
  release_free_memory();
  return result;
}

}  // namespace depthlens::decode
