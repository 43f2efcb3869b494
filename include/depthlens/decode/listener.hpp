// The one seam between the hot loop and everything that learns from it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "depthlens/decode/readout.hpp"

namespace depthlens::util {
class Threads;
}

namespace depthlens::decode {

/// What a listener wants to be computed; the engine serves the union of all listeners' needs.
struct Needs {
  std::int64_t top_k = 1;
  /// Group of each token of the vocabulary (0 … num_groups − 1), for sums of probability. Empty: not needed.
  /// Listeners of one run that need groups must agree on them.
  std::vector<std::uint8_t> token_groups;
  std::int64_t num_groups = 0;
  /// Sums of the probability of every token, for `accept_sums`. Costs a second product with the unembedding.
  bool probability_sums = false;
};

/// Hears every analysed position once, in the order of the queries, one call at a time: begin, accept_all ….
/// Queries come in parts, one after the other; `accept_sums` ends each. Calls may come on any thread, while
/// whoever runs the engine reads out what comes next, and while other listeners hear the same positions; but
/// the source is never asked, and the run never ends, before everything so far has been heard.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual Needs needs() const { return {}; }
  virtual void begin(const ReadoutShape& /*shape*/) {}
  virtual void accept(const PositionReadout& position) = 0;
  /// Some neighbouring positions of a part, all that there are at the moment. `threads` may be asked to help;
  /// without, they are accepted one by one.
  virtual void accept_all(std::span<const PositionReadout> positions, util::Threads& /*threads*/) {
    for (const PositionReadout& position : positions) accept(position);
  }
  /// Where `needs` asked for sums, those of the positions of a part, at its end.
  virtual void accept_sums(const ProbabilitySums& /*sums*/) {}
};

}  // namespace depthlens::decode
