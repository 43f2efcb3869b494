// patching.effect: which states carry what distinguishes two prompts.
#include "depthlens/experiments/patching.hpp"

#include <vector>

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
  tables::Table table{.name = "patching.effect",
                      .columns = {{"layer"},
                                  {"position"},
                                  {"count", "pairs"},
                                  {"log_probability_difference", "nats"},
                                  {"log_probability_difference_low", "nats"},
                                  {"log_probability_difference_high", "nats"},
                                  {"restored", "share of the clean difference"},
                                  {"restored_low", "share of the clean difference"},
                                  {"restored_high", "share of the clean difference"},
                                  {"kl", "nats"},
                                  {"kl_low", "nats"},
                                  {"kl_high", "nats"},
                                  {"restored_count", "pairs"},
                                  {"clean_target", "nats"},
                                  {"clean_source", "nats"}},
                      .rows = {}};
  for (std::int64_t layer = 0; layer < num_rows_; ++layer) {
    for (std::size_t r = 0; r < roles_.size(); ++r) {
      if (static_cast<data::TokenRole>(r) == data::TokenRole::kBefore) continue;  // the states are equal
      const Role& role = roles_[r];
      std::vector<tables::Cell> row = {layer, data::kTokenRoleNames[r], role.kl.count()};
      for (const tables::BootstrapMeans* means : {&role.differences, &role.restored, &role.kl}) {
        for (tables::Cell& cell : tables::cells_with_interval(*means, static_cast<std::size_t>(layer)))
          row.push_back(std::move(cell));
      }
      row.emplace_back(role.restored.count());
      row.push_back(tables::cell(role.clean_target.value()));
      row.push_back(tables::cell(role.clean_source.value()));
      table.add(std::move(row));
    }
  }
  return table;
}

}  // namespace depthlens::experiments
