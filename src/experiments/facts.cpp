// facts.*: at which layer each token of an answer is found (paper, section on fact recall).
#include <map>
#include <utility>

#include "task_ranks.hpp"

namespace depthlens::experiments {
namespace {

class Facts : public Experiment {
 public:
  explicit Facts(const Context& context) : context_(context) {}

  decode::Needs needs() const override { return {}; }
  void begin(const decode::ReadoutShape& shape) override { shape_ = shape; }

  void accept(const decode::PositionReadout& position) override {
    const data::TaskItem& item = item_of(context_, position);
    const std::int64_t length = static_cast<std::int64_t>(item.answer.size());
    auto [place, added] = groups_.try_emplace({length, answer_index(item, position) + 1});
    Group& group = place->second;
    if (added) group = {RankCurves(shape_, context_.seed), EarliestLayers(shape_, context_.seed)};
    group.ranks.add(position, decode::kWatchedTarget);
    group.earliest.add(position, decode::kWatchedTarget);
  }

  std::vector<tables::Table> tables() const override {
    using tables::kEstimated;
    tables::EstimateTable rank("facts.rank", {{"lens"},
                                              {"layer"},
                                              {"answer_length", "tokens"},
                                              {"answer_position", "from 1"},
                                              {"count", "positions"},
                                              {"mean_rank", "rank", kEstimated},
                                              {"median_rank", "rank"},
                                              {"top1_rate", "share of positions", kEstimated}});
    tables::EstimateTable earliest("facts.earliest", {{"lens"},
                                                      {"answer_length", "tokens"},
                                                      {"answer_position", "from 1"},
                                                      {"threshold", "rank"},
                                                      {"count", "positions"},
                                                      {"mean_layer", "layer", kEstimated},
                                                      {"median_layer", "layer"},
                                                      {"reached", "positions"}});
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      const std::string& name = shape_.lens_names[static_cast<std::size_t>(lens)];
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        for (const auto& [key, group] : groups_) {
          rank.add({name, row, key.first, key.second, group.ranks.count(), group.ranks.mean_rank(lens, row),
                    group.ranks.median_rank(lens, row), group.ranks.top1_rate(lens, row)});
        }
      }
      for (const auto& [key, group] : groups_) {
        for (std::size_t t = 0; t < kRankThresholds.size(); ++t)
          group.earliest.add_row(earliest, {name, key.first, key.second, kRankThresholds[t]}, lens, t);
      }
    }
    return {std::move(rank).finish(), std::move(earliest).finish()};
  }

 private:
  struct Group {
    RankCurves ranks;
    EarliestLayers earliest;
  };
  Context context_;
  decode::ReadoutShape shape_;
  std::map<std::pair<std::int64_t, std::int64_t>, Group> groups_;  // answer length, position in it
};

}  // namespace

std::unique_ptr<Experiment> make_facts(const Context& context) {
  return std::make_unique<Facts>(context);
}

}  // namespace depthlens::experiments
