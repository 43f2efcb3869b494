// pos.*: how early words of each class are found (paper, section on parts of speech).
#include <map>
#include <utility>
#include <vector>

#include "depthlens/util/text.hpp"
#include "task_ranks.hpp"

namespace depthlens::experiments {
namespace {

class Pos : public Experiment {
 public:
  explicit Pos(const Context& context) : context_(context) {}

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    classes_.clear();
    for (const std::string& name : context_.task->classes) {
      index_[name] = classes_.size();
      classes_.push_back(
          {.name = name,
           .ranks = RankCurves(context_, "pos." + name, shape),
           .by_rank = EarliestLayers(context_, util::cat("pos.", name, ".by_rank"), shape, kRanksOfCurves),
           .earliest = {}});
      for (std::int64_t b = 0; b <= context_.buckets.size(); ++b) {
        classes_.back().earliest.emplace_back(context_, util::cat("pos.", name, ".bucket", b), shape,
                                              kRankThresholds);
      }
    }
  }

  void accept(const decode::PositionReadout& position) override {
    const data::TaskItem& item = item_of(context_, position);
    // Where the model says the word in its other form, that token is followed.
    const std::int64_t w =
        item.is_right(0, position.final_id()) ? decode::kWatchedFinal : decode::kWatchedTarget;
    Class& group = classes_[index_.at(item.word_class)];
    group.ranks.add(position, w);
    group.by_rank.add(position, w);
    group.earliest.front().add(position, w);
    const auto bucket = context_.buckets.bucket_of[static_cast<std::size_t>(position.watched_id(w))];
    group.earliest[static_cast<std::size_t>(bucket) + 1].add(position, w);
  }

  std::vector<tables::Table> tables() const override {
    using tables::kEstimated;
    tables::EstimateTable rank("pos.rank", {{"lens"},
                                            {"layer"},
                                            {"class"},
                                            {"count", "words"},
                                            {"mean_rank", "rank", kEstimated},
                                            {"median_rank", "rank"},
                                            {"mean_reciprocal_rank", "1 / rank", kEstimated},
                                            {"top1_rate", "share of words", kEstimated}});
    std::vector<tables::Column> columns = {{"lens"},
                                           {"class"},
                                           {"threshold", "rank"},
                                           {"count", "words"},
                                           {"mean_layer", "layer", kEstimated},
                                           {"median_layer", "layer"},
                                           {"reached", "words"}};
    tables::EstimateTable by_rank("pos.earliest_by_rank", columns);
    columns.insert(columns.begin() + 2, {"bucket"});
    tables::EstimateTable earliest("pos.earliest", std::move(columns));
    for (std::size_t c = 0; c < classes_.size(); ++c) {
      const Class& group = classes_[c];
      const RankCurves& ranks = group.ranks;
      for_each_cell(shape_, [&](std::int64_t lens, std::int64_t row, const std::string& name) {
        rank.add_at(place_of(shape_, lens, row) * classes_.size() + c,
                    {name, shape_.layer(row), group.name, ranks.count(), ranks.mean_rank(lens, row),
                     ranks.median_rank(lens, row), ranks.mean_reciprocal_rank(lens, row),
                     ranks.top1_rate(lens, row)});
      });
      const std::size_t buckets = group.earliest.size();
      for (std::size_t b = 0; b < buckets; ++b) {
        const std::string bucket = b == 0 ? "all" : context_.buckets.names[b - 1];
        group.earliest[b].add_rows(earliest, shape_.lens_names, {group.name, bucket}, c * buckets + b,
                                   classes_.size() * buckets);
      }
      group.by_rank.add_rows(by_rank, shape_.lens_names, {group.name}, c, classes_.size());
    }
    return {std::move(rank).finish(), std::move(earliest).finish(), std::move(by_rank).finish()};
  }

 private:
  struct Class {
    std::string name;
    RankCurves ranks;
    EarliestLayers by_rank;
    std::vector<EarliestLayers> earliest;  // of all words, then by bucket
  };
  Context context_;
  decode::ReadoutShape shape_;
  std::vector<Class> classes_;
  std::map<std::string, std::size_t> index_;  // of a class, by name
};

}  // namespace

std::unique_ptr<Experiment> make_pos(const Context& context) {
  return std::make_unique<Pos>(context);
}

}  // namespace depthlens::experiments
