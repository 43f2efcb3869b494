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
    tokens_ = target_index(buckets_.size());
    sums_ = &state_.sums("frequency.sums", token_index(buckets_.size()), seed_);
  }

  void accept(const decode::PositionReadout& position) override {
    const std::span<double> sums = sums_->of(unit_of(position));
    sums[positions_] += 1;
    if (position.where().position >= position.query().num_bos) {
      sums[tokens_] += 1;
      sums[token_index(bucket_of(position.token()))] += 1;
    }
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
    tables::EstimateTable corpus("frequency.corpus",
                                 {{"bucket"}, {"count", "tokens"}, {"share", "share of tokens", kEstimated}});
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
    bool is_of_positions = true;  // the table has counted the tokens of the positions, and no others
    for (std::int64_t b = 0; b < buckets_.size(); ++b) {
      total += corpus_count(b);
      is_of_positions = is_of_positions && count(token_index(b)) == corpus_count(b);
    }
    for (std::int64_t b = 0; b < buckets_.size(); ++b) {
      corpus.add({name(b), corpus_count(b),
                  is_of_positions ? sums_->ratio(token_index(b), tokens_)
                                  : tables::Estimate{tables::share(corpus_count(b), total), {}, {}}});
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
    return {std::move(corpus).finish(), std::move(targets).finish(), std::move(top1).finish(),
            std::move(mass).finish()};
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
  std::size_t token_index(std::int64_t bucket) const {
    return tokens_ + 1 + static_cast<std::size_t>(bucket);
  }
  std::int64_t count(std::size_t i) const { return sums_->count(i); }
  std::int64_t corpus_count(std::int64_t bucket) const {
    return buckets_.corpus_counts[static_cast<std::size_t>(bucket)];
  }

  tables::State& state_;
  data::TokenBuckets buckets_;
  std::uint64_t seed_;
  decode::ReadoutShape shape_;
  std::size_t positions_ = 0, targets_ = 0, tokens_ = 0;  // their places in `sums_`
  /// [N, R, buckets, 2], positions, targets, [buckets], tokens (of the positions, without BOS), [buckets]
  tables::BootstrapSums* sums_ = nullptr;
};

}  // namespace

std::unique_ptr<Experiment> make_frequency(const Context& context) {
  return std::make_unique<Frequency>(context);
}

}  // namespace depthlens::experiments
