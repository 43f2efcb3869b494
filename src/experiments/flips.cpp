// flips.*: how many of a layer's top-1 guesses the model gives up later, by the frequency of the guess, and
// how many change from one layer to the next (paper, section on decision flips).
#include "depthlens/tables/accumulators.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {

class Flips : public Experiment {
 public:
  explicit Flips(const Context& context) : buckets_(context.buckets) {}

  decode::Needs needs() const override { return {}; }

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    guesses_ = Grid<Guesses>(shape.num_lenses(), shape.num_rows, buckets_.size());
    changed_ = Grid<std::int64_t>(shape.num_lenses(), shape.num_rows);
  }

  void accept(const decode::PositionReadout& position) override {
    ++positions_;
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        const decode::TokenId guess = position.top1(lens, row);
        Guesses& guesses = guesses_.at(lens, row, buckets_.bucket_of[static_cast<std::size_t>(guess)]);
        ++guesses.count;
        guesses.flipped += guess != position.final_id() ? 1 : 0;
        if (row > 0) changed_.at(lens, row) += guess != position.top1(lens, row - 1) ? 1 : 0;
      }
    }
  }

  std::vector<tables::Table> tables() const override {
    tables::Table by_bucket{.name = "flips.by_bucket",
                            .columns = {{"lens"},
                                        {"layer"},
                                        {"bucket"},
                                        {"count", "positions"},
                                        {"flipped", "positions"},
                                        {"flip_rate", "share of count"}},
                            .rows = {}};
    tables::Table changes{
        .name = "flips.changes",
        .columns = {{"lens"}, {"layer"}, {"changed", "positions"}, {"share", "share of positions"}},
        .rows = {}};
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      const std::string& name = shape_.lens_names[static_cast<std::size_t>(lens)];
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        for (std::int64_t b = 0; b < buckets_.size(); ++b) {
          const Guesses& guesses = guesses_.at(lens, row, b);
          by_bucket.add({name, row, buckets_.names[static_cast<std::size_t>(b)], guesses.count,
                         guesses.flipped, tables::share(guesses.flipped, guesses.count)});
        }
        if (row > 0)
          changes.add({name, row, changed_.at(lens, row), tables::share(changed_.at(lens, row), positions_)});
      }
    }
    return {by_bucket, changes};
  }

 private:
  struct Guesses {
    std::int64_t count = 0;
    std::int64_t flipped = 0;
  };
  data::TokenBuckets buckets_;
  decode::ReadoutShape shape_;
  Grid<Guesses> guesses_;
  Grid<std::int64_t> changed_;  // against the layer before; row 0 unused
  std::int64_t positions_ = 0;
};

}  // namespace

std::unique_ptr<Experiment> make_flips(const Context& context) {
  return std::make_unique<Flips>(context);
}

}  // namespace depthlens::experiments
