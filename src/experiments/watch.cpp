// watch.*: rank and log-probability of the tokens that the user follows, layer by layer, and how far two of
// them are apart.
#include "depthlens/experiments/watch.hpp"

#include <algorithm>

#include "depthlens/tables/accumulators.hpp"
#include "depthlens/tables/estimates.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {

class Watching : public Experiment {
 public:
  explicit Watching(const Context& context)
      : state_(*context.state), watch_(*context.watch), seed_(context.seed) {}

  void begin(const decode::ReadoutShape& shape) override {
    shape_ = shape;
    sums_ = &state_.sums("watch.sums", pair_index(watch_.pairs.size(), 0, 0), seed_);
    ranks_ = &state_.histograms("watch.ranks", watch_.tokens.size() * num_layers());
  }

  void accept(const decode::PositionReadout& position) override {
    const std::span<double> sums = sums_->of(unit_of(position));
    const auto place = [&](std::size_t token) { return watch_.index(position.where(), token); };
    const auto is_there = [&](std::size_t token) {
      return position.watched_id(place(token)) != decode::kNoToken;
    };
    for (std::size_t t = 0; t < watch_.tokens.size(); ++t) {
      if (!is_there(t)) continue;
      sums[token_index(t, 0, 0)] += 1;
      for_each_layer([&](std::int64_t lens, std::int64_t row) {
        double* values = &sums[token_index(t, lens, row) + 1];
        const std::int64_t rank = position.rank(lens, row, place(t));
        values[0] += static_cast<double>(rank);
        values[1] += position.logprob(lens, row, place(t));
        ranks_->add(t * num_layers() + layer(lens, row), rank);
      });
    }
    for (std::size_t p = 0; p < watch_.pairs.size(); ++p) {
      const WatchedPair& pair = watch_.pairs[p];
      if (!is_there(pair.first) || !is_there(pair.second)) continue;
      sums[pair_index(p, 0, 0)] += 1;
      for_each_layer([&](std::int64_t lens, std::int64_t row) {
        sums[pair_index(p, lens, row) + 1] +=
            static_cast<double>(position.logprob(lens, row, place(pair.first))) -
            static_cast<double>(position.logprob(lens, row, place(pair.second)));
      });
    }
  }

  std::vector<tables::Table> tables() const override {
    using tables::kEstimated;
    tables::EstimateTable rank("watch.rank", {{"lens"},
                                              {"layer"},
                                              {"token"},
                                              {"count", "positions"},
                                              {"mean_rank", "rank", kEstimated},
                                              {"median_rank", "rank"},
                                              {"mean_logprob", "nats", kEstimated},
                                              {"token_id"}});
    tables::EstimateTable difference(
        "watch.difference",
        {{"lens"}, {"layer"}, {"pair"}, {"count", "positions"}, {"mean_difference", "nats", kEstimated}});
    const auto count = [&](std::size_t i) { return sums_->count(i); };
    for_each_layer([&](std::int64_t lens, std::int64_t row) {
      const std::string& name = shape_.lens_names[static_cast<std::size_t>(lens)];
      for (std::size_t t = 0; t < watch_.tokens.size(); ++t) {
        const WatchedToken& token = watch_.tokens[t];
        const bool fixed = token.kind == WatchedToken::Kind::kToken;
        const std::size_t cases = token_index(t, 0, 0), i = token_index(t, lens, row);
        rank.add({name, shape_.layer(row), token.name, count(cases), sums_->ratio(i + 1, cases),
                  tables::cell((*ranks_)[t * num_layers() + layer(lens, row)].median()),
                  sums_->ratio(i + 2, cases), fixed ? tables::Cell(std::int64_t{token.id}) : tables::Cell()});
      }
      for (std::size_t p = 0; p < watch_.pairs.size(); ++p) {
        const std::size_t cases = pair_index(p, 0, 0);
        difference.add({name, shape_.layer(row), watch_.pairs[p].name, count(cases),
                        sums_->ratio(pair_index(p, lens, row) + 1, cases)});
      }
    });
    std::vector<tables::Table> all = {std::move(rank).finish()};
    if (!watch_.pairs.empty()) all.push_back(std::move(difference).finish());
    return all;
  }

 private:
  template <typename Function>
  void for_each_layer(const Function& function) const {
    for (std::int64_t lens = 0; lens < shape_.num_lenses(); ++lens) {
      for (std::int64_t row = 0; row < shape_.num_rows; ++row) function(lens, row);
    }
  }

  std::size_t layer(std::int64_t lens, std::int64_t row) const {
    return static_cast<std::size_t>(lens * shape_.num_rows + row);
  }
  std::size_t num_layers() const { return layer(shape_.num_lenses(), 0); }
  /// Rank and log-probability at a layer stand at the index + 1 and + 2, the number of cases at that of (0,
  /// 0).
  std::size_t token_index(std::size_t token, std::int64_t lens, std::int64_t row) const {
    return token * (1 + 2 * num_layers()) + 2 * layer(lens, row);
  }
  /// The difference stands at the index + 1, the number of cases at that of (0, 0).
  std::size_t pair_index(std::size_t pair, std::int64_t lens, std::int64_t row) const {
    return token_index(watch_.tokens.size(), 0, 0) + pair * (1 + num_layers()) + layer(lens, row);
  }

  tables::State& state_;
  Watch watch_;
  std::uint64_t seed_;
  decode::ReadoutShape shape_;
  tables::BootstrapSums* sums_ = nullptr;
  tables::Histograms* ranks_ = nullptr;  // [tokens, N, R]
};

}  // namespace

bool Watch::has(WatchedToken::Kind kind) const {
  return std::any_of(tokens.begin(), tokens.end(), [&](const WatchedToken& t) { return t.kind == kind; });
}

void Watch::append_to(decode::Query::Position& position, decode::TokenId distractor) const {
  for (const WatchedToken& token : tokens)
    position.watched.push_back(token.kind == WatchedToken::Kind::kDistractor ? distractor : token.id);
}

std::int64_t Watch::index(const decode::Query::Position& position, std::size_t token) const {
  if (tokens[token].kind == WatchedToken::Kind::kTarget) return decode::kWatchedTarget;
  const std::size_t before = position.watched.size() - tokens.size();
  return decode::kFirstWatchedOfQuery + static_cast<std::int64_t>(before + token);
}

std::unique_ptr<Experiment> make_watch(const Context& context) {
  return std::make_unique<Watching>(context);
}

}  // namespace depthlens::experiments
