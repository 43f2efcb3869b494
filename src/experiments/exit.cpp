// exit.accuracy: how well the task is done when the model is left after a layer: the blocks above are
// skipped, and the layer's state goes through the lens to the output. With the logit lens nothing is put in
// their place.
#include "task_ranks.hpp"

namespace depthlens::experiments {
namespace {

constexpr std::size_t kExitStatistics = 4;  // right, log-probability of the answer, agreement, KL

class Exit : public Experiment {
 public:
  explicit Exit(const Context& context) : context_(context) {}

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    values_.assign(static_cast<std::size_t>(shape.num_lenses() * shape.num_rows) * kExitStatistics, 0);
    means_ = tables::BootstrapMeans(context_.state->sums("exit.means", values_.size() + 1, context_.seed));
  }

  void accept(const decode::PositionReadout& position) override {
    const data::TaskItem& item = item_of(context_, position);
    const std::int64_t k = answer_index(item, position);
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        double* values = values_.data() + index(lens, row);
        values[0] = is_right(item, k, position, lens, row) ? 1 : 0;
        values[1] = position.logprob(lens, row, decode::kWatchedTarget);
        values[2] = position.top1(lens, row) == position.final_id() ? 1 : 0;
        values[3] = position.kl_final(lens, row);
      }
    }
    means_.add(unit_of(position), values_);
  }

  std::vector<tables::Table> tables() const override {
    using tables::kEstimated;
    tables::EstimateTable table("exit.accuracy", {{"lens"},
                                                  {"layer"},
                                                  {"blocks_skipped", "blocks"},
                                                  {"count", "positions"},
                                                  {"accuracy", "share of positions", kEstimated},
                                                  {"answer_logprob", "nats", kEstimated},
                                                  {"agreement", "share of positions", kEstimated},
                                                  {"kl_final", "nats", kEstimated}});
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        const auto mean = [&](std::size_t i) { return means_.estimate(index(lens, row) + i); };
        table.add({shape_.lens_names[static_cast<std::size_t>(lens)], shape_.layer(row),
                   shape_.last_layer() - shape_.layer(row), means_.count(), mean(0), mean(1), mean(2),
                   mean(3)});
      }
    }
    return {std::move(table).finish()};
  }

 private:
  std::size_t index(std::int64_t lens, std::int64_t row) const {
    return static_cast<std::size_t>(lens * shape_.num_rows + row) * kExitStatistics;
  }

  /// A question is answered by the option that leads, anything else by the top-1.
  static bool is_right(const data::TaskItem& item, std::int64_t k, const decode::PositionReadout& position,
                       std::int64_t lens, std::int64_t row) {
    if (item.options.empty()) return item.is_right(k, position.top1(lens, row));
    return leading_option(item, position, lens, row) == item.gold_option;
  }

  Context context_;
  decode::ReadoutShape shape_;
  std::vector<double> values_;
  tables::BootstrapMeans means_;  // [N, R, kExitStatistics]
};

}  // namespace

std::unique_ptr<Experiment> make_exit(const Context& context) {
  return std::make_unique<Exit>(context);
}

}  // namespace depthlens::experiments
