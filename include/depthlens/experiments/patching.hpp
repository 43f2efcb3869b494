// The tables of activation patching (Meng et al. 2022). Not a listener of the engine: its numbers come from
// decode::Patcher.
#pragma once

#include <array>
#include <cstdint>

#include "depthlens/data/pairs.hpp"
#include "depthlens/decode/patching.hpp"
#include "depthlens/tables/state.hpp"
#include "depthlens/tables/table.hpp"

namespace depthlens::experiments {

/// `patching.effect`. An item counts once for each role that it has: with the mean over the role's positions.
class PatchingEffect {
 public:
  /// `num_rows` is L + 1. What is added up is in `state`, which must outlive this.
  PatchingEffect(tables::State& state, std::int64_t num_rows, std::uint64_t seed);

  void add(const data::PairItem& item, const decode::PatchingResult& result);

  tables::Table table() const;

 private:
  /// What is added up for a role: by layer three sums, then four of the role.
  enum OfLayer : std::size_t { kDifference, kKl, kRestored, kOfLayer };
  enum OfRole : std::size_t { kItems, kRestorable, kCleanTarget, kCleanSource, kOfRole };
  std::size_t index(std::int64_t layer, OfLayer what) const {
    return static_cast<std::size_t>(layer) * kOfLayer + what;
  }
  std::size_t index(OfRole what) const { return static_cast<std::size_t>(num_rows_) * kOfLayer + what; }

  std::int64_t num_rows_;
  std::array<tables::BootstrapSums*, data::kTokenRoleNames.size()> roles_;
};

}  // namespace depthlens::experiments
