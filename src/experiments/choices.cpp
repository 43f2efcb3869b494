// choices.*: when the options of a question come to the top, and which of them leads (paper, section on
// multiple choice).
#include <cmath>

#include "depthlens/util/text.hpp"
#include "task_ranks.hpp"

namespace depthlens::experiments {
namespace {

constexpr std::size_t kOfOption = 3;  // rank, probability, leads

class Choices : public Experiment {
 public:
  explicit Choices(const Context& context) : context_(context) {}

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    labels_ = context_.task->option_labels;
    const std::size_t cells = place_of(shape, shape.num_lenses(), 0);
    options_.clear();
    for (std::size_t o = 0; o < labels_.size(); ++o) {
      const std::string name = util::cat("choices.option", o);
      options_.push_back({.means = tables::BootstrapMeans(
                              context_.state->sums(name + ".means", cells * kOfOption + 1, context_.seed)),
                          .ranks = &context_.state->histograms(name + ".ranks", cells)});
    }
    items_ = tables::BootstrapMeans(context_.state->sums("choices.items", cells * 2 + 1, context_.seed));
  }

  void accept(const decode::PositionReadout& position) override {
    const data::TaskItem& item = item_of(context_, position);
    const auto number = unit_of(position);
    const std::size_t num_options = item.options.size();
    const auto cells = static_cast<std::size_t>(shape_.num_lenses() * shape_.num_rows);
    std::vector<std::vector<double>> values(num_options, std::vector<double>(cells * kOfOption));
    std::vector<double> of_item(cells * 2);
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        const auto cell = static_cast<std::size_t>(lens * shape_.num_rows + row);
        const std::size_t leader = leading_option(item, position, lens, row);
        bool all_in_top = true;
        for (std::size_t o = 0; o < num_options; ++o) {
          const std::int64_t w = decode::kFirstWatchedOfQuery + static_cast<std::int64_t>(o);
          const std::int64_t rank = position.rank(lens, row, w);
          all_in_top = all_in_top && rank <= 2 * static_cast<std::int64_t>(num_options);
          values[o][cell * kOfOption] = static_cast<double>(rank);
          values[o][cell * kOfOption + 1] = std::exp(static_cast<double>(position.logprob(lens, row, w)));
          options_[o].ranks->add(cell, rank);
        }
        values[leader][cell * kOfOption + 2] = 1;
        of_item[cell * 2] = leader == item.gold_option ? 1 : 0;
        of_item[cell * 2 + 1] = all_in_top ? 1 : 0;
      }
    }
    for (std::size_t o = 0; o < num_options; ++o) options_[o].means.add(number, values[o]);
    items_.add(number, of_item);
  }

  std::vector<tables::Table> tables() const override {
    using tables::kEstimated;
    tables::EstimateTable option("choices.option", {{"lens"},
                                                    {"layer"},
                                                    {"option"},
                                                    {"count", "items"},
                                                    {"mean_rank", "rank", kEstimated},
                                                    {"median_rank", "rank"},
                                                    {"mean_probability", "probability", kEstimated},
                                                    {"leads", "share of items", kEstimated}});
    tables::EstimateTable accuracy("choices.accuracy", {{"lens"},
                                                        {"layer"},
                                                        {"count", "items"},
                                                        {"accuracy", "share of items", kEstimated},
                                                        {"options_in_top", "share of items", kEstimated}});
    for (std::size_t o = 0; o < labels_.size(); ++o) {
      for_each_cell(shape_, [&](std::int64_t lens, std::int64_t row, const std::string& name) {
        const std::size_t cell = place_of(shape_, lens, row);
        const auto mean = [&](std::size_t i) { return options_[o].means.estimate(cell * kOfOption + i); };
        option.add_at(cell * labels_.size() + o,
                      {name, shape_.layer(row), labels_[o], options_[o].means.count(), mean(0),
                       tables::cell((*options_[o].ranks)[cell].median()), mean(1), mean(2)});
      });
    }
    for_each_cell(shape_, [&](std::int64_t lens, std::int64_t row, const std::string& name) {
      const std::size_t cell = place_of(shape_, lens, row);
      accuracy.add({name, shape_.layer(row), items_.count(), items_.estimate(cell * 2),
                    items_.estimate(cell * 2 + 1)});
    });
    return {std::move(option).finish(), std::move(accuracy).finish()};
  }

 private:
  struct Option {
    tables::BootstrapMeans means;  // [N, R, kOfOption]
    tables::Histograms* ranks;     // [N, R]
  };
  Context context_;
  decode::ReadoutShape shape_;
  std::vector<std::string> labels_;
  std::vector<Option> options_;   // by place
  tables::BootstrapMeans items_;  // [N, R, 2]: the gold option leads, all options are near the top
};

}  // namespace

std::unique_ptr<Experiment> make_choices(const Context& context) {
  return std::make_unique<Choices>(context);
}

}  // namespace depthlens::experiments
