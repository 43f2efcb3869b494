// patching.effect: which states carry what distinguishes two prompts.
#include "depthlens/experiments/patching.hpp"

#include <span>
#include <string>
#include <vector>

#include "depthlens/tables/estimates.hpp"

namespace depthlens::experiments {

PatchingEffect::PatchingEffect(tables::State& state, std::int64_t num_rows, std::uint64_t seed)
    : num_rows_(num_rows) {
  for (std::size_t r = 0; r < roles_.size(); ++r) {
    roles_[r] = &state.sums(std::string("patching.") + data::kTokenRoleNames[r], index(kOfRole), seed);
  }
}

void PatchingEffect::add(const data::PairItem& item, const decode::PatchingResult& result) {
  const bool restorable = result.restored(result.target).has_value();
  for (std::size_t r = 0; r < roles_.size(); ++r) {
    std::vector<std::int64_t> positions;
    for (std::size_t p = 0; p < item.roles.size(); ++p) {
      if (item.roles[p] == static_cast<data::TokenRole>(r)) positions.push_back(static_cast<std::int64_t>(p));
    }
    if (positions.empty()) continue;
    const std::span<double> sums = roles_[r]->of(static_cast<std::uint64_t>(item.document));
    const auto mean = [&](std::int64_t layer, const auto& value) {
      double sum = 0;
      for (const std::int64_t p : positions) sum += value(result.at(layer, p));
      return sum / static_cast<double>(positions.size());
    };
    using Prediction = decode::LastPrediction;
    for (std::int64_t layer = 0; layer < num_rows_; ++layer) {
      sums[index(layer, kDifference)] =
          mean(layer, [](const Prediction& p) { return p.log_probability_difference; });
      sums[index(layer, kKl)] = mean(layer, [](const Prediction& p) { return p.kl; });
      if (restorable)
        sums[index(layer, kRestored)] = mean(layer, [&](const Prediction& p) { return *result.restored(p); });
    }
    sums[index(kItems)] = 1;
    sums[index(kRestorable)] = restorable ? 1 : 0;
    sums[index(kCleanTarget)] = result.target.log_probability_difference;
    sums[index(kCleanSource)] = result.source.log_probability_difference;
  }
}

tables::Table PatchingEffect::table() const {
  using tables::kEstimated;
  tables::EstimateTable table("patching.effect", {{"layer"},
                                                  {"position"},
                                                  {"count", "pairs"},
                                                  {"log_probability_difference", "nats", kEstimated},
                                                  {"restored", "share of the clean difference", kEstimated},
                                                  {"kl", "nats", kEstimated},
                                                  {"restored_count", "pairs"},
                                                  {"clean_target", "nats"},
                                                  {"clean_source", "nats"}});
  for (std::size_t r = 0; r < roles_.size(); ++r) {
    if (static_cast<data::TokenRole>(r) == data::TokenRole::kBefore) continue;  // the states are equal
    const tables::BootstrapSums& role = *roles_[r];
    const auto mean = [&](std::size_t i) { return role.ratio(i, index(kItems)); };
    for (std::int64_t layer = 0; layer < num_rows_; ++layer) {
      table.add_at(
          static_cast<std::size_t>(layer) * roles_.size() + r,
          {layer, data::kTokenRoleNames[r], role.count(index(kItems)), mean(index(layer, kDifference)),
           role.ratio(index(layer, kRestored), index(kRestorable)), mean(index(layer, kKl)),
           role.count(index(kRestorable)), tables::cell(mean(index(kCleanTarget)).value),
           tables::cell(mean(index(kCleanSource)).value)});
    }
  }
  return std::move(table).finish();
}

}  // namespace depthlens::experiments
