// frequency.*: how often each layer's top-1 is a frequent token, and how much probability it gives to them
// (paper, section on frequency: early layers guess frequent tokens).
#include "depthlens/tables/estimates.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {

class Frequency : public Experiment {
 public:
  explicit Frequency(const Context& context)
      : state_(*context.state), buckets_(context.buckets), seed_(context.seed) {}

  decode::Needs needs() const override {
    return {.top_k = 1, .token_groups = buckets_.bucket_of, .num_groups = buckets_.size()};
  }

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    positions_ = index(shape.num_lenses(), 0, 0);
    targets_ = positions_ + 1;
    sums_ = &state_.sums("frequency.sums", target_index(buckets_.size()), seed_);
  }

  void accept(const decode::PositionReadout& position) override {
    const std::span<double> sums = sums_->of(unit_of(position));
    sums[positions_] += 1;
    if (const decode::TokenId target = position.watched_id(decode::kWatchedTarget);
        target != decode::kNoToken) {
      sums[targets_] += 1;
      sums[target_index(bucket_of(target))] += 1;
    }
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        sums[index(lens, row, bucket_of(position.top1(lens, row)))] += 1;
        for (std::int64_t b = 0; b < buckets_.size(); ++b)
          sums[index(lens, row, b) + 1] += position.group_mass(lens, row, b);
      }
    }
  }

  std::vector<tables::Table> tables() const override {
    using tables::kEstimated;
    tables::Table corpus{.name = "frequency.corpus",
                         .columns = {{"bucket"}, {"count", "tokens"}, {"share", "share of tokens"}},
                         .rows = {}};
    tables::EstimateTable targets(
        "frequency.targets", {{"bucket"}, {"count", "targets"}, {"share", "share of targets", kEstimated}});
    tables::EstimateTable top1("frequency.top1_share", {{"lens"},
                                                        {"layer"},
                                                        {"bucket"},
                                                        {"count", "positions"},
                                                        {"share", "share of positions", kEstimated}});
    tables::EstimateTable mass(
        "frequency.mean_probability",
        {{"lens"}, {"layer"}, {"bucket"}, {"probability", "mean probability", kEstimated}});
    std::int64_t total = 0;
    for (const std::int64_t count : buckets_.corpus_counts) total += count;
    for (std::int64_t b = 0; b < buckets_.size(); ++b) {
      const std::int64_t count = buckets_.corpus_counts[static_cast<std::size_t>(b)];
      corpus.add({name(b), count, tables::share(count, total)});
      targets.add({name(b), this->count(target_index(b)), sums_->ratio(target_index(b), targets_)});
    }
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      const std::string& of = shape_.lens_names[static_cast<std::size_t>(lens)];
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        for (std::int64_t b = 0; b < buckets_.size(); ++b) {
          const std::size_t i = index(lens, row, b);
          top1.add({of, shape_.layer(row), name(b), count(i), sums_->ratio(i, positions_)});
          mass.add({of, shape_.layer(row), name(b), sums_->ratio(i + 1, positions_)});
        }
      }
    }
    return {corpus, std::move(targets).finish(), std::move(top1).finish(), std::move(mass).finish()};
  }

 private:
  std::int64_t bucket_of(decode::TokenId token) const {
    return buckets_.bucket_of[static_cast<std::size_t>(token)];
  }
  const std::string& name(std::int64_t bucket) const {
    return buckets_.names[static_cast<std::size_t>(bucket)];
  }
  /// Of the top-1's in the bucket; the probability on it is the next.
  std::size_t index(std::int64_t lens, std::int64_t row, std::int64_t bucket) const {
    return static_cast<std::size_t>((lens * shape_.num_rows + row) * buckets_.size() + bucket) * 2;
  }
  std::size_t target_index(std::int64_t bucket) const {
    return targets_ + 1 + static_cast<std::size_t>(bucket);
  }
  std::int64_t count(std::size_t i) const { return sums_->count(i); }

  tables::State& state_;
  data::TokenBuckets buckets_;
  std::uint64_t seed_;
  decode::ReadoutShape shape_;
  std::size_t positions_ = 0, targets_ = 0;  // their places in `sums_`
  tables::BootstrapSums* sums_ = nullptr;    // [N, R, buckets, 2], positions, targets, [buckets]
};

}  // namespace

std::unique_ptr<Experiment> make_frequency(const Context& context) {
  return std::make_unique<Frequency>(context);
}

}  // namespace depthlens::experiments
