// flips.*: how many of a layer's top-1 guesses the model gives up later, by the frequency of the guess, and
// how many change from one layer to the next (paper, section on decision flips).
#include "depthlens/tables/estimates.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {

class Flips : public Experiment {
 public:
  explicit Flips(const Context& context)
      : state_(*context.state), buckets_(context.buckets), seed_(context.seed) {}

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    positions_ = layer_index(shape.num_lenses(), 0);
    sums_ = &state_.sums("flips.sums", positions_ + 1, seed_);
  }

  void accept(const decode::PositionReadout& position) override {
    const std::span<double> sums = sums_->of(unit_of(position));
    sums[positions_] += 1;
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        const decode::TokenId guess = position.top1(lens, row);
        const std::size_t i = guess_index(lens, row, buckets_.bucket_of[static_cast<std::size_t>(guess)]);
        sums[i] += 1;
        sums[i + 1] += guess != position.final_id() ? 1 : 0;
        if (row > 0) sums[layer_index(lens, row)] += guess != position.top1(lens, row - 1) ? 1 : 0;
      }
    }
  }

  std::vector<tables::Table> tables() const override {
    using tables::kEstimated;
    tables::EstimateTable by_bucket("flips.by_bucket", {{"lens"},
                                                        {"layer"},
                                                        {"bucket"},
                                                        {"count", "positions"},
                                                        {"flipped", "positions"},
                                                        {"flip_rate", "share of count", kEstimated}});
    tables::EstimateTable changes(
        "flips.changes",
        {{"lens"}, {"layer"}, {"changed", "positions"}, {"share", "share of positions", kEstimated}});
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      const std::string& name = shape_.lens_names[static_cast<std::size_t>(lens)];
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        for (std::int64_t b = 0; b < buckets_.size(); ++b) {
          const std::size_t i = guess_index(lens, row, b);
          by_bucket.add({name, shape_.layer(row), buckets_.names[static_cast<std::size_t>(b)], count(i),
                         count(i + 1), sums_->ratio(i + 1, i)});
        }
        const std::size_t changed = layer_index(lens, row);
        if (row > 0)
          changes.add({name, shape_.layer(row), count(changed), sums_->ratio(changed, positions_)});
      }
    }
    return {std::move(by_bucket).finish(), std::move(changes).finish()};
  }

 private:
  /// Of what is added up for a layer, how often its top-1 is not that of the layer before; the guesses
  /// follow.
  std::size_t layer_index(std::int64_t lens, std::int64_t row) const {
    return static_cast<std::size_t>((lens * shape_.num_rows + row) * (1 + 2 * buckets_.size()));
  }
  /// Of the guesses in the bucket; those that flip are the next.
  std::size_t guess_index(std::int64_t lens, std::int64_t row, std::int64_t bucket) const {
    return layer_index(lens, row) + 1 + 2 * static_cast<std::size_t>(bucket);
  }
  std::int64_t count(std::size_t i) const { return sums_->count(i); }

  tables::State& state_;
  data::TokenBuckets buckets_;
  std::uint64_t seed_;
  decode::ReadoutShape shape_;
  std::size_t positions_ = 0;              // their place in `sums_`
  tables::BootstrapSums* sums_ = nullptr;  // [N, R, 1 + 2 buckets], positions
};

}  // namespace

std::unique_ptr<Experiment> make_flips(const Context& context) {
  return std::make_unique<Flips>(context);
}

}  // namespace depthlens::experiments
