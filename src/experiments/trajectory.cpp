// lens.quality: how near each layer's distribution is to the model's own and to the text (docs/methods.md).
#include "depthlens/tables/accumulators.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {

class Trajectory : public Experiment {
 public:
  decode::Needs needs() const override { return {}; }

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    layers_ = Grid<Layer>(shape.num_lenses(), shape.num_rows);
  }

  void accept(const decode::PositionReadout& position) override {
    const bool has_target = position.watched_id(decode::kWatchedTarget) != decode::kNoToken;
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        Layer& layer = layers_.at(lens, row);
        layer.kl_final.add(position.kl_final(lens, row));
        layer.kl_reverse.add(position.kl_reverse(lens, row));
        layer.entropy.add(position.entropy(lens, row));
        layer.final_rank.add(position.rank(lens, row, decode::kWatchedFinal));
        layer.agreeing += position.top1(lens, row) == position.final_id() ? 1 : 0;
        if (!has_target) continue;
        layer.cross_entropy.add(-static_cast<double>(position.logprob(lens, row, decode::kWatchedTarget)));
        layer.accurate += position.top1(lens, row) == position.watched_id(decode::kWatchedTarget) ? 1 : 0;
      }
    }
  }

  std::vector<tables::Table> tables() const override {
    using tables::cell;
    using tables::share;
    tables::Table table{.name = "lens.quality",
                        .columns = {{"lens"},
                                    {"layer"},
                                    {"positions", "positions"},
                                    {"kl_final", "nats"},
                                    {"kl_reverse", "nats"},
                                    {"entropy", "nats"},
                                    {"cross_entropy", "nats"},
                                    {"top1_agreement", "share of positions"},
                                    {"top1_accuracy", "share of targets"},
                                    {"final_rank_mean", "rank"},
                                    {"final_rank_median", "rank"},
                                    {"targets", "positions"}},
                        .rows = {}};
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        const Layer& layer = layers_.at(lens, row);
        const std::int64_t positions = layer.kl_final.count(), targets = layer.cross_entropy.count();
        table.add({shape_.lens_names[static_cast<std::size_t>(lens)], row, positions,
                   cell(layer.kl_final.value()), cell(layer.kl_reverse.value()), cell(layer.entropy.value()),
                   cell(layer.cross_entropy.value()), share(layer.agreeing, positions),
                   share(layer.accurate, targets), cell(layer.final_rank.mean()),
                   cell(layer.final_rank.median()), targets});
      }
    }
    return {table};
  }

 private:
  struct Layer {
    tables::Mean kl_final, kl_reverse, entropy, cross_entropy;
    tables::Histogram final_rank;
    std::int64_t agreeing = 0;
    std::int64_t accurate = 0;
  };
  decode::ReadoutShape shape_;
  Grid<Layer> layers_;
};

}  // namespace

std::unique_ptr<Experiment> make_trajectory(const Context& /*context*/) {
  return std::make_unique<Trajectory>();
}

}  // namespace depthlens::experiments
