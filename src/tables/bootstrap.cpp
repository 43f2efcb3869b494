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

std::array<std::uint8_t, BootstrapMeans::kReplicates> weights_of(std::uint64_t seed, std::uint64_t item) {
  static const std::array<std::uint32_t, 12> steps = poisson_steps();
  std::array<std::uint8_t, BootstrapMeans::kReplicates> weights;
  std::uint64_t state = seed;
  state = next_random(state) ^ item;  // neighbouring seeds and items must not give shifted sequences
  state = next_random(state);
  std::uint64_t random = 0;
  for (std::size_t b = 0; b < weights.size(); ++b) {
    random = b % 2 == 0 ? next_random(state) : random >> 32;
    const auto fraction = static_cast<std::uint32_t>(random);
    std::uint8_t weight = 0;
    while (weight < steps.size() && fraction >= steps[weight]) ++weight;
    weights[b] = weight;
  }
  return weights;
}

/// Of sorted values, between neighbours as far as the position is.
double quantile(const std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - static_cast<double>(below));
}

}  // namespace

BootstrapMeans::BootstrapMeans(std::size_t num_means, std::uint64_t seed)
    : seed_(seed),
      sums_(num_means),
      replicate_sums_(num_means * kReplicates),
      replicate_cases_(kReplicates) {}

void BootstrapMeans::add(std::uint64_t item, std::span<const double> sums, std::int64_t cases) {
  DEPTHLENS_ASSERT(sums.size() == sums_.size());
  several_items_ = several_items_ || (cases_ > 0 && item != last_item_);
  last_item_ = item;
  cases_ += cases;
  for (std::size_t i = 0; i < sums.size(); ++i) sums_[i].add(sums[i]);
  const auto weights = weights_of(seed_, item);
  for (std::size_t b = 0; b < weights.size(); ++b) {
    if (weights[b] == 0) continue;
    const auto weight = static_cast<double>(weights[b]);
    replicate_cases_[b] += weight * static_cast<double>(cases);
    double* row = replicate_sums_.data() + b * sums.size();
    for (std::size_t i = 0; i < sums.size(); ++i) row[i] += weight * sums[i];
  }
}

std::optional<double> BootstrapMeans::mean(std::size_t i) const {
  if (cases_ == 0) return std::nullopt;
  return sums_[i].sum() / static_cast<double>(cases_);
}

BootstrapMeans::Interval BootstrapMeans::interval(std::size_t i) const {
  if (!several_items_) return {};
  std::vector<double> means;
  for (std::size_t b = 0; b < replicate_cases_.size(); ++b) {
    if (replicate_cases_[b] > 0) means.push_back(replicate_sums_[b * sums_.size() + i] / replicate_cases_[b]);
  }
  std::sort(means.begin(), means.end());
  if (means.empty()) return {};
  return {quantile(means, 0.025), quantile(means, 0.975)};
}

std::vector<Cell> cells_with_interval(const BootstrapMeans& means, std::size_t i) {
  const BootstrapMeans::Interval interval = means.interval(i);
  return {cell(means.mean(i)), cell(interval.low), cell(interval.high)};
}

}  // namespace depthlens::tables
