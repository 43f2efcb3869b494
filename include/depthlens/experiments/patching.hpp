// The tables of activation patching (Meng et al. 2022). Not a listener of the engine: its numbers come from
// decode::Patcher.
#pragma once

#include <array>
#include <cstdint>

#include "depthlens/data/pairs.hpp"
#include "depthlens/decode/patching.hpp"
#include "depthlens/tables/accumulators.hpp"
#include "depthlens/tables/bootstrap.hpp"
#include "depthlens/tables/table.hpp"

namespace depthlens::experiments {

/// `patching.effect`. An item counts once for each role that it has: with the mean over the role's positions.
class PatchingEffect {
 public:
  /// `num_rows` is L + 1.
  PatchingEffect(std::int64_t num_rows, std::uint64_t seed);

  void add(const data::PairItem& item, const decode::PatchingResult& result);

  tables::Table table() const;

 private:
  struct Role {
    tables::BootstrapMeans differences, kl;             // [L + 1] each, over all items
    tables::BootstrapMeans restored;                    // [L + 1], over items that have something to restore
    tables::Mean clean_target = {}, clean_source = {};  // differences of the runs as they are, over all items
  };
  std::int64_t num_rows_;
  std::array<Role, data::kTokenRoleNames.size()> roles_;
};

}  // namespace depthlens::experiments
