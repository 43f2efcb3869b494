// Ranks of an answer by layer.
#include "task_ranks.hpp"

#include "depthlens/util/error.hpp"

namespace depthlens::experiments {
namespace {
constexpr std::int64_t kRankStatistics = 3;
}

RankCurves::RankCurves(const Context& context, const std::string& name, const decode::ReadoutShape& shape)
    : num_rows_(shape.num_rows),
      values_(place_of(shape, shape.num_lenses(), 0, kRankStatistics)),
      means_(context.state->sums(name + ".means", values_.size() + 1, context.seed)),
      ranks_(&context.state->histograms(name + ".ranks", place_of(shape, shape.num_lenses(), 0))) {}

std::size_t RankCurves::index(std::int64_t lens, std::int64_t row, std::size_t statistic) const {
  return static_cast<std::size_t>((lens * num_rows_ + row) * kRankStatistics) + statistic;
}

void RankCurves::add(const decode::PositionReadout& position, std::int64_t w) {
  for (std::int64_t lens = 0; lens < position.shape().num_lenses(); ++lens) {
    for (std::int64_t row = 0; row < num_rows_; ++row) {
      const std::int64_t rank = position.rank(lens, row, w);
      values_[index(lens, row, 0)] = static_cast<double>(rank);
      values_[index(lens, row, 1)] = 1 / static_cast<double>(rank);
      values_[index(lens, row, 2)] = rank == 1 ? 1 : 0;
      ranks_->add(index(lens, row, 0) / static_cast<std::size_t>(kRankStatistics), rank);
    }
  }
  means_.add(unit_of(position), values_);
}

tables::Estimate RankCurves::mean_rank(std::int64_t lens, std::int64_t row) const {
  return means_.estimate(index(lens, row, 0));
}
tables::Estimate RankCurves::mean_reciprocal_rank(std::int64_t lens, std::int64_t row) const {
  return means_.estimate(index(lens, row, 1));
}
tables::Estimate RankCurves::top1_rate(std::int64_t lens, std::int64_t row) const {
  return means_.estimate(index(lens, row, 2));
}
tables::Cell RankCurves::median_rank(std::int64_t lens, std::int64_t row) const {
  return tables::cell((*ranks_)[index(lens, row, 0) / static_cast<std::size_t>(kRankStatistics)].median());
}

EarliestLayers::EarliestLayers(const Context& context, const std::string& name,
                               const decode::ReadoutShape& shape, std::span<const std::int64_t> thresholds)
    : thresholds_(thresholds), num_lenses_(shape.num_lenses()) {
  const std::size_t size = static_cast<std::size_t>(num_lenses_) * thresholds.size();
  sums_ = &context.state->sums(name + ".earliest", 2 * size + 1, context.seed);
  layers_ = &context.state->histograms(name + ".layers", size);
}

void EarliestLayers::add(const decode::PositionReadout& position, std::int64_t w) {
  const std::span<double> sums = sums_->of(unit_of(position));
  sums.back() = 1;
  for (std::int64_t lens = 0; lens < num_lenses_; ++lens) {
    std::size_t left = thresholds_.size();  // those that no layer has reached so far, the lowest ones
    for (std::int64_t row = 0; row < position.shape().num_rows && left > 0; ++row) {
      const std::int64_t rank = position.rank(lens, row, w), layer = position.shape().layer(row);
      for (; left > 0 && rank <= thresholds_[left - 1]; --left) {
        const std::size_t i = static_cast<std::size_t>(lens) * thresholds_.size() + left - 1;
        sums[2 * i] = static_cast<double>(layer);
        sums[2 * i + 1] = 1;
        layers_->add(i, layer);
      }
    }
  }
}

void EarliestLayers::add_rows(tables::EstimateTable& table, const std::vector<std::string>& lens_names,
                              const std::vector<tables::EstimateTable::Field>& key, std::size_t group,
                              std::size_t num_groups) const {
  for (std::size_t lens = 0; lens < lens_names.size(); ++lens) {
    for (std::size_t t = 0; t < thresholds_.size(); ++t) {
      const std::size_t i = lens * thresholds_.size() + t;
      std::vector<tables::EstimateTable::Field> row = {lens_names[lens]};
      row.insert(row.end(), key.begin(), key.end());
      row.emplace_back(thresholds_[t]);
      row.emplace_back(sums_->count(sums_->size() - 1));
      row.emplace_back(sums_->ratio(2 * i, 2 * i + 1));
      row.emplace_back(tables::cell((*layers_)[i].median()));
      row.emplace_back((*layers_)[i].count());
      table.add_at((lens * num_groups + group) * thresholds_.size() + t, std::move(row));
    }
  }
}

const data::TaskItem& item_of(const Context& context, const decode::PositionReadout& position) {
  DEPTHLENS_ASSERT(context.task != nullptr && position.where().item >= 0);
  return context.task->items[static_cast<std::size_t>(position.where().item)];
}

std::int64_t answer_index(const data::TaskItem& item, const decode::PositionReadout& position) {
  return position.where().position - item.first_position();
}

std::size_t leading_option(const data::TaskItem& item, const decode::PositionReadout& position,
                           std::int64_t lens, std::int64_t row) {
  const auto logprob = [&](std::size_t option) {
    return position.logprob(lens, row, decode::kFirstWatchedOfQuery + static_cast<std::int64_t>(option));
  };
  std::size_t leader = 0;
  for (std::size_t o = 1; o < item.options.size(); ++o) {
    if (logprob(o) > logprob(leader)) leader = o;
  }
  return leader;
}

}  // namespace depthlens::experiments
