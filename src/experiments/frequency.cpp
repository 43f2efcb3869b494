// frequency.*: how often each layer's top-1 is a frequent token, and how much probability it gives to them
// (paper, section on frequency: early layers guess frequent tokens).
#include "depthlens/tables/accumulators.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {

class Frequency : public Experiment {
 public:
  explicit Frequency(const Context& context) : buckets_(context.buckets) {}

  decode::Needs needs() const override {
    return {.top_k = 1, .token_groups = buckets_.bucket_of, .num_groups = buckets_.size()};
  }

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    top1_ = Grid<std::int64_t>(shape.num_lenses(), shape.num_rows, buckets_.size());
    mass_ = Grid<tables::Mean>(shape.num_lenses(), shape.num_rows, buckets_.size());
  }

  void accept(const decode::PositionReadout& position) override {
    ++positions_;
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        ++top1_.at(lens, row, buckets_.bucket_of[static_cast<std::size_t>(position.top1(lens, row))]);
        for (std::int64_t b = 0; b < buckets_.size(); ++b)
          mass_.at(lens, row, b).add(position.group_mass(lens, row, b));
      }
    }
  }

  std::vector<tables::Table> tables() const override {
    tables::Table corpus{.name = "frequency.corpus",
                         .columns = {{"bucket"}, {"count", "tokens"}, {"share", "share of tokens"}},
                         .rows = {}};
    std::int64_t total = 0;
    for (const std::int64_t count : buckets_.corpus_counts) total += count;
    for (std::size_t b = 0; b < buckets_.names.size(); ++b) {
      corpus.add(
          {buckets_.names[b], buckets_.corpus_counts[b], tables::share(buckets_.corpus_counts[b], total)});
    }
    tables::Table top1{
        .name = "frequency.top1_share",
        .columns = {{"lens"}, {"layer"}, {"bucket"}, {"count", "positions"}, {"share", "share of positions"}},
        .rows = {}};
    tables::Table mass{.name = "frequency.mean_probability",
                       .columns = {{"lens"}, {"layer"}, {"bucket"}, {"probability", "mean probability"}},
                       .rows = {}};
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      const std::string& name = shape_.lens_names[static_cast<std::size_t>(lens)];
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        for (std::int64_t b = 0; b < buckets_.size(); ++b) {
          const std::string& bucket = buckets_.names[static_cast<std::size_t>(b)];
          top1.add(
              {name, row, bucket, top1_.at(lens, row, b), tables::share(top1_.at(lens, row, b), positions_)});
          mass.add({name, row, bucket, tables::cell(mass_.at(lens, row, b).value())});
        }
      }
    }
    return {corpus, top1, mass};
  }

 private:
  data::TokenBuckets buckets_;
  decode::ReadoutShape shape_;
  Grid<std::int64_t> top1_;
  Grid<tables::Mean> mass_;
  std::int64_t positions_ = 0;
};

}  // namespace

std::unique_ptr<Experiment> make_frequency(const Context& context) {
  return std::make_unique<Frequency>(context);
}

}  // namespace depthlens::experiments
