// Batches of windows through the model, chunks of positions through the lenses and the decoder, readouts to
// listeners.
#include "depthlens/decode/engine.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "decode/group_decoder.hpp"
#include "decode/self_check.hpp"
#include "decode/stored_tensors.hpp"
#include "depthlens/compute/attention.hpp"
#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/compute/statistics.hpp"
#include "depthlens/compute/transfer.hpp"
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
/// Threads that listeners get at the most: the lines of more could not be written as fast as they are made.
constexpr int kMaxShowing = 16;

/// A run of the engine in progress: what stays the same from batch to batch.
class Decoding {
 public:
  Decoding(const model::Model& model, const EngineOptions& options, std::vector<LensGroup> groups)
      : model_(model),
        options_(options),
        threads_(std::min(compute::num_threads(), kMaxShowing)),
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
  void process_whole(const std::vector<Query>& batch);
  void process_halves(const std::vector<Query>& batch);
  /// The states of all tokens, L + 1 of [T, d], undefined where a layer is not decoded; nothing where the
  /// device's memory does not suffice.
  std::optional<std::vector<at::Tensor>> forward(const std::vector<Query>& batch) const;
  void save_states(const std::vector<Query>& batch, const std::vector<at::Tensor>& residuals) const;
  void decode_parts(const std::vector<Query>& batch, const std::vector<at::Tensor>& residuals);
  void decode(const std::vector<at::Tensor>& residuals, const BatchPosition* positions, std::int64_t count);
  /// Decodes so many of these positions, from the first on, and returns how many: not all where the run is to
  /// end, or where the device's memory does not suffice, in which case the group takes fewer at once from now
  /// on.
  std::int64_t decode_some(GroupDecoder& group, const std::vector<at::Tensor>& residuals,
                           const BatchPosition* positions, std::int64_t count);
  StateRows state_rows(const std::vector<at::Tensor>& residuals, const BatchPosition* positions,
                       std::int64_t count) const;
  /// These are done by `showing_`, and nothing else looks at what they change until that has settled.
  void show(GroupDecoder& group, const BegunChunk& chunk);
  void show_to(const std::vector<Listener*>& listeners, std::span<const PositionReadout> positions);
  void enter_part(std::int64_t part);
  void leave_part();

  const model::Model& model_;
  const EngineOptions& options_;
  std::vector<GroupDecoder> groups_;
  std::set<std::int64_t> layers_;  // that are kept of a forward pass
  bool splits_at_parts_ = false;   // a chunk holds positions of one part only
  std::int64_t tokens_per_batch_ = 0;
  bool stopped_ = false;
  std::int64_t checked_part_ = -1, checked_in_part_ = 0;  // the last one that was seen, and positions checked
  // Of what has been shown.
  std::optional<std::int64_t> part_;   // in progress
  const Query* last_query_ = nullptr;  // of the batch
  RunStatistics of_part_, statistics_;
  util::Threads threads_;  // of what listeners do
  util::Worker showing_;   // last: ends before what it works on
};

/// What `work` returns; nothing where the device's memory does not suffice for it.
template <typename Work>
auto if_memory_suffices(const Work& work) -> std::optional<decltype(work())> {
  try {
    return work();
  } catch (const std::exception& error) {
    if (!compute::is_out_of_device_memory(error)) throw;
  }
  return std::nullopt;
}

bool Decoding::is_checked(std::int64_t part) {
  if (!is_self_checked(part)) return false;
  if (part != checked_part_) checked_in_part_ = 0;
  checked_part_ = part;
  return checked_in_part_++ < kSelfCheckPositions;
}

void Decoding::enter_part(std::int64_t part) {
  if (part_ == part) return;
  leave_part();
  part_ = part;
}

void Decoding::leave_part() {
  if (!part_) return;
  for (GroupDecoder& group : groups_) group.end_part(of_part_.positions);
  options_.on_part_end(*part_, of_part_);
  statistics_.add(of_part_);
  of_part_ = {};
  part_.reset();
}

void Decoding::end_part() {
  showing_.submit([this] { leave_part(); });
  showing_.wait();
}

void Decoding::begin() {
  showing_.submit([this] {
    for (GroupDecoder& group : groups_) {
      for (Listener* listener : group.listeners()) listener->begin(group.shape());
    }
  });
  showing_.wait();
}

void Decoding::process(const std::vector<Query>& batch) {
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

void Decoding::process_whole(const std::vector<Query>& batch) {
  const bool is_stored = batch.front().states != nullptr;
  for (const Query& query : batch) DEPTHLENS_ASSERT((query.states != nullptr) == is_stored);
  std::vector<at::Tensor> residuals;
  if (!is_stored) {
    std::optional<std::vector<at::Tensor>> computed = forward(batch);
    if (!computed) return process_halves(batch);
    residuals = std::move(*computed);
    if (!options_.save_states.empty()) save_states(batch, residuals);
  }
  decode_parts(batch, residuals);
}

std::optional<std::vector<at::Tensor>> Decoding::forward(const std::vector<Query>& batch) const {
  model::PackedWindows windows;
  for (const Query& query : batch) {
    windows.tokens.insert(windows.tokens.end(), query.tokens.begin(), query.tokens.end());
    windows.lengths.push_back(static_cast<std::int64_t>(query.tokens.size()));
  }
  std::vector<at::Tensor> residuals;
  const auto keep = [&](std::int64_t layer, const at::Tensor& states) {
    residuals.push_back(layers_.count(layer) > 0 ? states : at::Tensor());
  };
  const auto name_of = [&](std::int64_t row) {
    const Query* query = batch.data();
    for (; row >= static_cast<std::int64_t>(query->tokens.size()); ++query)
      row -= static_cast<std::int64_t>(query->tokens.size());
    return place_of(*query, row);
  };
  const auto run = [&] {
    model::forward_finite(model_, windows, keep, name_of);
    return true;
  };
  if (if_memory_suffices(run)) return residuals;
  residuals.clear();
  compute::release_device_memory(model_.device());
  return std::nullopt;
}

void Decoding::save_states(const std::vector<Query>& batch, const std::vector<at::Tensor>& residuals) const {
  std::int64_t row = 0;
  for (const Query& query : batch) {
    write_states(options_.save_states, query, residuals, row);
    row += static_cast<std::int64_t>(query.tokens.size());
  }
}

void Decoding::decode_parts(const std::vector<Query>& batch, const std::vector<at::Tensor>& residuals) {
  std::vector<BatchPosition> positions;
  std::int64_t start = 0;
  for (const Query& query : batch) {
    for (const Query::Position& where : query.positions)
      positions.push_back({&query, &where, start + where.position});
    start += static_cast<std::int64_t>(query.tokens.size());
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
void Decoding::process_halves(const std::vector<Query>& batch) {
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
StateRows Decoding::state_rows(const std::vector<at::Tensor>& residuals, const BatchPosition* positions,
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

void Decoding::decode(const std::vector<at::Tensor>& residuals, const BatchPosition* positions,
                      std::int64_t count) {
  showing_.submit([this, part = positions[0].query->part] { enter_part(part); });
  showing_.wait();  // sums of a part are made where chunks are read out
  for (GroupDecoder& group : groups_) {
    for (std::int64_t done = 0; done < count && !stopped_;) {
      const std::int64_t most = size_of_parts(count - done, group.positions_translated());
      done += decode_some(group, residuals, positions + done, std::min(most, count - done));
    }
  }
}

std::int64_t Decoding::decode_some(GroupDecoder& group, const std::vector<at::Tensor>& residuals,
                                   const BatchPosition* positions, std::int64_t count) {
  const auto fewer = [&](std::int64_t refused) {
    if (refused < 2) throw compute::out_of_memory(model_.device(), group.shape().num_states, 1);
    compute::release_device_memory(model_.device());
    return refused / 2;
  };
  std::optional<GroupStates> states =
      if_memory_suffices([&] { return group.states(state_rows(residuals, positions, count)); });
  if (!states) {
    group.translate_at_most(fewer(count));
    return 0;
  }
  const std::int64_t size = size_of_parts(count, group.positions_per_chunk(positions, count));
  std::optional<compute::LogitMemory> memory(std::in_place);  // of one chunk after the other
  std::int64_t done = 0;
  while (done < count && !should_stop()) {
    const std::int64_t n = std::min(size, count - done);
    std::optional<BegunChunk> begun = if_memory_suffices(
        [&] { return group.begin(*states, done, positions + done, n, &group == &groups_.front(), *memory); });
    if (!begun) {
      states.reset();
      memory.reset();
      group.chunk_at_most(fewer(n));
      return done;
    }
    // Not within the above: what the showing of another chunk has thrown is no matter of this one's memory.
    const auto chunk = std::make_shared<const BegunChunk>(std::move(*begun));
    showing_.submit([this, &group, chunk] { show(group, *chunk); });
    done += n;
  }
  return done;
}

void Decoding::show(GroupDecoder& group, const BegunChunk& chunk) {
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

void Decoding::show_to(const std::vector<Listener*>& listeners, std::span<const PositionReadout> positions) {
  if (positions.empty()) return;
  const auto show_one = [&](std::int64_t i) {
    listeners[static_cast<std::size_t>(i)]->accept_all(positions, threads_);
  };
  const auto count = static_cast<std::int64_t>(listeners.size());
  constexpr std::size_t kFew = 8;  // are shown before another thread is awake
  if (positions.size() > kFew) return threads_.for_each(count, show_one);
  for (std::int64_t i = 0; i < count; ++i) show_one(i);
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
  Decoding run(model_, options_, std::move(groups));
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
      if (batch.size() == compute::kMaxWindows) break;
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
