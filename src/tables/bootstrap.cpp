// The Poisson bootstrap.
#include "depthlens/tables/bootstrap.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <memory>
#include <tuple>
#include <utility>

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

constexpr std::size_t kWeights = std::tuple_size_v<decltype(poisson_steps())> + 1;
constexpr std::size_t kGroup = 16;   // items added at once: their multiples stay in the nearest cache
constexpr std::size_t kBatch = 256;  // items whose weights are kept

/// An item's weights, and the greatest of them.
struct Weights {
  std::array<std::uint8_t, kReplicates> of;
  std::uint8_t most;
};

/// An item's part of eight sums. The words are aligned to 64 bytes.
struct Addend {
  const Weights* weights;
  const std::uint64_t *whole, *fraction;
};

/// Two items' multiples of eight sums, i times the one and j times the other for all weights i and j that
/// occur: a replicate takes both by one addition.
struct Pair {
  struct Multiple {
    alignas(64) std::array<std::uint64_t, 8> whole;
    alignas(64) std::array<std::uint64_t, 8> fraction;
  };
  std::array<Multiple, kWeights * kWeights> multiples;
  std::array<std::uint8_t, kReplicates> index;  // by replicate: the multiple it takes
};
using Pairs = std::array<Pair, kGroup / 2>;

/// Adds items, an even number of at most kGroup, to the replicates of eight sums, as wide as the processor
/// can.
#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
void add_weighted(void* whole, void* fraction, std::span<const Addend> items, Pairs& pairs) {
  // In halves: the compiler does badly with vectors that are wider than the processor's.
  using Half __attribute__((vector_size(32), may_alias)) = std::uint64_t;
  using SignedHalf __attribute__((vector_size(32), may_alias)) = std::int64_t;
  // Processors compare signed numbers only: with the top bit turned over they are ordered as without, and a
  // sum with one such number keeps it turned over. A comparison that holds is −1.
  constexpr std::uint64_t kTop = std::uint64_t{1} << 63;
  const auto halves = [](const std::uint64_t* words) { return reinterpret_cast<const Half*>(words); };

  for (std::size_t p = 0; 2 * p < items.size(); ++p) {
    Pair& pair = pairs[p];
    const Addend &a = items[2 * p], &b = items[2 * p + 1];
    const auto stride = static_cast<std::uint8_t>(b.weights->most + 1);
    for (std::size_t r = 0; r < pair.index.size(); ++r)
      pair.index[r] = static_cast<std::uint8_t>(a.weights->of[r] * stride + b.weights->of[r]);
    pair.multiples[0] = {};
    const std::size_t count = (std::size_t{a.weights->most} + 1) * stride;
    for (std::size_t m = 1; m < count; ++m) {
      const bool is_a = m % stride == 0;  // one more of a, none of b
      const Pair::Multiple& before = pair.multiples[is_a ? m - stride : m - 1];
      const Addend& more = is_a ? a : b;
      for (std::size_t h = 0; h < 2; ++h) {
        const Half low = halves(before.fraction.data())[h] ^ kTop;
        const Half sum = low + halves(more.fraction)[h];
        const Half high = halves(before.whole.data())[h] + halves(more.whole)[h];
        reinterpret_cast<Half*>(pair.multiples[m].fraction.data())[h] = sum ^ kTop;
        reinterpret_cast<Half*>(pair.multiples[m].whole.data())[h] =
            high - (Half)((SignedHalf)low > (SignedHalf)sum);
      }
    }
  }

  auto* wholes = static_cast<Half*>(whole);
  auto* fractions = static_cast<Half*>(fraction);
  for (std::size_t r = 0; r < static_cast<std::size_t>(kReplicates); ++r) {
    Half low_0 = fractions[2 * r] ^ kTop, low_1 = fractions[2 * r + 1] ^ kTop;
    Half high_0 = wholes[2 * r], high_1 = wholes[2 * r + 1];
    for (std::size_t p = 0; 2 * p < items.size(); ++p) {
      const Pair::Multiple& multiple = pairs[p].multiples[pairs[p].index[r]];
      const Half before_0 = low_0, before_1 = low_1;
      low_0 += halves(multiple.fraction.data())[0];
      low_1 += halves(multiple.fraction.data())[1];
      high_0 += halves(multiple.whole.data())[0] - (Half)((SignedHalf)before_0 > (SignedHalf)low_0);
      high_1 += halves(multiple.whole.data())[1] - (Half)((SignedHalf)before_1 > (SignedHalf)low_1);
    }
    fractions[2 * r] = low_0 ^ kTop;
    fractions[2 * r + 1] = low_1 ^ kTop;
    wholes[2 * r] = high_0;
    wholes[2 * r + 1] = high_1;
  }
}

/// Adds in 128 bits.
void add_fixed(std::uint64_t& whole, std::uint64_t& fraction, std::uint64_t more_whole,
               std::uint64_t more_fraction) {
  fraction += more_fraction;
  whole += more_whole + (fraction < more_fraction ? 1 : 0);
}

/// Adds eight sums, of words [n] to words [m].
template <typename Words>
void add_eight(Words& sums, std::size_t m, const Words& more, std::size_t n) {
  for (std::size_t i = 0; i < 8; ++i)
    add_fixed(sums.whole[m].of[i], sums.fraction[m].of[i], more.whole[n].of[i], more.fraction[n].of[i]);
}

bool is_zero(const std::array<std::uint64_t, 8>& values) {
  std::uint64_t any = 0;
  for (const std::uint64_t value : values) any |= value;
  return any == 0;
}

double as_double(std::uint64_t whole, std::uint64_t fraction) {
  return to_double({static_cast<std::int64_t>(whole), fraction});
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

void BootstrapSums::Total::merge(const Total& other) {
  add_fixed(whole, fraction, other.whole, other.fraction);
  broken = broken || other.broken;
  if (other.items > 0) note(other.first, other.items);
}

void BootstrapSums::Total::note(std::uint64_t lowest, std::uint8_t count) {
  if (items == 0) {
    first = lowest;
    items = count;
  } else if (first == lowest) {
    items = std::max(items, count);
  } else {
    first = std::min(first, lowest);
    items = 2;
  }
}

BootstrapSums::BootstrapSums(std::size_t num_sums, std::uint64_t seed)
    : num_sums_(num_sums),
      eights_((num_sums + 7) / 8),
      seed_(seed),
      case_(num_sums),
      pending_totals_(num_sums),
      totals_(num_sums) {}

std::span<double> BootstrapSums::of(std::uint64_t item) {
  take_case();
  case_item_ = item;
  return case_;
}

/// Rounds the case that was filled in and adds it to the row of its item.
void BootstrapSums::take_case() {
  if (!case_item_) return;
  bool has_row = !pending_.items.empty() && pending_.items.back() == *case_item_;
  for (std::size_t i = 0; i < num_sums_; ++i) {
    if (case_[i] == 0) continue;
    const double value = std::exchange(case_[i], 0);
    if (!fits_fixed_point(value)) {
      pending_totals_[i].broken = true;
      continue;
    }
    const FixedPoint fixed = to_fixed_point(value);
    if (fixed == FixedPoint{}) continue;
    if (!has_row) {
      pending_.items.push_back(*case_item_);
      pending_.whole.resize(pending_.items.size() * eights_);
      pending_.fraction.resize(pending_.whole.size());
      has_row = true;
    }
    const std::size_t at = (pending_.items.size() - 1) * eights_ + i / 8;
    const auto whole = static_cast<std::uint64_t>(fixed.whole);
    add_fixed(pending_.whole[at].of[i % 8], pending_.fraction[at].of[i % 8], whole, fixed.fraction);
    add_fixed(pending_totals_[i].whole, pending_totals_[i].fraction, whole, fixed.fraction);
    pending_totals_[i].note(*case_item_, 1);
  }
  case_item_.reset();
}

/// Adds rows of items, some of which may be of one item.
void BootstrapSums::add(const Rows& rows) {
  if (rows.items.empty()) return;
  if (!replicates_.whole.empty()) {
    apply(rows, replicates_);
    return;
  }
  std::vector<std::uint64_t> items = kept_.items;
  items.insert(items.end(), rows.items.begin(), rows.items.end());
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  if (items.size() > kKeptItems) {
    replicates_ = no_replicates();
    apply(kept_, replicates_);
    apply(rows, replicates_);
    kept_ = {};
    return;
  }
  Rows all;
  all.items = std::move(items);
  all.whole.resize(all.items.size() * eights_);
  all.fraction.resize(all.whole.size());
  for (const Rows* some : {&std::as_const(kept_), &rows}) {
    for (std::size_t row = 0; row < some->items.size(); ++row) {
      const auto place = std::lower_bound(all.items.begin(), all.items.end(), some->items[row]);
      const auto to = static_cast<std::size_t>(place - all.items.begin());
      for (std::size_t e = 0; e < eights_; ++e) add_eight(all, to * eights_ + e, *some, row * eights_ + e);
    }
  }
  set_kept(std::move(all));
}

void BootstrapSums::set_kept(Rows rows) {
  static std::atomic<std::uint64_t> versions = 0;
  kept_ = std::move(rows);
  kept_version_ = ++versions;
}

BootstrapSums::Words BootstrapSums::no_replicates() const {
  Words none;
  none.whole.resize(eights_ * static_cast<std::size_t>(kReplicates));
  none.fraction.resize(none.whole.size());
  return none;
}

/// Those of kept rows are made when they are asked for, and each thread keeps the last ones.
const BootstrapSums::Words& BootstrapSums::replicates() const {
  if (!replicates_.whole.empty()) return replicates_;
  struct Made {
    std::uint64_t version = 0;
    Words words;
  };
  static thread_local Made last;
  if (last.version != kept_version_) {
    last = {};
    Words made = no_replicates();
    apply(kept_, made);
    last = {kept_version_, std::move(made)};
  }
  return last.words;
}

void BootstrapSums::apply(const Rows& rows, Words& replicates) const {
  for (std::size_t first = 0; first < rows.items.size(); first += kBatch) {
    const std::size_t num_rows = std::min(kBatch, rows.items.size() - first);
    std::vector<Weights> weights;
    for (std::size_t row = 0; row < num_rows; ++row) {
      weights.push_back({.of = weights_of(seed_, rows.items[first + row]), .most = 0});
      weights.back().most = *std::max_element(weights.back().of.begin(), weights.back().of.end());
    }
    const Weights no_weights = {};
    const Eight zero = {};
    const auto pairs = std::make_unique<Pairs>();
    std::vector<Addend> group;
    for (std::size_t e = 0; e < eights_; ++e) {
      const std::size_t to = e * static_cast<std::size_t>(kReplicates);
      for (std::size_t row = 0; row < num_rows; ++row) {
        const std::size_t at = (first + row) * eights_ + e;
        const auto &whole = rows.whole[at].of, &fraction = rows.fraction[at].of;
        // Items of few positions have few counts: often all eight are 0.
        if (!is_zero(whole) || !is_zero(fraction))
          group.push_back({&weights[row], whole.data(), fraction.data()});
        if (group.empty() || (group.size() < kGroup && row + 1 < num_rows)) continue;
        if (group.size() % 2 == 1) group.push_back({&no_weights, zero.of.data(), zero.of.data()});
        add_weighted(replicates.whole.data() + to, replicates.fraction.data() + to, group, *pairs);
        group.clear();
      }
    }
  }
}

void BootstrapSums::commit() {
  take_case();
  add(pending_);
  for (std::size_t i = 0; i < num_sums_; ++i) totals_[i].merge(pending_totals_[i]);
  drop_pending();
}

void BootstrapSums::drop_pending() {
  if (case_item_) std::fill(case_.begin(), case_.end(), 0.0);
  case_item_.reset();
  pending_.items.clear();
  pending_.whole.clear();
  pending_.fraction.clear();
  std::fill(pending_totals_.begin(), pending_totals_.end(), Total{});
}

void BootstrapSums::merge(const BootstrapSums& other) {
  DEPTHLENS_ASSERT(num_sums_ == other.num_sums_ && seed_ == other.seed_);
  for (std::size_t i = 0; i < num_sums_; ++i) totals_[i].merge(other.totals_[i]);
  add(other.kept_);
  if (other.replicates_.whole.empty()) return;
  if (replicates_.whole.empty()) {
    replicates_ = no_replicates();
    apply(std::exchange(kept_, {}), replicates_);
  }
  for (std::size_t at = 0; at < replicates_.whole.size(); ++at)
    add_eight(replicates_, at, other.replicates_, at);
}

double BootstrapSums::sum(std::size_t i) const {
  const Total& total = totals_[i];
  return total.broken ? std::nan("") : as_double(total.whole, total.fraction);
}

Estimate BootstrapSums::ratio(std::size_t i, std::size_t j) const {
  Estimate result;
  if (totals_[i].broken || totals_[j].broken || sum(j) == 0) return result;
  result.value = sum(i) / sum(j);
  if (totals_[j].items < 2) return result;
  const Words& words = replicates();
  const auto replicate = [&](std::size_t r, std::size_t k) {
    const std::size_t at = k / 8 * static_cast<std::size_t>(kReplicates) + r;
    return as_double(words.whole[at].of[k % 8], words.fraction[at].of[k % 8]);
  };
  for (std::size_t r = 0; r < static_cast<std::size_t>(kReplicates); ++r) {
    const double divisor = replicate(r, j);
    result.replicates.push_back(divisor == 0 ? std::nan("") : replicate(r, i) / divisor);
  }
  result.interval = percentile_interval(result.replicates);
  return result;
}

void BootstrapMeans::add(std::uint64_t item, std::span<const double> values, std::int64_t cases) {
  DEPTHLENS_ASSERT(values.size() + 1 == sums_->size());
  const std::span<double> all = sums_->of(item);
  std::copy(values.begin(), values.end(), all.begin());
  all[values.size()] = static_cast<double>(cases);
}

}  // namespace depthlens::tables
