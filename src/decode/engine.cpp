// Batches of windows through the model, chunks of positions through the lenses and the decoder, readouts to
// listeners.
#include "depthlens/decode/engine.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/isfinite.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "decode/self_check.hpp"
#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/log_probabilities.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/compute/statistics.hpp"
#include "depthlens/lens/lens.hpp"
#include "depthlens/model/finite.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::decode {
namespace {

constexpr std::int64_t kSelfCheckPositions = 2;  // of a checked chunk

Needs union_of_needs(const std::vector<Listener*>& listeners, std::int64_t vocab_size) {
  Needs all;
  for (const Listener* listener : listeners) {
    Needs one = listener->needs();
    all.top_k = std::max(all.top_k, one.top_k);
    all.probability_sums = all.probability_sums || one.probability_sums;
    if (one.num_groups == 0) continue;
    DEPTHLENS_ASSERT(static_cast<std::int64_t>(one.token_groups.size()) == vocab_size);
    DEPTHLENS_ASSERT(all.num_groups == 0 || all.token_groups == one.token_groups);
    all.token_groups = std::move(one.token_groups);
    all.num_groups = one.num_groups;
  }
  all.top_k = std::min(all.top_k, vocab_size);
  return all;
}

/// One position of a batch: which query it belongs to, and its row among the batch's tokens.
struct BatchPosition {
  const Query* query;
  const Query::Position* where;
  std::int64_t row;
};

std::string place_of(const Query& query, std::int64_t position) {
  return util::cat("document ", query.document, ", window ", query.window, ", position ", position);
}

/// A run in progress: what stays the same from batch to batch.
class Run {
 public:
  Run(const model::Model& model, const std::vector<const lens::Lens*>& lenses, const EngineOptions& options,
      const std::vector<Listener*>& listeners)
      : model_(model), lenses_(lenses), options_(options), listeners_(listeners) {
    const model::ArchSpec& spec = model.spec();
    const Needs needs = union_of_needs(listeners, spec.vocab_size);
    pass_ = model.backend().vocabulary_pass(model.head().unembedding, model.backend().decode_precision());
    decoder_ = std::make_unique<compute::StatisticsDecoder>(*pass_, needs.token_groups, needs.num_groups,
                                                            memory() / 2);
    for (const lens::Lens* lens : lenses) shape_.lens_names.push_back(lens->request().name);
    shape_.num_rows = spec.num_layers + 1;
    shape_.top_k = needs.top_k;
    shape_.num_groups = needs.num_groups;
    shape_.vocab_size = spec.vocab_size;

    // Which state of the decoder's input serves (lens, layer): lenses share the untranslated states.
    state_of_.resize(lenses.size() * static_cast<std::size_t>(shape_.num_rows));
    std::vector<std::int64_t> plain(static_cast<std::size_t>(shape_.num_rows), -1);
    states_.push_back({nullptr, spec.num_layers});
    plain.back() = 0;
    for (std::size_t n = 0; n < lenses.size(); ++n) {
      for (std::int64_t layer = 0; layer < shape_.num_rows; ++layer) {
        const bool translated = lenses[n]->translates(layer);
        std::int64_t& shared = plain[static_cast<std::size_t>(layer)];
        std::int64_t state = translated ? -1 : shared;
        if (state < 0) {
          state = static_cast<std::int64_t>(states_.size());
          states_.push_back({translated ? lenses[n] : nullptr, layer});
          if (!translated) shared = state;
        }
        state_of_[n * static_cast<std::size_t>(shape_.num_rows) + static_cast<std::size_t>(layer)] = state;
      }
    }
    if (needs.probability_sums) sums_.emplace(static_cast<std::int64_t>(states_.size()), shape_.vocab_size);
    choose_sizes();
  }

  const ReadoutShape& shape() const { return shape_; }
  std::int64_t tokens_per_batch() const { return tokens_per_batch_; }
  RunStatistics& statistics() { return statistics_; }
  ProbabilitySums probability_sums() const;

  void process(const std::vector<Query>& batch);

 private:
  struct State {
    const lens::Lens* lens;  // nullptr: decoded as it is
    std::int64_t layer;
  };

  std::uint64_t memory() const { return options_.memory > 0 ? options_.memory : model_.backend().memory(); }

  void choose_sizes() {
    const model::ArchSpec& spec = model_.spec();
    // A pass that reads all weights from disk must be worth it: 2.4 GiB of states by default.
    constexpr std::uint64_t kTimesWhereStreamed = 13;
    const compute::WorkSizes sizes = model_.backend().work_sizes();
    const bool streams = model_.streams_layers();
    const std::uint64_t half = memory() / 2;
    const std::uint64_t for_tokens = streams ? kTimesWhereStreamed * half : half;
    // Per token: all residual states, and the largest of a block's intermediate results.
    const auto per_token = static_cast<std::uint64_t>(
        4 * (shape_.num_rows * spec.hidden_size + 8 * spec.hidden_size + 4 * spec.widest_mlp()));
    tokens_per_batch_ = std::clamp<std::int64_t>(static_cast<std::int64_t>(for_tokens / per_token), 1,
                                                 (streams ? 16 : 1) * sizes.tokens_per_batch);
    const auto num_states = static_cast<std::int64_t>(states_.size());
    constexpr std::int64_t kBlock = 32;  // whole blocks of most products
    positions_per_chunk_ = std::clamp<std::int64_t>(sizes.rows_per_chunk / num_states / kBlock * kBlock,
                                                    kBlock, sizes.positions_per_chunk);
    while (positions_per_chunk_ > kBlock &&
           decoder_->working_memory(num_states, positions_per_chunk_) > half) {
      positions_per_chunk_ -= kBlock;
    }
    // Where the probabilities of all tokens are summed, smaller chunks whose logits can be kept save a second
    // multiplication of all of them.
    constexpr std::int64_t kMinKept = 64;
    const std::int64_t kept = decoder_->positions_to_keep(num_states) / kBlock * kBlock;
    if (sums_ && kept >= kMinKept) positions_per_chunk_ = std::min(positions_per_chunk_, kept);
  }

  LayerReadout read_out(const std::vector<at::Tensor>& residuals, const BatchPosition* positions,
                        std::int64_t count);
  void require_finite_output(const compute::Statistics& output, const BatchPosition* positions) const;
  void self_check(const at::Tensor& final_rows, const compute::Statistics& output,
                  std::int64_t num_positions);

  const model::Model& model_;
  const std::vector<const lens::Lens*>& lenses_;
  const EngineOptions& options_;
  const std::vector<Listener*>& listeners_;
  std::unique_ptr<compute::VocabularyPass> pass_;
  std::unique_ptr<compute::StatisticsDecoder> decoder_;
  ReadoutShape shape_;
  std::vector<State> states_;           // 0 is the final layer
  std::vector<std::int64_t> state_of_;  // [N, R]
  std::int64_t tokens_per_batch_ = 0;
  std::int64_t positions_per_chunk_ = 0;
  std::int64_t next_self_check_ = 0;              // in positions
  std::optional<compute::ProbabilitySums> sums_;  // where they are wanted
  RunStatistics statistics_;
};

void Run::process(const std::vector<Query>& batch) {
  model::PackedWindows windows;
  std::vector<BatchPosition> positions;
  for (const Query& query : batch) {
    const auto start = static_cast<std::int64_t>(windows.tokens.size());
    windows.tokens.insert(windows.tokens.end(), query.tokens.begin(), query.tokens.end());
    windows.lengths.push_back(static_cast<std::int64_t>(query.tokens.size()));
    for (const Query::Position& where : query.positions)
      positions.push_back({&query, &where, start + where.position});
  }
  std::vector<at::Tensor> residuals;  // L + 1 of [T, d]
  const auto name_of = [&](std::int64_t row) {
    const Query* query = batch.data();
    for (; row >= static_cast<std::int64_t>(query->tokens.size()); ++query)
      row -= static_cast<std::int64_t>(query->tokens.size());
    return place_of(*query, row);
  };
  model_.forward(windows, [&](std::int64_t layer, const at::Tensor& states) {
    model::require_finite(model_, layer, states, name_of);
    residuals.push_back(states);
  });

  const auto total = static_cast<std::int64_t>(positions.size());
  // Chunks of about one size: a small one at the end would cost as much packing as a large one.
  constexpr std::int64_t kEven = 8;
  const std::int64_t chunks = std::max<std::int64_t>(1, util::ceil_div(total, positions_per_chunk_));
  const std::int64_t size =
      std::min(positions_per_chunk_, util::round_up(util::ceil_div(total, chunks), kEven));
  for (std::int64_t first = 0; first < total; first += size) {
    const std::int64_t count = std::min(size, total - first);
    const LayerReadout readout = read_out(residuals, positions.data() + first, count);
    for (std::int64_t p = 0; p < count; ++p) {
      const BatchPosition& at = positions[static_cast<std::size_t>(first + p)];
      const PositionReadout view(shape_, readout, p, *at.query, *at.where);
      if (!options_.accepts(view)) continue;
      for (Listener* listener : listeners_) listener->accept(view);
    }
    statistics_.positions += count;
  }
  statistics_.windows += static_cast<std::int64_t>(batch.size());
  statistics_.tokens += static_cast<std::int64_t>(windows.tokens.size());
  options_.on_progress(total);
}

LayerReadout Run::read_out(const std::vector<at::Tensor>& residuals, const BatchPosition* positions,
                           std::int64_t count) {
  const auto S = static_cast<std::int64_t>(states_.size());
  const std::int64_t P = count, K = shape_.top_k;

  std::vector<std::int64_t> rows;
  std::int64_t W = kFirstWatchedOfQuery;
  for (std::int64_t p = 0; p < P; ++p) {
    rows.push_back(positions[p].row);
    W = std::max<std::int64_t>(
        W, kFirstWatchedOfQuery + static_cast<std::int64_t>(positions[p].where->watched.size()));
  }
  const at::Tensor chosen = model::index_tensor(rows, model_.device());

  compute::StatisticsInput input;
  input.num_states = S;
  input.num_positions = P;
  input.top_k = K;
  input.num_watched = W;
  input.watched.assign(static_cast<std::size_t>(P * W), kNoToken);
  for (std::int64_t p = 0; p < P; ++p) {
    TokenId* watched = input.watched.data() + p * W;
    watched[kWatchedTarget] = positions[p].where->target;
    std::copy(positions[p].where->watched.begin(), positions[p].where->watched.end(),
              watched + kFirstWatchedOfQuery);
  }
  std::vector<at::Tensor> normed;
  for (const State& state : states_) {
    at::Tensor residual = residuals[static_cast<std::size_t>(state.layer)].index_select(0, chosen);  // [P, d]
    if (state.lens != nullptr) residual = state.lens->translate(state.layer, residual);
    normed.push_back(model_.head().normed(residual));
  }
  input.rows = at::cat(normed);  // [S · P, d]
  const compute::Statistics output = decoder_->decode(input, sums_ ? &*sums_ : nullptr);

  require_finite_output(output, positions);
  if (statistics_.positions >= next_self_check_) {
    self_check(normed.front(), output, P);
    next_self_check_ = statistics_.positions + kSelfCheckEvery;
  }

  LayerReadout readout;
  readout.num_positions = P;
  readout.num_watched = W;
  readout.state_of = state_of_;
  readout.watched_ids = output.watched;
  readout.top_ids = output.top_ids;
  readout.watched_ranks.assign(output.watched_ranks.begin(), output.watched_ranks.end());
  readout.group_mass.assign(output.group_mass.begin(), output.group_mass.end());
  // Of each row's `per_row` logits.
  const auto logprobs = [&](const std::vector<double>& logits, std::int64_t per_row) {
    std::vector<float> all(logits.size());
    for (std::size_t i = 0; i < all.size(); ++i)
      all[i] = static_cast<float>(logits[i] - output.log_sum_exp[i / static_cast<std::size_t>(per_row)]);
    return all;
  };
  readout.top_logprobs = logprobs(output.top_logits, K);
  readout.watched_logprobs = logprobs(output.watched_logits, W);
  // Divergences and entropies are not negative; rounding of equal distributions may leave −1e-9.
  const auto not_negative = [](const std::vector<double>& values) {
    std::vector<float> all(values.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>(std::max(0.0, values[i]));
    return all;
  };
  readout.entropy = not_negative(output.entropy);
  readout.kl_final = not_negative(output.kl_final);
  readout.kl_reverse = not_negative(output.kl_reverse);
  return readout;
}

/// The states were finite: what is not comes from a lens, the final norm or the unembedding.
void Run::require_finite_output(const compute::Statistics& output, const BatchPosition* positions) const {
  constexpr double kOrdinary = 1000;  // of real models: no need for a message
  const auto P = output.log_sum_exp.size() / states_.size();
  for (std::size_t i = 0; i < output.log_sum_exp.size(); ++i) {
    const bool finite = std::isfinite(output.entropy[i]) && std::isfinite(output.kl_final[i]) &&
                        std::isfinite(output.kl_reverse[i]);
    if (finite && std::abs(output.log_sum_exp[i]) < kOrdinary) continue;
    const State& state = states_[i / P];
    const BatchPosition& at = positions[i % P];
    const std::string by = state.lens != nullptr ? " by the lens " + state.lens->request().name : "";
    check_log_sum_exp(model_, finite ? output.log_sum_exp[i] : std::nan(""),
                      output.top_ids[i * static_cast<std::size_t>(shape_.top_k)],
                      util::cat("layer ", state.layer, by, ", ", place_of(*at.query, at.where->position)));
  }
}

void Run::self_check(const at::Tensor& final_rows, const compute::Statistics& output,
                     std::int64_t num_positions) {
  const std::int64_t checked = std::min(kSelfCheckPositions, num_positions), K = shape_.top_k;
  const at::Tensor plain =
      compute::plain_log_probabilities(model_.head().unembedding, final_rows.narrow(0, 0, checked));
  const auto of_output = [](const std::vector<double>& values, at::IntArrayRef shape) {
    return at::from_blob(const_cast<double*>(values.data()), shape, at::kDouble);
  };
  const at::Tensor decoded =
      of_output(output.top_logits, {checked, K}) - of_output(output.log_sum_exp, {checked, 1});
  const at::Tensor error = (decoded - std::get<0>(plain.topk(K, 1)).to(at::kCPU)).abs().max();
  add_self_check(statistics_, error.item<double>(), checked, model_.backend().decode_precision());
}

ProbabilitySums Run::probability_sums() const {
  ProbabilitySums all{
      .sums = {}, .state_of = state_of_, .num_rows = shape_.num_rows, .positions = statistics_.positions};
  if (!sums_) return all;
  const at::Tensor whole = sums_->sums + sums_->log_small.exp();
  const auto rows_of = [&](const at::Tensor& values, std::vector<std::vector<double>>& rows) {
    const auto V = static_cast<std::size_t>(shape_.vocab_size);
    const double* first = values.const_data_ptr<double>();
    for (std::size_t s = 0; s < states_.size(); ++s) rows.emplace_back(first + s * V, first + (s + 1) * V);
  };
  rows_of(whole, all.sums);
  if (!at::isfinite(sums_->log_small).any().item<bool>()) return all;
  rows_of(sums_->log_small, all.log_small);
  return all;
}

}  // namespace

Engine::Engine(const model::Model& model, std::vector<const lens::Lens*> lenses, EngineOptions options)
    : model_(model), lenses_(std::move(lenses)), options_(std::move(options)) {
  DEPTHLENS_ASSERT(!lenses_.empty());
}

RunStatistics Engine::run(const QuerySource& source, const std::vector<Listener*>& listeners) const {
  const c10::InferenceMode inference;
  Run run(model_, lenses_, options_, listeners);
  for (Listener* listener : listeners) listener->begin(run.shape());
  std::vector<Query> batch;
  std::int64_t batch_tokens = 0;
  std::optional<Query> next;
  const auto pull = [&] {
    next.emplace();
    if (!source(*next)) next.reset();
  };
  pull();
  while (next) {
    if (options_.should_stop()) {
      run.statistics().stopped = true;
      break;
    }
    batch.clear();
    batch_tokens = 0;
    while (next) {
      const auto tokens = static_cast<std::int64_t>(next->tokens.size());
      if (!batch.empty() && batch_tokens + tokens > run.tokens_per_batch()) break;
      batch_tokens += tokens;
      batch.push_back(std::move(*next));
      pull();
    }
    run.process(batch);
    compute::release_free_memory();
    if (!next) pull();
  }
  for (Listener* listener : listeners) {
    if (listener->needs().probability_sums) listener->accept_sums(run.probability_sums());
    listener->end();
  }
  return run.statistics();
}

}  // namespace depthlens::decode
