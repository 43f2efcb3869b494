// settling.*: from which layer on the top-1 stays what the model says in the end, and from which layer the
// model's answer first is among the best few.
#include <array>

#include "depthlens/tables/accumulators.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {

constexpr std::array<std::int64_t, 3> kThresholds = {1, 5, 10};  // ranks

class Settling : public Experiment {
 public:
  decode::Needs needs() const override { return {}; }

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    settled_ = Grid<std::int64_t>(shape.num_lenses(), shape.num_rows);
    first_hit_ = Grid<std::int64_t>(shape.num_lenses(), shape.num_rows, kThresholds.size());
  }

  void accept(const decode::PositionReadout& position) override {
    ++positions_;
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      ++settled_.at(lens, position.settled_layer(lens));
      for (std::size_t t = 0; t < kThresholds.size(); ++t) {
        std::int64_t row = 0;  // at layer L the final top-1 has rank 1, so the search ends
        while (row + 1 < shape_.num_rows && position.rank(lens, row, decode::kWatchedFinal) > kThresholds[t])
          ++row;
        ++first_hit_.at(lens, row, static_cast<std::int64_t>(t));
      }
    }
  }

  std::vector<tables::Table> tables() const override {
    tables::Table depth{
        .name = "settling.depth",
        .columns = {{"lens"}, {"layer"}, {"count", "positions"}, {"share", "share of positions"}},
        .rows = {}};
    tables::Table first_hit{.name = "settling.first_hit",
                            .columns = {{"lens"},
                                        {"threshold", "rank"},
                                        {"layer"},
                                        {"count", "positions"},
                                        {"share", "share of positions"}},
                            .rows = {}};
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      const std::string& name = shape_.lens_names[static_cast<std::size_t>(lens)];
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        depth.add({name, row, settled_.at(lens, row), tables::share(settled_.at(lens, row), positions_)});
      }
      for (std::size_t t = 0; t < kThresholds.size(); ++t) {
        for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
          const std::int64_t count = first_hit_.at(lens, row, static_cast<std::int64_t>(t));
          first_hit.add({name, kThresholds[t], row, count, tables::share(count, positions_)});
        }
      }
    }
    return {depth, first_hit};
  }

 private:
  decode::ReadoutShape shape_;
  Grid<std::int64_t> settled_;
  Grid<std::int64_t> first_hit_;
  std::int64_t positions_ = 0;
};

}  // namespace

std::unique_ptr<Experiment> make_settling(const Context& /*context*/) {
  return std::make_unique<Settling>();
}

}  // namespace depthlens::experiments
