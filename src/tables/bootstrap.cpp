// The Poisson bootstrap.
#include "depthlens/tables/bootstrap.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "depthlens/util/error.hpp"

namespace depthlens::tables {
namespace {

/// SplitMix64 (Steele, Lea and Flood 2014): state to next random number.
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9E3779B97F4A7C15ULL);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

/// The cumulated probabilities of Poisson(1) for 0, 1, 2 …, as 32-bit fractions; beyond the last one there is
/// less than 2⁻³².
std::array<std::uint32_t, 12> poisson_steps() {
  std::array<std::uint32_t, 12> steps;
  double probability = std::exp(-1.0), sum = 0;
  for (std::size_t k = 0; k < steps.size(); ++k) {
    sum += probability;
    probability /= static_cast<double>(k + 1);
    steps[k] = static_cast<std::uint32_t>(std::min(sum * 0x1p32, 0x1p32 - 1));
  }
  return steps;
}

std::array<std::uint8_t, kReplicates> weights_of(std::uint64_t seed, std::uint64_t item) {
  static const std::array<std::uint32_t, 12> steps = poisson_steps();
  std::uint64_t state = seed;
  state = next_random(state) ^ item;  // neighbouring seeds and items must not give shifted sequences
  state = next_random(state);
  std::array<std::uint32_t, kReplicates> fractions;
  for (std::size_t b = 0; b < fractions.size(); b += 2) {
    const std::uint64_t random = next_random(state);
    fractions[b] = static_cast<std::uint32_t>(random);
    fractions[b + 1] = static_cast<std::uint32_t>(random >> 32);
  }
  // The steps rise: how many a fraction has reached is its weight. Without a branch that cannot be foreseen.
  std::array<std::uint32_t, kReplicates> reached = {};
  for (const std::uint32_t step : steps) {
    for (std::size_t b = 0; b < fractions.size(); ++b) reached[b] += fractions[b] >= step ? 1 : 0;
  }
  std::array<std::uint8_t, kReplicates> weights;
  for (std::size_t b = 0; b < weights.size(); ++b) weights[b] = static_cast<std::uint8_t>(reached[b]);
  return weights;
}

/// Four at a time where the processor can; not fused, so that all processors give the same bits.
#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
void add_weighted(double* __restrict to, const double* __restrict from, double weight, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to[i] += weight * from[i];
}

/// The value at place `at` of the sorted values, between neighbours as far as `at` is. Reorders them.
double order_statistic(std::vector<double>& values, double at) {
  const auto below = static_cast<std::size_t>(at);
  const auto place = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), place, values.end());
  const double lower = *place;
  if (place + 1 == values.end()) return lower;
  const double upper = *std::min_element(place + 1, values.end());
  return lower + (upper - lower) * (at - static_cast<double>(below));
}

constexpr std::size_t kMaxWaiting = 32;  // items: their sums stay in the cache

}  // namespace

Interval percentile_interval(std::span<const double> replicates) {
  std::vector<double> values;
  for (const double value : replicates) {
    if (!std::isnan(value)) values.push_back(value);
  }
  if (values.empty()) return {};
  const double last = static_cast<double>(values.size() - 1);
  return {order_statistic(values, 0.025 * last), order_statistic(values, 0.975 * last)};
}

Estimate difference(const Estimate& a, const Estimate& b) {
  Estimate result;
  if (a.value && b.value) result.value = *a.value - *b.value;
  if (!result.value || a.replicates.empty() || b.replicates.empty()) return result;
  for (std::size_t r = 0; r < a.replicates.size(); ++r)
    result.replicates.push_back(a.replicates[r] - b.replicates[r]);
  result.interval = percentile_interval(result.replicates);
  return result;
}

BootstrapSums::BootstrapSums(std::size_t num_sums, std::uint64_t seed)
    : num_sums_(num_sums),
      seed_(seed),
      sums_(num_sums),
      first_(num_sums),
      items_(num_sums),
      replicates_(num_sums * static_cast<std::size_t>(kReplicates)) {}

std::span<double> BootstrapSums::of(std::uint64_t item) {
  if (waiting_.empty() || waiting_.back() != item) {
    if (waiting_.size() == kMaxWaiting) apply();
    waiting_.push_back(item);
    pending_.resize(waiting_.size() * num_sums_);
  }
  return row(waiting_.size() - 1);
}

/// Adds the items that wait to the sums, in their order: the result does not depend on when this is called.
void BootstrapSums::apply() const {
  std::vector<std::array<std::uint8_t, kReplicates>> weights;
  std::vector<std::vector<std::uint32_t>> places(waiting_.size());  // of the sums that are not 0
  for (std::size_t w = 0; w < waiting_.size(); ++w) {
    weights.push_back(weights_of(seed_, waiting_[w]));
    for (std::size_t i = 0; i < num_sums_; ++i) {
      if (pending_[w * num_sums_ + i] == 0) continue;
      places[w].push_back(static_cast<std::uint32_t>(i));
      if (items_[i] == 0) first_[i] = waiting_[w];
      if (items_[i] < 2) items_[i] = first_[i] == waiting_[w] ? 1 : 2;
    }
  }
  for (std::size_t r = 0; r < static_cast<std::size_t>(kReplicates); ++r) {
    double* replicate = replicates_.data() + r * num_sums_;
    for (std::size_t w = 0; w < waiting_.size(); ++w) {
      if (weights[w][r] == 0) continue;
      const auto weight = static_cast<double>(weights[w][r]);
      const double* sums = pending_.data() + w * num_sums_;
      // Items of few positions have few counts: most sums are 0. A loop over all is quicker for many.
      constexpr std::size_t kDense = 4;
      if (places[w].size() * kDense < num_sums_) {
        for (const std::uint32_t i : places[w]) replicate[i] += weight * sums[i];
      } else {
        add_weighted(replicate, sums, weight, num_sums_);
      }
    }
  }
  for (std::size_t w = 0; w < waiting_.size(); ++w) {
    for (std::size_t i = 0; i < num_sums_; ++i) sums_[i].add(pending_[w * num_sums_ + i]);
  }
  waiting_.clear();
  pending_.clear();
}

double BootstrapSums::sum(std::size_t i) const {
  apply();
  return sums_[i].sum();
}

Estimate BootstrapSums::ratio(std::size_t i, std::size_t j) const {
  apply();
  Estimate result;
  if (sums_[j].sum() == 0) return result;
  result.value = sums_[i].sum() / sums_[j].sum();
  if (items_[j] < 2) return result;
  for (std::size_t r = 0; r < static_cast<std::size_t>(kReplicates); ++r) {
    const double* replicate = replicates_.data() + r * num_sums_;
    result.replicates.push_back(replicate[j] == 0 ? std::nan("") : replicate[i] / replicate[j]);
  }
  result.interval = percentile_interval(result.replicates);
  return result;
}

void BootstrapMeans::add(std::uint64_t item, std::span<const double> sums, std::int64_t cases) {
  DEPTHLENS_ASSERT(sums.size() == num_means_);
  const std::span<double> all = sums_.of(item);
  for (std::size_t i = 0; i < num_means_; ++i) all[i] += sums[i];
  all[num_means_] += static_cast<double>(cases);
}

}  // namespace depthlens::tables
