// States through lenses and the final norm, rows through the pass over the vocabulary, and what is checked.
#include "decode/group_decoder.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <utility>

#include "depthlens/compute/backend.hpp"
#include "depthlens/lens/lens.hpp"
#include "depthlens/model/finite.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::decode {
namespace {

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

/// What readouts of these lenses are, but for the states.
ReadoutShape shape_of(const model::ArchSpec& spec, const LensGroup& group, const Needs& needs,
                      const std::vector<std::int64_t>& layers) {
  ReadoutShape shape{
      .lens_names = {},
      .num_rows = layers.empty() ? spec.num_layers + 1 : static_cast<std::int64_t>(layers.size()),
      .layers = layers,
      .top_k = needs.top_k,
      .num_groups = needs.num_groups,
      .vocab_size = spec.vocab_size};
  for (const lens::Lens* lens : group.lenses) shape.lens_names.push_back(lens->request().name);
  DEPTHLENS_ASSERT(shape.last_layer() == spec.num_layers);
  return shape;
}

/// The most tokens that any of the positions watches.
std::int64_t most_watched(const BatchPosition* positions, std::int64_t count) {
  std::int64_t most = 0;
  for (std::int64_t p = 0; p < count; ++p)
    most = std::max(most, static_cast<std::int64_t>(positions[p].where->watched.size()));
  return kFirstWatchedOfQuery + most;
}

/// The tokens that are watched at each position, [P, W]; `num_watched` is set.
void set_watched(compute::StatisticsInput& input, const BatchPosition* positions) {
  const std::int64_t P = input.num_positions, W = most_watched(positions, P);
  input.num_watched = W;
  input.watched.assign(static_cast<std::size_t>(P * W), kNoToken);
  for (std::int64_t p = 0; p < P; ++p) {
    TokenId* watched = input.watched.data() + p * W;
    watched[kWatchedTarget] = positions[p].where->target;
    std::copy(positions[p].where->watched.begin(), positions[p].where->watched.end(),
              watched + kFirstWatchedOfQuery);
  }
}

/// The statistics in the form in which they are shown.
LayerReadout readout_of(compute::Statistics output, std::int64_t num_positions) {
  const std::size_t rows = output.log_sum_exp.size();
  LayerReadout readout;
  readout.num_positions = num_positions;
  readout.num_watched = static_cast<std::int64_t>(output.watched.size()) / num_positions;
  readout.watched_ids = std::move(output.watched);
  readout.top_ids = std::move(output.top_ids);
  readout.watched_ranks.assign(output.watched_ranks.begin(), output.watched_ranks.end());
  readout.group_mass.assign(output.group_mass.begin(), output.group_mass.end());
  const auto logprobs = [&](const std::vector<double>& logits) {
    std::vector<float> all(logits.size());
    std::size_t i = 0;
    for (std::size_t row = 0; row < rows; ++row) {
      for (const std::size_t end = (row + 1) * logits.size() / rows; i < end; ++i)
        all[i] = static_cast<float>(logits[i] - output.log_sum_exp[row]);
    }
    return all;
  };
  readout.top_logprobs = logprobs(output.top_logits);
  readout.watched_logprobs = logprobs(output.watched_logits);
  const auto at_least_zero = [](const std::vector<double>& values) {
    std::vector<float> all(values.size());
    std::transform(values.begin(), values.end(), all.begin(),
                   [](double value) { return static_cast<float>(not_negative(value)); });
    return all;
  };
  readout.entropy = at_least_zero(output.entropy);
  readout.kl_final = at_least_zero(output.kl_final);
  readout.kl_reverse = at_least_zero(output.kl_reverse);
  return readout;
}

}  // namespace

std::string place_of(const Query& query, std::int64_t position) {
  return util::cat("document ", query.document, ", window ", query.window, ", position ", position);
}

GroupDecoder::GroupDecoder(const model::Model& model, const LensGroup& group, const EngineOptions& options)
    : model_(model),
      listeners_(group.listeners),
      memory_(options.memory > 0 ? options.memory : model.backend().memory()) {
  const Needs needs = union_of_needs(listeners_, model.spec().vocab_size);
  pass_ = model.backend().vocabulary_pass(model.head().unembedding, model.backend().decode_precision());
  decoder_ =
      std::make_unique<compute::StatisticsDecoder>(*pass_, needs.token_groups, needs.num_groups, memory_ / 2);
  shape_ = shape_of(model.spec(), group, needs, options.layers);
  states_ = decoded_states(group.lenses, shape_);
  wants_sums_ = needs.probability_sums;
  choose_chunk();
}

namespace {
constexpr std::int64_t kBlock = 32;  // positions: whole blocks of most products
}  // namespace

std::int64_t GroupDecoder::that_fit(std::int64_t positions, std::int64_t num_watched) const {
  const compute::StatisticsDecoder::Kept kept{
      .num_states = shape_.num_states, .top_k = shape_.top_k, .num_watched = num_watched};
  while (positions > kBlock && decoder_->working_memory(kept, positions) > memory_ / 2) positions -= kBlock;
  return positions;
}

std::int64_t GroupDecoder::positions_per_chunk(const BatchPosition* positions, std::int64_t count) const {
  return that_fit(positions_per_chunk_, most_watched(positions, count));
}

void GroupDecoder::choose_chunk() {
  const compute::WorkSizes sizes = model_.backend().work_sizes();
  positions_per_chunk_ = std::clamp<std::int64_t>(sizes.rows_per_chunk / shape_.num_states / kBlock * kBlock,
                                                  kBlock, sizes.positions_per_chunk);
  positions_per_chunk_ = that_fit(positions_per_chunk_, kFirstWatchedOfQuery);
  // Where the probabilities of all tokens are summed, smaller chunks whose logits can be kept save a second
  // multiplication of all of them.
  constexpr std::int64_t kMinKept = 64;
  const std::int64_t kept = decoder_->positions_to_keep(shape_.num_states) / kBlock * kBlock;
  if (wants_sums_ && kept >= kMinKept) positions_per_chunk_ = std::min(positions_per_chunk_, kept);

  const std::int64_t bytes = shape_.num_states * 4 * model_.spec().hidden_size;
  const auto fitting = static_cast<std::int64_t>(memory_ / 8) / bytes;
  positions_translated_ = std::max(positions_per_chunk_, std::min(fitting, sizes.positions_translated));
}

GroupStates GroupDecoder::states(const StateRows& rows_of) const {
  GroupStates all;
  std::vector<at::Tensor> largest;
  for (const DecodedState& state : states_) {
    at::Tensor& values = all.values.emplace_back(rows_of(state.layer));
    if (state.lens == nullptr) continue;
    values = state.lens->translate(state.layer, values);
    largest.push_back(model::largest(values));
  }
  if (!largest.empty()) all.largest = std::make_shared<const compute::HostCopy>(at::stack(largest));
  return all;
}

at::Tensor GroupDecoder::normed(const GroupStates& states, std::int64_t first, std::int64_t count) const {
  // Several states are normed at once: few operations for a device, and little memory between them.
  constexpr std::int64_t kRowsOfNorm = 2048;
  std::vector<at::Tensor> several, normed;
  for (const at::Tensor& values : states.values) {
    several.push_back(values.narrow(0, first, count));
    if (static_cast<std::int64_t>(several.size()) * count < kRowsOfNorm && &values != &states.values.back())
      continue;
    normed.push_back(model_.head().normed(several.size() == 1 ? several.front() : at::cat(several)));
    several.clear();
  }
  return at::cat(normed);
}

BegunChunk GroupDecoder::begin(const GroupStates& states, std::int64_t first, const BatchPosition* positions,
                               std::int64_t count, bool checks, compute::LogitMemory& memory) {
  const std::int64_t S = shape_.num_states, P = count;
  compute::StatisticsInput input;
  input.num_states = S;
  input.num_positions = P;
  input.top_k = shape_.top_k;
  set_watched(input, positions);
  input.rows = normed(states, first, P);
  std::vector<CheckedPosition> checked;
  std::vector<at::Tensor> plain;
  for (std::int64_t p = 0; checks && p < P; ++p) {
    if (!positions[p].is_checked) continue;
    // Which state follows from the position alone: over a run all get their turn.
    const std::int64_t state = S > 1 ? 1 + positions[p].where->position % (S - 1) : 0;
    checked.push_back({p, state});
    plain.push_back(plain_statistics(model_.head().unembedding,
                                     at::stack({input.rows[p], input.rows[state * P + p]}), shape_.top_k));
  }
  if (wants_sums_ && !sums_) sums_.emplace(S, shape_.vocab_size);
  return {.positions = positions,
          .count = P,
          .checked = std::move(checked),
          .plain = plain.empty() ? compute::HostCopy() : compute::HostCopy(at::stack(plain)),
          .largest = states.largest,
          // Last: it may change sums.
          .statistics = decoder_->begin(input, sums_ ? &*sums_ : nullptr, &memory)};
}

LayerReadout GroupDecoder::read_out(const BegunChunk& chunk, std::vector<double>& errors) const {
  const c10::InferenceMode inference;
  compute::Statistics output = chunk.statistics();
  if (chunk.largest != nullptr) require_fit_for_norm(model_, states_, chunk.largest->values());
  const ChunkCheck check(model_, states_, output, [&](std::int64_t p) {
    return place_of(*chunk.positions[p].query, chunk.positions[p].where->position);
  });
  check.require_finite();
  for (std::size_t c = 0; c < chunk.checked.size(); ++c) {
    const at::Tensor plain = chunk.plain.values()[static_cast<std::int64_t>(c)];
    errors.push_back(check.compare(chunk.checked[c], plain.const_data_ptr<double>()));
  }
  return readout_of(std::move(output), chunk.count);
}

void GroupDecoder::end_part(std::int64_t positions) {
  if (!wants_sums_) return;
  ProbabilitySums all{.sums = {}, .positions = positions};
  if (sums_) {
    const at::Tensor whole = sums_->sums + sums_->log_small.exp();
    const auto rows_of = [&](const at::Tensor& values, std::vector<std::vector<double>>& rows) {
      const auto V = static_cast<std::size_t>(shape_.vocab_size);
      const double* first = values.const_data_ptr<double>();
      for (std::size_t s = 0; s < states_.size(); ++s) rows.emplace_back(first + s * V, first + (s + 1) * V);
    };
    rows_of(whole, all.sums);
    if (at::isfinite(sums_->log_small).any().item<bool>()) rows_of(sums_->log_small, all.log_small);
  }
  for (Listener* listener : listeners_) {
    if (listener->needs().probability_sums) listener->accept_sums(all);
  }
  sums_.reset();
}

}  // namespace depthlens::decode
