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
    tables::Table rank{.name = "facts.rank",
                       .columns = {{"lens"},
                                   {"layer"},
                                   {"answer_length", "tokens"},
                                   {"answer_position", "from 1"},
                                   {"count", "positions"},
                                   {"mean_rank", "rank"},
                                   {"mean_rank_low", "rank"},
                                   {"mean_rank_high", "rank"},
                                   {"median_rank", "rank"},
                                   {"top1_rate", "share of positions"},
                                   {"top1_rate_low", "share of positions"},
                                   {"top1_rate_high", "share of positions"}},
                       .rows = {}};
    tables::Table earliest{.name = "facts.earliest",
                           .columns = {{"lens"},
                                       {"answer_length", "tokens"},
                                       {"answer_position", "from 1"},
                                       {"threshold", "rank"},
                                       {"count", "positions"},
                                       {"mean_layer", "layer"},
                                       {"median_layer", "layer"},
                                       {"reached", "positions"},
                                       {"mean_layer_low", "layer"},
                                       {"mean_layer_high", "layer"}},
                           .rows = {}};
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      const std::string& name = shape_.lens_names[static_cast<std::size_t>(lens)];
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        for (const auto& [key, group] : groups_) {
          rank.add(joined({{name, row, key.first, key.second, group.ranks.count()},
                           group.ranks.mean_rank(lens, row),
                           {group.ranks.median_rank(lens, row)},
                           group.ranks.top1_rate(lens, row)}));
        }
      }
      for (const auto& [key, group] : groups_) {
        for (std::size_t t = 0; t < kRankThresholds.size(); ++t) {
          earliest.add(
              joined({{name, key.first, key.second, kRankThresholds[t]}, group.earliest.cells(lens, t)}));
        }
      }
    }
    return {rank, earliest};
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
