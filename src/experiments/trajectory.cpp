// lens.quality: how near each layer's distribution is to the model's own and to the text (docs/methods.md);
// lens.difference: how far the lenses of a run are apart in it.
#include "depthlens/tables/accumulators.hpp"
#include "depthlens/tables/estimates.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {

/// What is added up for each lens and layer.
enum Statistic : std::size_t {
  kKlFinal,
  kKlReverse,
  kEntropy,
  kFinalRank,
  kAgreeing,
  kCrossEntropy,  // this and the next over positions with a target
  kAccurate,
  kNumStatistics
};

class Trajectory : public Experiment {
 public:
  explicit Trajectory(const Context& context) : state_(*context.state), seed_(context.seed) {}

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    positions_ = index(shape.num_lenses(), 0, kKlFinal);
    targets_ = positions_ + 1;
    sums_ = &state_.sums("trajectory.sums", targets_ + 1, seed_);
    final_rank_ = &state_.histograms("trajectory.final_rank", place_of(shape, shape.num_lenses(), 0));
  }

  void accept(const decode::PositionReadout& position) override {
    const std::span<double> sums = sums_->of(unit_of(position));
    const decode::TokenId target = position.watched_id(decode::kWatchedTarget);
    const bool has_target = target != decode::kNoToken;
    sums[positions_] += 1;
    sums[targets_] += has_target ? 1 : 0;
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        double* layer = &sums[index(lens, row, kKlFinal)];
        const decode::TokenId top1 = position.top1(lens, row);
        const std::int64_t rank = position.rank(lens, row, decode::kWatchedFinal);
        layer[kKlFinal] += position.kl_final(lens, row);
        layer[kKlReverse] += position.kl_reverse(lens, row);
        layer[kEntropy] += position.entropy(lens, row);
        layer[kFinalRank] += static_cast<double>(rank);
        layer[kAgreeing] += top1 == position.final_id() ? 1 : 0;
        final_rank_->add(place_of(shape_, lens, row), rank);
        if (!has_target) continue;
        layer[kCrossEntropy] -= static_cast<double>(position.logprob(lens, row, decode::kWatchedTarget));
        layer[kAccurate] += top1 == target ? 1 : 0;
      }
    }
  }

  std::vector<tables::Table> tables() const override {
    if (shape_.num_lenses() == 1) return {quality()};
    return {quality(), differences()};
  }

 private:
  std::size_t index(std::int64_t lens, std::int64_t row, Statistic statistic) const {
    return static_cast<std::size_t>(lens * shape_.num_rows + row) * kNumStatistics + statistic;
  }

  tables::Estimate mean(std::int64_t lens, std::int64_t row, Statistic statistic) const {
    return sums_->ratio(index(lens, row, statistic), statistic >= kCrossEntropy ? targets_ : positions_);
  }

  std::int64_t count(std::size_t i) const { return sums_->count(i); }

  tables::Table quality() const {
    using tables::kEstimated;
    tables::EstimateTable table("lens.quality", {{"lens"},
                                                 {"layer"},
                                                 {"positions", "positions"},
                                                 {"kl_final", "nats", kEstimated},
                                                 {"kl_reverse", "nats", kEstimated},
                                                 {"entropy", "nats", kEstimated},
                                                 {"cross_entropy", "nats", kEstimated},
                                                 {"top1_agreement", "share of positions", kEstimated},
                                                 {"top1_accuracy", "share of targets", kEstimated},
                                                 {"final_rank_mean", "rank", kEstimated},
                                                 {"final_rank_median", "rank"},
                                                 {"targets", "positions"}});
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        const auto estimate = [&](Statistic statistic) { return mean(lens, row, statistic); };
        table.add({name(lens), shape_.layer(row), count(positions_), estimate(kKlFinal), estimate(kKlReverse),
                   estimate(kEntropy), estimate(kCrossEntropy), estimate(kAgreeing), estimate(kAccurate),
                   estimate(kFinalRank), tables::cell((*final_rank_)[place_of(shape_, lens, row)].median()),
                   count(targets_)});
      }
    }
    return std::move(table).finish();
  }

  /// Of the other lenses to the first one.
  tables::Table differences() const {
    using tables::kEstimated;
    tables::EstimateTable table("lens.difference", {{"lens"},
                                                    {"baseline"},
                                                    {"layer"},
                                                    {"positions", "positions"},
                                                    {"kl_final", "nats", kEstimated},
                                                    {"kl_reverse", "nats", kEstimated},
                                                    {"entropy", "nats", kEstimated},
                                                    {"cross_entropy", "nats", kEstimated},
                                                    {"top1_agreement", "share of positions", kEstimated},
                                                    {"top1_accuracy", "share of targets", kEstimated}});
    for (std::int64_t lens = 1; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        const auto estimate = [&](Statistic statistic) {
          return tables::difference(mean(lens, row, statistic), mean(0, row, statistic));
        };
        table.add({name(lens), name(0), shape_.layer(row), count(positions_), estimate(kKlFinal),
                   estimate(kKlReverse), estimate(kEntropy), estimate(kCrossEntropy), estimate(kAgreeing),
                   estimate(kAccurate)});
      }
    }
    return std::move(table).finish();
  }

  const std::string& name(std::int64_t lens) const {
    return shape_.lens_names[static_cast<std::size_t>(lens)];
  }

  tables::State& state_;
  std::uint64_t seed_;
  decode::ReadoutShape shape_;
  std::size_t positions_ = 0, targets_ = 0;   // their places in `sums_`
  tables::BootstrapSums* sums_ = nullptr;     // [N, R, kNumStatistics], positions, targets
  tables::Histograms* final_rank_ = nullptr;  // [N, R]
};

}  // namespace

std::unique_ptr<Experiment> make_trajectory(const Context& context) {
  return std::make_unique<Trajectory>(context);
}

}  // namespace depthlens::experiments
