// What `show` keeps of the readouts of its text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "depthlens/decode/listener.hpp"
#include "depthlens/experiments/watch.hpp"

namespace depthlens::tool {

/// A token at a layer.
struct Place {
  std::int32_t rank;
  float logprob;
};

/// The readouts of one window, copied out of the listener's view.
struct Cell {
  std::vector<decode::TokenId> top_ids;
  std::vector<float> top_logprobs;
  Place final;
  std::optional<Place> target;
  std::vector<std::optional<Place>> watched;  ///< where the position has any
  float entropy, kl_final;
};

class Collector : public decode::Listener {
 public:
  /// Reads the watched tokens of the positions from the `first_watched`th on. The watch must outlive it.
  Collector(std::int64_t top_k, const experiments::Watch& watch, std::size_t first_watched)
      : top_k_(top_k), watch_(watch), first_watched_(first_watched) {}
  decode::Needs needs() const override { return {.top_k = top_k_, .token_groups = {}, .num_groups = 0}; }
  void accept(const decode::PositionReadout& position) override;
  /// Whether tokens are watched at the `t`th position.
  bool is_watched(std::size_t t) const { return t >= first_watched_ && !watch_.empty(); }
  const experiments::Watch& watch() const { return watch_; }

  std::vector<decode::TokenId> tokens, finals, targets;   // [T]
  std::vector<std::vector<std::vector<Cell>>> positions;  // [T][N][R]

 private:
  std::int64_t top_k_;
  const experiments::Watch& watch_;
  std::size_t first_watched_;
};

/// log p(first) − log p(second); nothing where one of them is not there.
std::optional<double> difference(const Cell& cell, const experiments::WatchedPair& pair);

}  // namespace depthlens::tool
