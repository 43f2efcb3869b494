// patching.effect: which states carry what distinguishes two prompts.
#include "depthlens/experiments/patching.hpp"

#include <vector>

#include "depthlens/tables/estimates.hpp"

namespace depthlens::experiments {

PatchingEffect::PatchingEffect(std::int64_t num_rows, std::uint64_t seed) : num_rows_(num_rows) {
  const tables::BootstrapMeans none(static_cast<std::size_t>(num_rows), seed);
  roles_.fill({.differences = none, .kl = none, .restored = none});
}

void PatchingEffect::add(const data::PairItem& item, const decode::PatchingResult& result) {
  const auto number = static_cast<std::uint64_t>(item.document);
  for (std::size_t r = 0; r < roles_.size(); ++r) {
    std::vector<std::int64_t> positions;
    for (std::size_t p = 0; p < item.roles.size(); ++p) {
      if (item.roles[p] == static_cast<data::TokenRole>(r)) positions.push_back(static_cast<std::int64_t>(p));
    }
    if (positions.empty()) continue;
    const auto by_layer = [&](const auto& value) {
      std::vector<double> means;
      for (std::int64_t layer = 0; layer < num_rows_; ++layer) {
        double sum = 0;
        for (const std::int64_t p : positions) sum += value(result.at(layer, p));
        means.push_back(sum / static_cast<double>(positions.size()));
      }
      return means;
    };
    using Prediction = decode::LastPrediction;
    Role& role = roles_[r];
    role.differences.add(number, by_layer([](const Prediction& p) { return p.log_probability_difference; }));
    role.kl.add(number, by_layer([](const Prediction& p) { return p.kl; }));
    role.clean_target.add(result.target.log_probability_difference);
    role.clean_source.add(result.source.log_probability_difference);
    if (!result.restored(result.target)) continue;
    role.restored.add(number, by_layer([&](const Prediction& p) { return *result.restored(p); }));
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
  for (std::int64_t layer = 0; layer < num_rows_; ++layer) {
    for (std::size_t r = 0; r < roles_.size(); ++r) {
      if (static_cast<data::TokenRole>(r) == data::TokenRole::kBefore) continue;  // the states are equal
      const Role& role = roles_[r];
      const auto i = static_cast<std::size_t>(layer);
      table.add({layer, data::kTokenRoleNames[r], role.kl.count(), role.differences.estimate(i),
                 role.restored.estimate(i), role.kl.estimate(i), role.restored.count(),
                 tables::cell(role.clean_target.value()), tables::cell(role.clean_source.value())});
    }
  }
  return std::move(table).finish();
}

}  // namespace depthlens::experiments
