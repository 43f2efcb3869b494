// Drives the model and the lenses over queries, and shows every position's readout to the listeners.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "depthlens/decode/listener.hpp"
#include "depthlens/decode/readout.hpp"

namespace depthlens::model {
class Model;
}
namespace depthlens::lens {
class Lens;
}

namespace depthlens::decode {

/// Fills in the next query and returns true, or returns false where there is none. It is asked once more when
/// all queries so far have been shown to the listeners, who may have learnt what else to ask.
using QuerySource = std::function<bool(Query&)>;

struct RunStatistics {
  std::int64_t windows = 0;
  std::int64_t tokens = 0;     ///< given to the model, BOS included
  std::int64_t positions = 0;  ///< read out
  bool stopped = false;        ///< by `should_stop`
  /// Largest difference, over a sample of positions, between the decoded layer L and a plain float64 product:
  /// of log-probabilities of the top K, in nats.
  double final_layer_max_abs_error = 0;
  std::int64_t self_checked_positions = 0;

  void add(const RunStatistics& other);
};

/// Lenses that are decoded together, and who is shown their readouts.
struct LensGroup {
  std::vector<const lens::Lens*> lenses;  ///< N ≥ 1
  std::vector<Listener*> listeners;
};

/// Whether positions of the part are checked against a plain product: that depends on the parts of a run
/// alone, not on how they are dealt out.
constexpr bool is_self_checked(std::int64_t part) {
  constexpr std::int64_t kEvery = 16;
  return part % kEvery == 0;
}

struct EngineOptions {
  /// Memory that residual states, logit tiles and readouts may take together, in bytes; 0: the backend's.
  std::uint64_t memory = 0;
  /// The layers that are decoded, rising, L among them; empty: all.
  std::vector<std::int64_t> layers = {};
  /// The folder, which must be there, that gets the states of every window that the model runs, as float32,
  /// one file a window (stored_states.hpp); "": none.
  std::filesystem::path save_states = {};
  /// Further groups of lenses, decoded one after the other from the same forward pass: what many lenses need
  /// at a time is bounded by the largest group.
  std::vector<LensGroup> more_groups = {};
  /// Whether listeners are shown a chunk of positions on a thread of their own, while the next chunk is read
  /// out; by default they are where that is not done by the processor, which would be at both.
  std::optional<bool> shows_beside = {};
  /// Called after each batch with the number of positions it had.
  std::function<void(std::int64_t positions)> on_progress = [](std::int64_t) {};
  /// Asked between batches, and between chunks of positions, perhaps while a listener is shown the positions
  /// of the chunk before; true ends the run early. What was shown of a part that has not ended stays shown.
  std::function<bool()> should_stop = [] { return false; };
  /// Asked for each position before the listeners of the first group are shown it, on the thread of the
  /// listeners; false keeps it from them.
  std::function<bool(const PositionReadout&)> accepts = [](const PositionReadout&) { return true; };
  /// Called when all positions of a part that has any were shown, with the statistics of that part; likewise.
  std::function<void(std::int64_t part, const RunStatistics& statistics)> on_part_end =
      [](std::int64_t, const RunStatistics&) {};
};

class Engine {
 public:
  /// `lenses` and `model` must outlive the engine; N ≥ 1 lenses.
  Engine(const model::Model& model, std::vector<const lens::Lens*> lenses, EngineOptions options);

  /// Runs all queries; statistics of all that was shown. The first positions of every sixteenth part are
  /// checked with a plain product. Throws a self-check error where states or logits are not finite, and what
  /// a listener throws, after which nothing more is shown.
  RunStatistics run(const QuerySource& source, const std::vector<Listener*>& listeners) const;

 private:
  const model::Model& model_;
  std::vector<const lens::Lens*> lenses_;
  EngineOptions options_;
};

}  // namespace depthlens::decode
