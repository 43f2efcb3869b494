// Batches of windows through the model, chunks of positions through the lenses and the decoder, readouts to
// listeners.
#include "depthlens/decode/engine.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "decode/self_check.hpp"
#include "decode/stored_tensors.hpp"
#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/log_probabilities.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/compute/statistics.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/lens/lens.hpp"
#include "depthlens/model/finite.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"
#include "depthlens/util/text.hpp"
#include "depthlens/util/threads.hpp"
#include "depthlens/util/worker.hpp"

namespace depthlens::decode {
namespace {

constexpr std::int64_t kSelfCheckPositions = 2;  // of a checked part
constexpr std::size_t kMostWindows = 32768;      // of a batch: libtorch's attention takes no more than 65,535
/// Threads that listeners get at the most: the lines of more could not be written as fast as they are made.
constexpr int kMostShowing = 16;

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
  bool is_checked = false;  // compared with a plain product
};

std::string place_of(const Query& query, std::int64_t position) {
  return util::cat("document ", query.document, ", window ", query.window, ", position ", position);
}

/// The residual states [P, d] of a layer at some positions, on the model's device.
using StateRows = std::function<at::Tensor(std::int64_t layer)>;

/// What a group of lenses decodes at some positions.
struct GroupStates {
  std::vector<at::Tensor> values;  // [P, d] of each state, translated by its lens where it has one
  /// Magnitudes of those that are translated, in their order; nullptr: none is.
  std::shared_ptr<const compute::HostCopy> largest;
};

/// A position of a chunk that is decoded a second time: the final layer and another state.
struct CheckedPosition {
  std::int64_t p, state;
};

/// A chunk of a group, at which the device may be.
struct BegunChunk {
  const BatchPosition* positions;
  std::int64_t count, num_watched;
  std::vector<CheckedPosition> checked;
  compute::HostCopy plain;  // of each of `checked`, as `plain_statistics` gives it
  std::shared_ptr<const compute::HostCopy> largest;
  compute::PendingStatistics statistics;
};

/// A group of lenses in a run: which states it decodes, in what sizes, and who is shown them.
class Group {
 public:
  Group(const model::Model& model, const LensGroup& group, const EngineOptions& options)
      : model_(model), lenses_(group.lenses), listeners_(group.listeners) {
    const model::ArchSpec& spec = model.spec();
    const Needs needs = union_of_needs(listeners_, spec.vocab_size);
    pass_ = model.backend().vocabulary_pass(model.head().unembedding, model.backend().decode_precision());
    const std::uint64_t memory = options.memory > 0 ? options.memory : model.backend().memory();
    decoder_ = std::make_unique<compute::StatisticsDecoder>(*pass_, needs.token_groups, needs.num_groups,
                                                            memory / 2);
    for (const lens::Lens* lens : lenses_) shape_.lens_names.push_back(lens->request().name);
    shape_.num_rows =
        options.layers.empty() ? spec.num_layers + 1 : static_cast<std::int64_t>(options.layers.size());
    shape_.layers = options.layers;
    DEPTHLENS_ASSERT(shape_.last_layer() == spec.num_layers);
    shape_.top_k = needs.top_k;
    shape_.num_groups = needs.num_groups;
    shape_.vocab_size = spec.vocab_size;

    // Which state of the decoder's input serves (lens, row): lenses share the untranslated states.
    shape_.state_of.resize(lenses_.size() * static_cast<std::size_t>(shape_.num_rows));
    std::vector<std::int64_t> plain(static_cast<std::size_t>(shape_.num_rows), -1);
    states_.push_back({nullptr, spec.num_layers});
    plain.back() = 0;
    for (std::size_t n = 0; n < lenses_.size(); ++n) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        const bool translated = lenses_[n]->translates(shape_.layer(row));
        std::int64_t& shared = plain[static_cast<std::size_t>(row)];
        std::int64_t state = translated ? -1 : shared;
        if (state < 0) {
          state = static_cast<std::int64_t>(states_.size());
          states_.push_back({translated ? lenses_[n] : nullptr, shape_.layer(row)});
          if (!translated) shared = state;
        }
        shape_.state_of[n * static_cast<std::size_t>(shape_.num_rows) + static_cast<std::size_t>(row)] =
            state;
      }
    }
    shape_.num_states = static_cast<std::int64_t>(states_.size());
    wants_sums_ = needs.probability_sums;
    choose_chunk(memory);
  }

  const ReadoutShape& shape() const { return shape_; }
  const std::vector<Listener*>& listeners() const { return listeners_; }
  bool wants_sums() const { return wants_sums_; }
  std::int64_t positions_per_chunk() const { return positions_per_chunk_; }

  std::int64_t positions_translated() const { return positions_translated_; }

  /// Neither this nor `begin` changes anything where it throws that memory does not suffice.
  GroupStates states(const StateRows& rows_of) const;
  /// Gives the device the work of a chunk of `count` positions, whose states are those of `states` from
  /// `first` on. With `checks` some are compared with a plain product.
  BegunChunk begin(const GroupStates& states, std::int64_t first, const BatchPosition* positions,
                   std::int64_t count, bool checks);
  /// Waits for the device. `errors` gets one error for each position that is checked.
  LayerReadout read_out(const BegunChunk& chunk, std::vector<double>& errors) const;

  /// Shows the sums of a part to those who want them, and begins anew.
  void end_part(std::int64_t positions);

 private:
  struct State {
    const lens::Lens* lens;  // nullptr: decoded as it is
    std::int64_t layer;
  };

  void choose_chunk(std::uint64_t memory) {
    const compute::WorkSizes sizes = model_.backend().work_sizes();
    constexpr std::int64_t kBlock = 32;  // whole blocks of most products
    positions_per_chunk_ = std::clamp<std::int64_t>(
        sizes.rows_per_chunk / shape_.num_states / kBlock * kBlock, kBlock, sizes.positions_per_chunk);
    while (positions_per_chunk_ > kBlock &&
           decoder_->working_memory(shape_.num_states, positions_per_chunk_) > memory / 2) {
      positions_per_chunk_ -= kBlock;
    }
    // Where the probabilities of all tokens are summed, smaller chunks whose logits can be kept save a second
    // multiplication of all of them.
    constexpr std::int64_t kMinKept = 64;
    const std::int64_t kept = decoder_->positions_to_keep(shape_.num_states) / kBlock * kBlock;
    if (wants_sums_ && kept >= kMinKept) positions_per_chunk_ = std::min(positions_per_chunk_, kept);

    const std::int64_t bytes = shape_.num_states * 4 * model_.spec().hidden_size;
    const auto fitting = static_cast<std::int64_t>(memory / 8) / bytes;
    positions_translated_ = std::max(positions_per_chunk_, std::min(fitting, sizes.positions_translated));
  }

  void require_fit_for_norm(const at::Tensor& largest, std::int64_t hidden_size) const;
  void require_finite_output(const compute::Statistics& output, const BatchPosition* positions) const;
  at::Tensor plain_statistics(const at::Tensor& rows) const;
  double self_check(const CheckedPosition& one, const double* plain, const compute::Statistics& output,
                    const BatchPosition& position) const;
  std::string name_of(const State& state) const;

  const model::Model& model_;
  std::vector<const lens::Lens*> lenses_;
  std::vector<Listener*> listeners_;
  std::unique_ptr<compute::VocabularyPass> pass_;
  std::unique_ptr<compute::StatisticsDecoder> decoder_;
  ReadoutShape shape_;
  std::vector<State> states_;  // 0 is the final layer
  std::int64_t positions_per_chunk_ = 0, positions_translated_ = 0;
  bool wants_sums_ = false;
  std::optional<compute::ProbabilitySums> sums_;  // of the part in progress, where they are wanted
};

/// A run in progress: what stays the same from batch to batch.
class Run {
 public:
  Run(const model::Model& model, const EngineOptions& options, std::vector<LensGroup> groups)
      : model_(model),
        options_(options),
        threads_(std::min(compute::num_threads(), kMostShowing)),
        showing_(options.shows_beside.value_or(!model.device().is_cpu()) ? util::Worker::Where::kOwnThread
                                                                         : util::Worker::Where::kHere) {
    for (const LensGroup& group : groups) groups_.emplace_back(model, group, options);
    splits_at_parts_ = groups_.size() > 1 || groups_.front().wants_sums();
    if (options.layers.empty()) {
      for (std::int64_t layer = 0; layer <= model.spec().num_layers; ++layer) layers_.insert(layer);
    } else {
      layers_.insert(options.layers.begin(), options.layers.end());
    }
    choose_batch();
  }

  std::int64_t tokens_per_batch() const { return tokens_per_batch_; }
  bool stopped() const { return stopped_; }
  /// Those of the part in progress included.
  RunStatistics all_statistics() const {
    RunStatistics all = statistics_;
    all.add(of_part_);
    all.stopped = stopped_;
    return all;
  }

  void begin();
  /// All of the batch has been shown when it returns. Does nothing more where it should stop.
  void process(const std::vector<Query>& batch);
  void process_whole(const std::vector<Query>& batch);
  void process_halves(const std::vector<Query>& batch);
  /// Ends the part in progress, where there is one.
  void end_part();
  /// Whether the run is to end early; remembers it.
  bool should_stop() { return stopped_ = stopped_ || options_.should_stop(); }

 private:
  void choose_batch() {
    const compute::WorkSizes sizes = model_.backend().work_sizes();
    const bool streams = model_.streams_layers();
    const auto memory = static_cast<double>(options_.memory > 0 ? options_.memory : model_.memory());
    const std::int64_t fitting =
        model_.tokens_at_once(static_cast<std::int64_t>(layers_.size()),
                              memory * (streams ? sizes.memory_where_streamed : sizes.memory_of_batch));
    tokens_per_batch_ = std::min(fitting, (streams ? 16 : 1) * sizes.tokens_per_batch);
  }

  /// Whether the position, the next one to be decoded by the first group, is to be checked.
  bool is_checked(std::int64_t part);
  void decode(const std::vector<at::Tensor>& residuals, const BatchPosition* positions, std::int64_t count);
  /// By halves where the device's memory does not suffice.
  void decode_by(Group& group, const std::vector<at::Tensor>& residuals, const BatchPosition* positions,
                 std::int64_t count);
  StateRows state_rows(const std::vector<at::Tensor>& residuals, const BatchPosition* positions,
                       std::int64_t count) const;
  /// These are done by `showing_`, and nothing else looks at what they change until that has settled.
  void show(Group& group, const BegunChunk& chunk);
  void show_to(const std::vector<Listener*>& listeners, std::span<const PositionReadout> positions);
  void enter_part(std::int64_t part);
  void leave_part();

  const model::Model& model_;
  const EngineOptions& options_;
  std::vector<Group> groups_;
  std::set<std::int64_t> layers_;  // that are kept of a forward pass
  bool splits_at_parts_ = false;   // a chunk holds positions of one part only
  std::int64_t tokens_per_batch_ = 0;
  bool stopped_ = false, told_of_stored_ = false;
  std::int64_t checked_part_ = -1, checked_in_part_ = 0;  // the last one that was seen, and positions checked
  // Of what has been shown.
  std::optional<std::int64_t> part_;   // in progress
  const Query* last_query_ = nullptr;  // of the batch
  RunStatistics of_part_, statistics_;
  util::Threads threads_;  // of what listeners do
  util::Worker showing_;   // last: ends before what it works on
};

bool Run::is_checked(std::int64_t part) {
  if (!is_self_checked(part)) return false;
  if (part != checked_part_) checked_in_part_ = 0;
  checked_part_ = part;
  return checked_in_part_++ < kSelfCheckPositions;
}

void Run::enter_part(std::int64_t part) {
  if (part_ == part) return;
  leave_part();
  part_ = part;
}

void Run::leave_part() {
  if (!part_) return;
  for (Group& group : groups_) group.end_part(of_part_.positions);
  options_.on_part_end(*part_, of_part_);
  statistics_.add(of_part_);
  of_part_ = {};
  part_.reset();
}

void Run::end_part() {
  showing_.submit([this] { leave_part(); });
  showing_.wait();
}

void Run::begin() {
  showing_.submit([this] {
    for (Group& group : groups_) {
      for (Listener* listener : group.listeners()) listener->begin(group.shape());
    }
  });
  showing_.wait();
}

void Run::process(const std::vector<Query>& batch) {
  try {
    try {
      process_whole(batch);
    } catch (...) {
      showing_.wait();  // what was read out before the error is shown, and an error of that came first
      throw;
    }
  } catch (const util::Error& error) {
    // Products are given up in their middle. What the batch has shown of a part is dropped with it.
    if (error.code() != util::ErrorCode::kInterrupted || !should_stop()) throw;
  }
}

void Run::process_whole(const std::vector<Query>& batch) {
  model::PackedWindows windows;
  std::vector<BatchPosition> positions;
  const bool is_stored = batch.front().states != nullptr;
  if (is_stored && !std::exchange(told_of_stored_, true))
    batch.front().states->tensors().tell_if_normed(model_.head());
  for (const Query& query : batch) {
    DEPTHLENS_ASSERT((query.states != nullptr) == is_stored);
    const auto start = static_cast<std::int64_t>(windows.tokens.size());
    windows.tokens.insert(windows.tokens.end(), query.tokens.begin(), query.tokens.end());
    windows.lengths.push_back(static_cast<std::int64_t>(query.tokens.size()));
    for (const Query::Position& where : query.positions)
      positions.push_back({&query, &where, start + where.position});
  }
  std::vector<at::Tensor> residuals;  // L + 1 of [T, d]; undefined where a layer is not decoded
  const auto name_of = [&](std::int64_t row) {
    const Query* query = batch.data();
    for (; row >= static_cast<std::int64_t>(query->tokens.size()); ++query)
      row -= static_cast<std::int64_t>(query->tokens.size());
    return place_of(*query, row);
  };
  bool fits = true;
  try {
    if (!is_stored) {
      const auto keep = [&](std::int64_t layer, const at::Tensor& states) {
        residuals.push_back(layers_.count(layer) > 0 ? states : at::Tensor());
      };
      model::forward_finite(model_, windows, keep, name_of);
    }
  } catch (const c10::OutOfMemoryError&) {
    fits = false;
  }
  if (!fits) {
    residuals.clear();
    return process_halves(batch);
  }
  if (options_.save_states != nullptr && !is_stored) {
    std::int64_t row = 0;
    for (const Query& query : batch) {
      write_states(*options_.save_states, query, residuals, row);
      row += static_cast<std::int64_t>(query.tokens.size());
    }
  }

  // What is shown lies here.
  struct Settled {
    util::Worker& showing;
    ~Settled() { showing.settle(); }
  } const settled{showing_};
  showing_.submit([this] { last_query_ = nullptr; });
  for (BatchPosition& position : positions) position.is_checked = is_checked(position.query->part);
  const auto total = static_cast<std::int64_t>(positions.size());
  for (std::int64_t first = 0; first < total && !should_stop();) {
    std::int64_t end = splits_at_parts_ ? first + 1 : total;
    const std::int64_t part = positions[static_cast<std::size_t>(first)].query->part;
    while (end < total && positions[static_cast<std::size_t>(end)].query->part == part) ++end;
    decode(residuals, positions.data() + first, end - first);
    first = end;
  }
  showing_.wait();
  if (!stopped_) options_.on_progress(total);
}

/// Of a batch for which the device's memory does not suffice. Those to come are smaller.
void Run::process_halves(const std::vector<Query>& batch) {
  if (batch.size() < 2) {
    throw util::input_error({.what = "the device's memory does not suffice for a window of text",
                             .where = "--device " + model_.device_names(),
                             .found = util::cat(batch.front().tokens.size(), " tokens"),
                             .hint =
                                 "other programs may hold some of it (nvidia-smi); a smaller --max-length, "
                                 "--stream-layers and --dtype bfloat16 take less"});
  }
  std::int64_t tokens = 0;
  for (const Query& query : batch) tokens += static_cast<std::int64_t>(query.tokens.size());
  tokens_per_batch_ = std::max<std::int64_t>(1, std::min(tokens_per_batch_, tokens / 2));
  const auto middle = batch.begin() + static_cast<std::ptrdiff_t>(batch.size() / 2);
  process_whole({batch.begin(), middle});
  if (!should_stop()) process_whole({middle, batch.end()});
}

/// Where the states of a chunk come from: a forward pass (`residuals`), or files.
StateRows Run::state_rows(const std::vector<at::Tensor>& residuals, const BatchPosition* positions,
                          std::int64_t count) const {
  if (positions[0].query->states == nullptr) {
    std::vector<std::int64_t> rows;
    bool neighbours = true;
    for (std::int64_t p = 0; p < count; ++p) {
      rows.push_back(positions[p].row);
      neighbours = neighbours && rows.back() == rows.front() + p;
    }
    if (neighbours) {
      return [&residuals, begin = rows.front(), count](std::int64_t layer) {
        return residuals[static_cast<std::size_t>(layer)].narrow(0, begin, count);
      };
    }
    return [&residuals, chosen = model::index_tensor(rows, model_.device())](std::int64_t layer) {
      return residuals[static_cast<std::size_t>(layer)].index_select(0, chosen);
    };
  }
  return [this, positions, count](std::int64_t layer) {
    std::vector<at::Tensor> pieces;  // of one file each
    for (std::int64_t p = 0; p < count;) {
      const Query* query = positions[p].query;
      std::vector<std::int64_t> places;
      for (; p < count && positions[p].query == query; ++p) places.push_back(positions[p].where->position);
      pieces.push_back(query->states->tensors().rows(layer, places));
    }
    return compute::copied_to(model_.device(), at::cat(pieces));
  };
}

/// Of parts of `count` positions of at most `most`, all of about one size: a small one at the end would cost
/// as much packing as a large one.
std::int64_t size_of_parts(std::int64_t count, std::int64_t most) {
  constexpr std::int64_t kEven = 8;
  return std::min(most, util::round_up(util::ceil_div(count, util::ceil_div(count, most)), kEven));
}

void Run::decode(const std::vector<at::Tensor>& residuals, const BatchPosition* positions,
                 std::int64_t count) {
  showing_.submit([this, part = positions[0].query->part] { enter_part(part); });
  showing_.wait();  // sums of a part are made where chunks are read out
  for (Group& group : groups_) {
    const std::int64_t size = size_of_parts(count, group.positions_translated());
    for (std::int64_t first = 0; first < count && !stopped_; first += size)
      decode_by(group, residuals, positions + first, std::min(size, count - first));
  }
}

void Run::decode_by(Group& group, const std::vector<at::Tensor>& residuals, const BatchPosition* positions,
                    std::int64_t count) {
  const std::int64_t size = size_of_parts(count, group.positions_per_chunk());
  std::int64_t done = 0;
  try {
    const GroupStates states = group.states(state_rows(residuals, positions, count));
    while (done < count) {
      if (should_stop()) return;
      const std::int64_t n = std::min(size, count - done);
      const auto chunk = std::make_shared<const BegunChunk>(
          group.begin(states, done, positions + done, n, &group == &groups_.front()));
      showing_.submit([this, &group, chunk] { show(group, *chunk); });
      done += n;
    }
    return;
  } catch (const c10::OutOfMemoryError&) {
    if (count - done < 2) throw compute::out_of_memory(model_.device(), group.shape().num_states, 1);
  }
  const std::int64_t half = (count - done) / 2;
  decode_by(group, residuals, positions + done, half);
  if (!stopped_) decode_by(group, residuals, positions + done + half, count - done - half);
}

void Run::show(Group& group, const BegunChunk& chunk) {
  std::vector<double> errors;
  const LayerReadout readout = group.read_out(chunk, errors);
  std::vector<PositionReadout> views;  // of one part, not shown yet
  views.reserve(static_cast<std::size_t>(chunk.count));
  const auto show_views = [&] {
    show_to(group.listeners(), views);
    views.clear();
  };
  for (std::int64_t p = 0; p < chunk.count; ++p) {
    const BatchPosition& at = chunk.positions[p];
    const PositionReadout view(group.shape(), readout, p, *at.query, *at.where);
    if (&group == &groups_.front()) {
      if (part_ != at.query->part) show_views();
      enter_part(at.query->part);
      if (at.query != std::exchange(last_query_, at.query)) {
        ++of_part_.windows;
        of_part_.tokens += static_cast<std::int64_t>(at.query->tokens.size());
      }
      ++of_part_.positions;
      for (std::size_t c = 0; c < chunk.checked.size(); ++c) {
        if (chunk.checked[c].p == p)
          add_self_check(of_part_, errors[c], 1, model_.backend().decode_precision(),
                         place_of(*at.query, at.where->position));
      }
      if (!options_.accepts(view)) continue;
    }
    views.push_back(view);
  }
  show_views();
}

void Run::show_to(const std::vector<Listener*>& listeners, std::span<const PositionReadout> positions) {
  if (positions.empty()) return;
  const auto show_one = [&](std::int64_t i) {
    listeners[static_cast<std::size_t>(i)]->accept_all(positions, threads_);
  };
  const auto count = static_cast<std::int64_t>(listeners.size());
  constexpr std::size_t kFew = 8;  // are shown before another thread is awake
  if (positions.size() > kFew) return threads_.for_each(count, show_one);
  for (std::int64_t i = 0; i < count; ++i) show_one(i);
}

GroupStates Group::states(const StateRows& rows_of) const {
  GroupStates all;
  std::vector<at::Tensor> largest;
  for (const State& state : states_) {
    at::Tensor& values = all.values.emplace_back(rows_of(state.layer));
    if (state.lens == nullptr) continue;
    values = state.lens->translate(state.layer, values);
    largest.push_back(at::linalg_vector_norm(values, std::numeric_limits<double>::infinity()));
  }
  if (!largest.empty()) all.largest = std::make_shared<const compute::HostCopy>(at::stack(largest));
  return all;
}

BegunChunk Group::begin(const GroupStates& states, std::int64_t first, const BatchPosition* positions,
                        std::int64_t count, bool checks) {
  const std::int64_t S = shape_.num_states, P = count;

  std::int64_t W = kFirstWatchedOfQuery;
  for (std::int64_t p = 0; p < P; ++p) {
    W = std::max<std::int64_t>(
        W, kFirstWatchedOfQuery + static_cast<std::int64_t>(positions[p].where->watched.size()));
  }

  compute::StatisticsInput input;
  input.num_states = S;
  input.num_positions = P;
  input.top_k = shape_.top_k;
  input.num_watched = W;
  input.watched.assign(static_cast<std::size_t>(P * W), kNoToken);
  for (std::int64_t p = 0; p < P; ++p) {
    TokenId* watched = input.watched.data() + p * W;
    watched[kWatchedTarget] = positions[p].where->target;
    std::copy(positions[p].where->watched.begin(), positions[p].where->watched.end(),
              watched + kFirstWatchedOfQuery);
  }
  // Several states are normed at once: few operations for a device, and little memory between them.
  constexpr std::int64_t kRowsOfNorm = 2048;
  std::vector<at::Tensor> several, normed;
  for (const at::Tensor& values : states.values) {
    several.push_back(values.narrow(0, first, P));
    if (static_cast<std::int64_t>(several.size()) * P < kRowsOfNorm && &values != &states.values.back())
      continue;
    normed.push_back(model_.head().normed(several.size() == 1 ? several.front() : at::cat(several)));
    several.clear();
  }
  input.rows = at::cat(normed);  // [S · P, d]
  std::vector<CheckedPosition> checked;
  std::vector<at::Tensor> plain;
  for (std::int64_t p = 0; checks && p < P; ++p) {
    if (!positions[p].is_checked) continue;
    // Which state follows from the position alone: over a run all get their turn.
    const std::int64_t state = S > 1 ? 1 + positions[p].where->position % (S - 1) : 0;
    checked.push_back({p, state});
    plain.push_back(plain_statistics(at::stack({input.rows[p], input.rows[state * P + p]})));
  }
  if (wants_sums_ && !sums_) sums_.emplace(S, shape_.vocab_size);
  return {.positions = positions,
          .count = P,
          .num_watched = W,
          .checked = std::move(checked),
          .plain = plain.empty() ? compute::HostCopy() : compute::HostCopy(at::stack(plain)),
          .largest = states.largest,
          // Last: it may change sums.
          .statistics = decoder_->begin(input, sums_ ? &*sums_ : nullptr)};
}

LayerReadout Group::read_out(const BegunChunk& chunk, std::vector<double>& errors) const {
  const c10::InferenceMode inference;
  compute::Statistics output = chunk.statistics();
  if (chunk.largest != nullptr) require_fit_for_norm(chunk.largest->values(), model_.spec().hidden_size);
  require_finite_output(output, chunk.positions);
  for (std::size_t c = 0; c < chunk.checked.size(); ++c) {
    const at::Tensor plain = chunk.plain.values()[static_cast<std::int64_t>(c)];
    const CheckedPosition& one = chunk.checked[c];
    errors.push_back(self_check(one, plain.const_data_ptr<double>(), output, chunk.positions[one.p]));
  }

  LayerReadout readout;
  readout.num_positions = chunk.count;
  readout.num_watched = chunk.num_watched;
  readout.watched_ids = std::move(output.watched);
  readout.top_ids = std::move(output.top_ids);
  readout.watched_ranks.assign(output.watched_ranks.begin(), output.watched_ranks.end());
  readout.group_mass.assign(output.group_mass.begin(), output.group_mass.end());
  // Of each row's `per_row` logits.
  const auto logprobs = [&](const std::vector<double>& logits, std::int64_t per_row) {
    std::vector<float> all(logits.size());
    std::size_t i = 0;
    for (const double log_sum_exp : output.log_sum_exp) {
      for (const std::size_t end = i + static_cast<std::size_t>(per_row); i < end; ++i)
        all[i] = static_cast<float>(logits[i] - log_sum_exp);
    }
    return all;
  };
  readout.top_logprobs = logprobs(output.top_logits, shape_.top_k);
  readout.watched_logprobs = logprobs(output.watched_logits, chunk.num_watched);
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

/// A lens may make states so large that the final norm takes them for 0. `largest`: magnitudes of translated
/// states, in their order, on the host.
void Group::require_fit_for_norm(const at::Tensor& largest, std::int64_t hidden_size) const {
  const double most = model::largest_for_norm(hidden_size);
  const at::Tensor all = largest.to(at::kDouble);
  if ((all <= most).all().item<bool>()) return;
  std::int64_t i = 0;
  for (const State& state : states_) {
    if (state.lens == nullptr) continue;
    const double value = all[i++].item<double>();
    if (value <= most) continue;
    model::refuse_not_finite(
        model_,
        {.what = std::isfinite(value) ? "states translated by a lens are too large for float32"
                                      : "states translated by a lens are not finite",
         .where = util::cat("lens ", util::in_quotes(state.lens->request().name), ", layer ", state.layer),
         .expected = util::cat("values up to ", most),
         .found = util::cat(value),
         .hint = "the lens is damaged, or was made for another model"});
  }
}

/// The states were finite: what is not comes from a lens, the final norm or the unembedding.
void Group::require_finite_output(const compute::Statistics& output, const BatchPosition* positions) const {
  constexpr double kOrdinary = 1000;  // of real models: no need for a message
  const auto P = output.log_sum_exp.size() / states_.size();
  for (std::size_t i = 0; i < output.log_sum_exp.size(); ++i) {
    const bool finite = std::isfinite(output.entropy[i]) && std::isfinite(output.kl_final[i]) &&
                        std::isfinite(output.kl_reverse[i]);
    if (finite && std::abs(output.log_sum_exp[i]) < kOrdinary) continue;
    const State& state = states_[i / P];
    const BatchPosition& at = positions[i % P];
    check_log_sum_exp(model_, finite ? output.log_sum_exp[i] : std::nan(""),
                      output.top_ids[i * static_cast<std::size_t>(shape_.top_k)],
                      util::cat(name_of(state), ", ", place_of(*at.query, at.where->position)));
  }
}

/// By plain products in float64, of a position's normed final state and another one, [2, d]: the K best
/// log-probabilities of each, and of the other one entropy and both divergences; [2 K + 3] in float64, on the
/// device. One position at a time: it must not depend on what else the chunk holds.
at::Tensor Group::plain_statistics(const at::Tensor& rows) const {
  const at::Tensor plain = compute::plain_log_probabilities(model_.head().unembedding, rows);  // [2, V]
  const at::Tensor of_final = plain[0], of_state = plain[1];
  const at::Tensor final_p = of_final.exp(), p = of_state.exp();
  const at::Tensor sums = at::stack(
      {-(p * of_state).sum(), (final_p * (of_final - of_state)).sum(), (p * (of_state - of_final)).sum()});
  return at::cat({std::get<0>(plain.topk(shape_.top_k, 1)).flatten(), sums});
}

/// The error of the final layer's log-probabilities, beside its `plain_statistics`. Throws where the other
/// state's are not those of its distribution.
double Group::self_check(const CheckedPosition& one, const double* plain, const compute::Statistics& output,
                         const BatchPosition& position) const {
  const std::int64_t K = shape_.top_k, P = static_cast<std::int64_t>(output.log_sum_exp.size()) /
                                           static_cast<std::int64_t>(states_.size());
  const auto error_of_best = [&](std::int64_t state, const double* best) {
    const std::int64_t row = state * P + one.p;
    const double log_sum_exp = output.log_sum_exp[static_cast<std::size_t>(row)];
    double error = 0;
    for (std::int64_t k = 0; k < K; ++k) {
      const double logit = output.top_logits[static_cast<std::size_t>(row * K + k)];
      const double off = std::abs(logit - log_sum_exp - best[k]);
      if (std::isnan(off)) return off;
      error = std::max(error, off);
    }
    return error;
  };
  const auto row = static_cast<std::size_t>(one.state * P + one.p);
  const double entropy = plain[2 * K], kl_final = plain[2 * K + 1], kl_reverse = plain[2 * K + 2];
  const State& state = states_[static_cast<std::size_t>(one.state)];
  check_statistics({.best = error_of_best(one.state, plain + K),
                    .entropy = std::abs(output.entropy[row] - entropy),
                    .kl_final = std::abs(output.kl_final[row] - kl_final),
                    .kl_reverse = std::abs(output.kl_reverse[row] - kl_reverse)},
                   std::abs(output.log_sum_exp[row]) + std::max(kl_final, kl_reverse),
                   model_.backend().decode_precision(),
                   util::cat(name_of(state), ", ", place_of(*position.query, position.where->position)));
  return error_of_best(0, plain);
}

/// "layer 3 by the lens tuned"
std::string Group::name_of(const State& state) const {
  return util::cat("layer ", state.layer,
                   state.lens != nullptr ? " by the lens " + state.lens->request().name : "");
}

void Group::end_part(std::int64_t positions) {
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

}  // namespace

void RunStatistics::add(const RunStatistics& other) {
  windows += other.windows;
  tokens += other.tokens;
  positions += other.positions;
  final_layer_max_abs_error = std::max(final_layer_max_abs_error, other.final_layer_max_abs_error);
  self_checked_positions += other.self_checked_positions;
}

Engine::Engine(const model::Model& model, std::vector<const lens::Lens*> lenses, EngineOptions options)
    : model_(model), lenses_(std::move(lenses)), options_(std::move(options)) {
  DEPTHLENS_ASSERT(!lenses_.empty());
}

RunStatistics Engine::run(const QuerySource& source, const std::vector<Listener*>& listeners) const {
  const c10::InferenceMode inference;
  std::vector<LensGroup> groups = {{lenses_, listeners}};
  groups.insert(groups.end(), options_.more_groups.begin(), options_.more_groups.end());
  Run run(model_, options_, std::move(groups));
  run.begin();
  std::vector<Query> batch;
  std::int64_t batch_tokens = 0;
  std::optional<Query> next;
  const auto pull = [&] {
    next.emplace();
    if (!source(*next)) next.reset();
  };
  pull();
  while (next) {
    if (run.should_stop()) break;
    batch.clear();
    batch_tokens = 0;
    while (next) {
      const auto tokens = static_cast<std::int64_t>(next->tokens.size());
      if (!batch.empty() && batch_tokens + tokens > run.tokens_per_batch()) break;
      if (batch.size() == kMostWindows) break;
      batch_tokens += tokens;
      batch.push_back(std::move(*next));
      pull();
    }
    run.process(batch);
    compute::release_free_memory();
    if (run.stopped()) break;
    if (!next) pull();
  }
  if (!run.stopped()) run.end_part();
  return run.all_statistics();
}

}  // namespace depthlens::decode
