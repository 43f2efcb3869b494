// Copies readouts.
#include "show_readouts.hpp"

namespace depthlens::tool {

void Collector::accept(const decode::PositionReadout& position) {
  auto& lenses = positions.emplace_back();
  tokens.push_back(position.token());
  finals.push_back(position.final_id());
  targets.push_back(position.where().target);
  const bool has_target = targets.back() != decode::kNoToken;
  const std::size_t num_watched = is_watched(tokens.size() - 1) ? watch_.tokens.size() : 0;
  for (std::int64_t n = 0; n < position.shape().num_lenses(); ++n) {
    auto& rows = lenses.emplace_back();
    for (std::int64_t row = 0; row < position.shape().num_rows; ++row) {
      const auto ids = position.top_ids(n, row);
      const auto logprobs = position.top_logprobs(n, row);
      const auto place = [&](std::int64_t w) {
        return Place{.rank = position.rank(n, row, w), .logprob = position.logprob(n, row, w)};
      };
      rows.push_back({.top_ids = {ids.begin(), ids.end()},
                      .top_logprobs = {logprobs.begin(), logprobs.end()},
                      .final = place(decode::kWatchedFinal),
                      .target = has_target ? std::optional(place(decode::kWatchedTarget)) : std::nullopt,
                      .watched = {},
                      .entropy = position.entropy(n, row),
                      .kl_final = position.kl_final(n, row)});
      for (std::size_t i = 0; i < num_watched; ++i) {
        const std::int64_t w = watch_.index(position.where(), i);
        const bool has = position.watched_id(w) != decode::kNoToken;
        rows.back().watched.push_back(has ? std::optional(place(w)) : std::nullopt);
      }
    }
  }
}

std::optional<double> difference(const Cell& cell, const experiments::WatchedPair& pair) {
  const std::optional<Place>&first = cell.watched[pair.first], &second = cell.watched[pair.second];
  if (!first || !second) return std::nullopt;
  return static_cast<double>(first->logprob) - static_cast<double>(second->logprob);
}

}  // namespace depthlens::tool
