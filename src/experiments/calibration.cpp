// calibration.*: what the lens' probabilities are worth. Probability mass against rank, the bias of a layer
// to frequent tokens, and what leaving the model early would cost.
#include <array>
#include <cmath>

#include "depthlens/tables/estimates.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {

constexpr std::int64_t kRanks = 10;

struct ExitRule {
  const char* criterion;
  double threshold;
};
/// Left at the first layer where the value reaches the threshold; for the entropy, falls to it.
constexpr std::array<ExitRule, 21> kExits = {
    {{"max_probability", 0.3},  {"max_probability", 0.5}, {"max_probability", 0.7},
     {"max_probability", 0.8},  {"max_probability", 0.9}, {"max_probability", 0.95},
     {"max_probability", 0.99}, {"entropy", 3},           {"entropy", 2},
     {"entropy", 1.5},          {"entropy", 1},           {"entropy", 0.5},
     {"entropy", 0.25},         {"entropy", 0.1},         {"top2_gap", 0.1},
     {"top2_gap", 0.2},         {"top2_gap", 0.4},        {"top2_gap", 0.6},
     {"top2_gap", 0.8},         {"top2_gap", 0.9},        {"top2_gap", 0.95}}};

class Calibration : public Experiment {
 public:
  explicit Calibration(const Context& context) : context_(context) {}

  decode::Needs needs() const override {
    return {.top_k = kRanks, .token_groups = {}, .num_groups = 0, .probability_sums = true};
  }

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    num_ranks_ = std::min(kRanks, shape.top_k);
    const auto lenses = static_cast<std::size_t>(shape.num_lenses());
    exit_values_.assign(lenses * kExits.size() * 2, 0);
    exits_ = tables::BootstrapMeans(
        context_.state->sums("calibration.exits", exit_values_.size() + 1, context_.seed));
    mass_values_.assign(lenses * static_cast<std::size_t>(shape.num_rows * num_ranks_) * 2, 0);
    masses_ = tables::BootstrapMeans(
        context_.state->sums("calibration.masses", mass_values_.size() + 1, context_.seed));
    probabilities_ = &context_.state->wide_sums(
        "calibration.probabilities", static_cast<std::size_t>(shape.num_states * shape.vocab_size));
  }

  void accept(const decode::PositionReadout& position) override {
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::size_t e = 0; e < kExits.size(); ++e) {
        std::int64_t row = 0;
        while (row + 1 < shape_.num_rows && !leaves(kExits[e], position, lens, row)) ++row;
        double* values = exit_values_.data() + exit_index(lens, e);
        values[0] = static_cast<double>(shape_.layer(row));
        values[1] = position.top1(lens, row) == position.final_id() ? 1 : 0;
      }
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        double cumulated = 0;
        for (std::int64_t k = 0; k < num_ranks_; ++k) {
          const double probability =
              std::exp(static_cast<double>(position.top_logprobs(lens, row)[static_cast<std::size_t>(k)]));
          cumulated += probability;
          double* values = mass_values_.data() + mass_index(lens, row, k);
          values[0] = probability;
          values[1] = cumulated;
        }
      }
    }
    exits_.add(unit_of(position), exit_values_);
    masses_.add(unit_of(position), mass_values_);
  }

  void accept_sums(const decode::ProbabilitySums& sums) override {
    for (std::size_t state = 0; state < sums.sums.size(); ++state) {
      const std::vector<double>& of_token = sums.sums[state];
      for (std::size_t v = 0; v < of_token.size(); ++v) {
        // A sum too small for a number still has a logarithm.
        const std::size_t i = state * of_token.size() + v;
        if (std::isnormal(of_token[v]) || sums.log_small.empty()) {
          probabilities_->add(i, of_token[v]);
        } else {
          probabilities_->add_exp(i, sums.log_small[state][v]);
        }
      }
    }
  }

  std::vector<tables::Table> tables() const override { return {early_exit(), rank_mass(), frequency_bias()}; }

 private:
  struct BucketBias {
    double predicted = 0;
    double kl = 0;
  };

  static bool leaves(const ExitRule& exit, const decode::PositionReadout& position, std::int64_t lens,
                     std::int64_t row) {
    const std::string_view criterion = exit.criterion;
    if (criterion == "entropy") return position.entropy(lens, row) <= exit.threshold;
    const auto logprobs = position.top_logprobs(lens, row);
    const double best = std::exp(static_cast<double>(logprobs[0]));
    if (criterion == "max_probability") return best >= exit.threshold;
    const double second = logprobs.size() > 1 ? std::exp(static_cast<double>(logprobs[1])) : 0;
    return best - second >= exit.threshold;
  }

  /// Adds up the buckets of a layer.
  void add_bias(std::int64_t lens, std::int64_t row, std::vector<BucketBias>& buckets) const {
    const auto corpus = static_cast<double>(context_.counts->total());
    const auto positions = static_cast<double>(masses_.count());
    const auto first = static_cast<std::size_t>(shape_.state(lens, row) * shape_.vocab_size);
    for (std::size_t v = 0; v < static_cast<std::size_t>(shape_.vocab_size); ++v) {
      const double c = static_cast<double>(context_.counts->count(static_cast<decode::TokenId>(v))) / corpus;
      const double q = probabilities_->value(first + v) / positions;
      BucketBias& bucket = buckets[context_.buckets.bucket_of[v]];
      bucket.predicted += q;
      // Σ (q − c) = 0, so that these terms, none of which is negative, add up to KL(corpus ‖ layer).
      // A probability too small for a number still has a logarithm.
      const auto log_ratio = [&] {
        return std::isnormal(q) ? std::log(c / q)
                                : std::log(c) - (probabilities_->log(first + v) - std::log(positions));
      };
      bucket.kl += (c > 0 ? c * log_ratio() : 0) - c + q;
    }
  }

  std::size_t exit_index(std::int64_t lens, std::size_t exit) const {
    return (static_cast<std::size_t>(lens) * kExits.size() + exit) * 2;
  }
  std::size_t mass_index(std::int64_t lens, std::int64_t row, std::int64_t k) const {
    return static_cast<std::size_t>((lens * shape_.num_rows + row) * num_ranks_ + k) * 2;
  }

  tables::Table early_exit() const {
    using tables::kEstimated;
    tables::EstimateTable table("calibration.early_exit", {{"lens"},
                                                           {"criterion"},
                                                           {"threshold", "probability or nats"},
                                                           {"mean_layer", "layer", kEstimated},
                                                           {"agreement", "share of positions", kEstimated},
                                                           {"speedup_bound", "L / mean_layer"},
                                                           {"count", "positions"}});
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::size_t e = 0; e < kExits.size(); ++e) {
        const std::size_t i = exit_index(lens, e);
        const tables::Estimate mean_layer = exits_.estimate(i);
        std::optional<double> speedup;
        if (mean_layer.value && *mean_layer.value > 0)
          speedup = static_cast<double>(shape_.last_layer()) / *mean_layer.value;
        table.add({shape_.lens_names[static_cast<std::size_t>(lens)], std::string(kExits[e].criterion),
                   kExits[e].threshold, mean_layer, exits_.estimate(i + 1), tables::cell(speedup),
                   exits_.count()});
      }
    }
    return std::move(table).finish();
  }

  tables::Table rank_mass() const {
    using tables::kEstimated;
    tables::EstimateTable table("calibration.rank_mass",
                                {{"lens"},
                                 {"layer"},
                                 {"rank", "rank"},
                                 {"count", "positions"},
                                 {"mean_probability", "probability", kEstimated},
                                 {"cumulative_probability", "probability", kEstimated}});
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        for (std::int64_t k = 0; k < num_ranks_; ++k) {
          const std::size_t i = mass_index(lens, row, k);
          table.add({shape_.lens_names[static_cast<std::size_t>(lens)], shape_.layer(row), k + 1,
                     masses_.count(), masses_.estimate(i), masses_.estimate(i + 1)});
        }
      }
    }
    return std::move(table).finish();
  }

  tables::Table frequency_bias() const {
    tables::Table table{.name = "calibration.frequency_bias",
                        .columns = {{"lens"},
                                    {"layer"},
                                    {"bucket"},
                                    {"corpus_share", "share of tokens"},
                                    {"predicted_share", "probability"},
                                    {"kl_corpus", "nats"},
                                    {"kl_share", "share of the layer's"}},
                        .rows = {}};
    const std::int64_t total = context_.counts->total();
    const bool has_sums = total > 0 && masses_.count() > 0;  // there are positions and a frequency table
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) {
        const std::string& name = shape_.lens_names[static_cast<std::size_t>(lens)];
        std::vector<BucketBias> buckets(static_cast<std::size_t>(context_.buckets.size()));
        if (has_sums) add_bias(lens, row, buckets);
        BucketBias all;
        for (const BucketBias& bucket : buckets) {
          all.predicted += bucket.predicted;
          all.kl += bucket.kl;
        }
        const auto add = [&](const std::string& bucket, std::int64_t count, const BucketBias& bias) {
          const auto known = [&](double value, bool exists) {
            return exists ? tables::Cell(value) : tables::Cell();
          };
          table.add({name, shape_.layer(row), bucket, tables::cell(tables::share(count, total)),
                     known(bias.predicted, has_sums), known(bias.kl, has_sums),
                     known(bias.kl / all.kl, all.kl > 0)});
        };
        add("all", total, all);
        for (std::size_t b = 0; b < buckets.size(); ++b)
          add(context_.buckets.names[b], context_.buckets.corpus_counts[b], buckets[b]);
      }
    }
    return table;
  }

  Context context_;
  decode::ReadoutShape shape_;
  std::int64_t num_ranks_ = 0;
  std::vector<double> exit_values_;  // of the position at hand: [N, exits, 2], layer and agreement
  std::vector<double> mass_values_;  // likewise [N, R, ranks, 2], probability alone and cumulated
  tables::BootstrapMeans exits_;
  tables::BootstrapMeans masses_;
  tables::WideSums* probabilities_ = nullptr;  // [S, V]
};

}  // namespace

std::unique_ptr<Experiment> make_calibration(const Context& context) {
  return std::make_unique<Calibration>(context);
}

}  // namespace depthlens::experiments
