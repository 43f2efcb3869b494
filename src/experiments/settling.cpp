// settling.*: from which layer on the top-1 stays what the model says in the end, and from which layer the
// model's answer first is among the best few.
#include <array>

#include "depthlens/tables/estimates.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {

constexpr std::array<std::int64_t, 3> kThresholds = {1, 5, 10};  // ranks

class Settling : public Experiment {
 public:
  explicit Settling(const Context& context) : state_(*context.state), seed_(context.seed) {}

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    positions_ = index(shape.num_lenses(), 0);
    sums_ = &state_.sums("settling.sums", positions_ + 1, seed_);
  }

  void accept(const decode::PositionReadout& position) override {
    const std::span<double> sums = sums_->of(unit_of(position));
    sums[positions_] += 1;
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      sums[index(lens, position.settled_row(lens))] += 1;
      for (std::size_t t = 0; t < kThresholds.size(); ++t) {
        std::int64_t row = 0;  // at layer L the final top-1 has rank 1, so the search ends
        while (row + 1 < shape_.num_rows && position.rank(lens, row, decode::kWatchedFinal) > kThresholds[t])
          ++row;
        sums[index(lens, row) + 1 + t] += 1;
      }
    }
  }

  std::vector<tables::Table> tables() const override {
    using tables::kEstimated;
    tables::EstimateTable depth(
        "settling.depth",
        {{"lens"}, {"layer"}, {"count", "positions"}, {"share", "share of positions", kEstimated}});
    tables::EstimateTable first_hit("settling.first_hit", {{"lens"},
                                                           {"threshold", "rank"},
                                                           {"layer"},
                                                           {"count", "positions"},
                                                           {"share", "share of positions", kEstimated}});
    const auto count = [&](std::size_t i) { return sums_->count(i); };
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      const std::string& name = shape_.lens_names[static_cast<std::size_t>(lens)];
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        const std::size_t i = index(lens, row);
        depth.add({name, shape_.layer(row), count(i), sums_->ratio(i, positions_)});
      }
      for (std::size_t t = 0; t < kThresholds.size(); ++t) {
        for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
          const std::size_t i = index(lens, row) + 1 + t;
          first_hit.add({name, kThresholds[t], shape_.layer(row), count(i), sums_->ratio(i, positions_)});
        }
      }
    }
    return {std::move(depth).finish(), std::move(first_hit).finish()};
  }

 private:
  /// Of what settles at a layer; what first hits it, by threshold, follows.
  std::size_t index(std::int64_t lens, std::int64_t row) const {
    return static_cast<std::size_t>(lens * shape_.num_rows + row) * (1 + kThresholds.size());
  }

  tables::State& state_;
  std::uint64_t seed_;
  decode::ReadoutShape shape_;
  std::size_t positions_ = 0;              // their place in `sums_`
  tables::BootstrapSums* sums_ = nullptr;  // [N, R, 1 + thresholds], positions
};

}  // namespace

std::unique_ptr<Experiment> make_settling(const Context& context) {
  return std::make_unique<Settling>(context);
}

}  // namespace depthlens::experiments
