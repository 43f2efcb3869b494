// facts.*: at which layer each token of an answer is found (paper, section on fact recall).
#include <map>
#include <utility>

#include "depthlens/util/text.hpp"
#include "task_ranks.hpp"

namespace depthlens::experiments {
namespace {

class Facts : public Experiment {
 public:
  explicit Facts(const Context& context) : context_(context) {}

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    seen_ = &context_.state->histograms("facts.groups", 1);
    groups_.clear();
  }

  void accept(const decode::PositionReadout& position) override {
    const data::TaskItem& item = item_of(context_, position);
    const std::int64_t length = static_cast<std::int64_t>(item.answer.size());
    const std::pair<std::int64_t, std::int64_t> key = {length, answer_index(item, position) + 1};
    auto found = groups_.find(key);
    if (found == groups_.end()) found = groups_.emplace(key, group(key.first, key.second)).first;
    Group& group = found->second;
    seen_->add(0, length * (length - 1) / 2 + key.second);
    group.ranks.add(position, decode::kWatchedTarget);
    group.earliest.add(position, decode::kWatchedTarget);
    group.by_rank.add(position, decode::kWatchedTarget);
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
    const std::vector<tables::Column> columns = {{"lens"},
                                                 {"answer_length", "tokens"},
                                                 {"answer_position", "from 1"},
                                                 {"threshold", "rank"},
                                                 {"count", "positions"},
                                                 {"mean_layer", "layer", kEstimated},
                                                 {"median_layer", "layer"},
                                                 {"reached", "positions"}};
    tables::EstimateTable earliest("facts.earliest", columns), by_rank("facts.earliest_by_rank", columns);
    const auto groups = all_groups();
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const auto& [key, group] = groups[g];
      for_each_cell(shape_, [&](std::int64_t lens, std::int64_t row, const std::string& name) {
        rank.add_at(place_of(shape_, lens, row) * groups.size() + g,
                    {name, shape_.layer(row), key.first, key.second, group.ranks.count(),
                     group.ranks.mean_rank(lens, row), group.ranks.median_rank(lens, row),
                     group.ranks.top1_rate(lens, row)});
      });
      const std::vector<tables::EstimateTable::Field> keys = {key.first, key.second};
      group.earliest.add_rows(earliest, shape_.lens_names, keys, g, groups.size());
      group.by_rank.add_rows(by_rank, shape_.lens_names, keys, g, groups.size());
    }
    return {std::move(rank).finish(), std::move(earliest).finish(), std::move(by_rank).finish()};
  }

 private:
  struct Group {
    RankCurves ranks;
    EarliestLayers earliest, by_rank;
  };

  Group group(std::int64_t length, std::int64_t answer_position) const {
    const std::string name = util::cat("facts.", length, ".", answer_position);
    return {RankCurves(context_, name, shape_), EarliestLayers(context_, name, shape_, kRankThresholds),
            EarliestLayers(context_, name + ".by_rank", shape_, kRanksOfCurves)};
  }

  /// Those that the state knows: numbered length by length, each with `length` places.
  std::vector<std::pair<std::pair<std::int64_t, std::int64_t>, Group>> all_groups() const {
    std::vector<std::pair<std::pair<std::int64_t, std::int64_t>, Group>> all;
    std::int64_t length = 1;
    (*seen_)[0].for_each([&](std::int64_t number, std::int64_t /*count*/) {
      while (length * (length + 1) / 2 < number) ++length;
      const std::int64_t answer_position = number - length * (length - 1) / 2;
      all.push_back({{length, answer_position}, group(length, answer_position)});
      return true;
    });
    return all;
  }

  Context context_;
  decode::ReadoutShape shape_;
  tables::Histograms* seen_ = nullptr;                             // [1]: numbers of groups
  std::map<std::pair<std::int64_t, std::int64_t>, Group> groups_;  // answer length, position in it, from 1
};

}  // namespace

std::unique_ptr<Experiment> make_facts(const Context& context) {
  return std::make_unique<Facts>(context);
}

}  // namespace depthlens::experiments
