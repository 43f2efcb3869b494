// Random products for the reduction kernel (src/compute/cuda/reduce_tile.cu, included before this file), and
// what it must make of them, in float64. For the processor (tests/unit/cuda) and for a card
// (bench/reduce_tile.cu).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace depthlens::test {

struct ReduceCase {
  int num_states, num_positions, vocab_size, tile, num_best, num_groups;
  float spread;              // of the logits
  float levels = 0;          // 0: products of any value; else so many different ones in a spread, for ties
  bool beside_final = true;  // whether the rows are of other layers than the final one
};

/// How far the kernel was off. Differences are relative to 1 or the value, whichever is greater.
struct ReduceErrors {
  double logits = 0, log_sum_exp = 0, entropy = 0, kl_final = 0, kl_reverse = 0, mass = 0;
  int wrong_best = 0, wrong_counts = 0, wrong_logits = 0;
};

/// `Device` has copy(vector) → pointer, fetch(pointer, vector&), launch(TileWork), which starts rows where
/// `first` is 0, and make_logits(TileWork, rows, vector&), which makes of the products of rows the logits
/// that the kernel takes.
template <typename Device>
class ReduceTrial {
 public:
  using RowState = compute::cuda::RowState;
  using TileWork = compute::cuda::TileWork;
  static constexpr int kW = compute::cuda::kWatched;
  static constexpr float kScale = 0.75F, kCap = 12;

  ReduceTrial(Device& device, const ReduceCase& shape, unsigned seed)
      : device_(device), shape_(shape), random_(seed) {
    stride_ = (shape.vocab_size + 3) / 4 * 4 + 4;
    for (int v = 0; v < stride_; ++v) bias_.push_back(static_cast<float>(random_() % 64) / 64);
    products_ = draw(rows());
    final_z_ = draw(positions());
    TileWork work = new_work();
    work.width = shape.vocab_size;
    z_ = products_;
    device.make_logits(work, static_cast<int>(rows()), z_);
    for (std::size_t p = 0; p < positions(); ++p)
      final_max_.push_back(*std::max_element(final_row(p), final_row(p) + shape.vocab_size));
    const auto vocab = static_cast<unsigned>(shape.vocab_size);
    for (std::size_t i = 0; i < positions() * kW; ++i)
      watched_.push_back(random_() % 7 == 0 ? -1 : static_cast<int>(random_() % vocab));
    for (std::size_t r = 0; r < rows(); ++r) {
      for (std::size_t w = 0; w < kW; ++w) {
        const int id = watched_[r % positions() * kW + w];
        // Products of their own differ in the last bit.
        const float away = random_() % 2 == 0 ? 1e9F : -1e9F;
        bars_.push_back(id < 0 ? 0 : std::nextafter(row(r)[id], away));
      }
    }
    group_of_.assign(vocab, -1);
    for (int& group : group_of_) {
      if (shape.num_groups > 0 && random_() % 5 == 0)
        group = static_cast<int>(random_() % static_cast<unsigned>(shape.num_groups));
    }
  }

  ReduceErrors run() {
    const int num_tiles = (shape_.vocab_size + shape_.tile - 1) / shape_.tile;
    std::vector<int> begin, tokens;  // of groups, tile by tile
    for (int t = 0; t < num_tiles; ++t) {
      for (int g = 0; g <= shape_.num_groups; ++g) {
        begin.push_back(static_cast<int>(tokens.size()));
        for (int v = t * shape_.tile; v < std::min(shape_.vocab_size, (t + 1) * shape_.tile); ++v) {
          if (g < shape_.num_groups && group_of_[static_cast<std::size_t>(v)] == g) tokens.push_back(v);
        }
      }
    }
    // What the kernel writes is poisoned.
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const auto K = static_cast<std::size_t>(shape_.num_best), G = static_cast<std::size_t>(shape_.num_groups);
    states_.assign(rows(), {nan, nan, nan, nan, nan, nan});
    best_.assign(rows() * K, nan);
    ids_.assign(rows() * K, -7);
    found_.assign(rows(), 99);
    greater_.assign(rows() * kW, 1 << 20);
    mass_.assign(rows() * G, nan);
    watched_logits_ = bars_;

    TileWork work = new_work();
    Device& device = device_;
    const float* const products = work.products;
    const float* const final_z = device.copy(final_z_);
    const int* const group_begin = device.copy(begin);
    work.final_stride = stride_;
    work.final_max = device.copy(final_max_);
    work.num_best = shape_.num_best;
    work.num_groups = shape_.num_groups;
    work.states = device.copy(states_);
    work.best_logits = device.copy(best_);
    work.best_ids = device.copy(ids_);
    work.num_found = device.copy(found_);
    work.watched = device.copy(watched_);
    work.watched_logits = device.copy(watched_logits_);
    work.num_greater = device.copy(greater_);
    work.group_tokens = device.copy(tokens);
    work.group_mass = device.copy(mass_);
    for (int t = 0; t < num_tiles; ++t) {
      work.first = t * shape_.tile;
      work.width = std::min(shape_.tile, shape_.vocab_size - work.first);
      work.products = products + work.first;
      work.final_logits = shape_.beside_final ? final_z + work.first : nullptr;
      work.group_begin = group_begin + t * (shape_.num_groups + 1);
      device.launch(work);
    }
    device.fetch(work.states, states_);
    device.fetch(work.best_logits, best_);
    device.fetch(work.best_ids, ids_);
    device.fetch(work.num_found, found_);
    device.fetch(work.watched_logits, watched_logits_);
    device.fetch(work.num_greater, greater_);
    device.fetch(work.group_mass, mass_);

    ReduceErrors errors;
    for (std::size_t r = 0; r < rows(); ++r) {
      compare_logits(r, errors);
      compare_sums(r, errors);
      compare_best(r, errors);
      compare_watched(r, errors);
    }
    return errors;
  }

 private:
  std::size_t positions() const { return static_cast<std::size_t>(shape_.num_positions); }
  std::size_t rows() const { return static_cast<std::size_t>(shape_.num_states) * positions(); }
  const float* row(std::size_t r) const { return z_.data() + r * static_cast<std::size_t>(stride_); }
  const float* final_row(std::size_t p) const {
    return final_z_.data() + p * static_cast<std::size_t>(stride_);
  }

  /// Of products and bias, on the device.
  TileWork new_work() {
    TileWork work{};
    work.products = device_.copy(products_);
    work.stride = stride_;
    work.num_states = shape_.num_states;
    work.num_positions = shape_.num_positions;
    work.bias = device_.copy(bias_);
    work.scale = DEPTHLENS_TRANSFORM == 2 ? kScale / kCap : kScale;
    work.cap = kCap;
    return work;
  }

  /// Rows of numbers, each around a level of its own. What lies beyond the vocabulary must not be taken for a
  /// logit.
  std::vector<float> draw(std::size_t count) {
    std::normal_distribution<float> normal(0, shape_.spread);
    std::vector<float> drawn(count * static_cast<std::size_t>(stride_), 777.0F);
    for (std::size_t r = 0; r < count; ++r) {
      const float level = 3 * normal(random_);
      for (int v = 0; v < shape_.vocab_size; ++v) {
        float value = normal(random_) + level;
        if (shape_.levels > 0) {
          const float step = shape_.spread / shape_.levels;
          value = std::round(value / step) * step;
        }
        drawn[r * static_cast<std::size_t>(stride_) + static_cast<std::size_t>(v)] = value;
      }
    }
    return drawn;
  }

  /// NaN counts as infinitely far.
  static void keep_greater(double& worst, double found, double expected) {
    const double gap = std::abs(found - expected) / std::max(1.0, std::abs(expected));
    worst = gap <= worst ? worst : std::isnan(gap) ? std::numeric_limits<double>::infinity() : gap;
  }

  /// With what the kernel was compiled to make of products.
  void compare_logits(std::size_t r, ReduceErrors& errors) const {
    for (std::size_t v = 0; v < static_cast<std::size_t>(shape_.vocab_size); ++v) {
      double z = products_[r * static_cast<std::size_t>(stride_) + v];
      if (DEPTHLENS_BIAS == 1) z += bias_[v];
      if (DEPTHLENS_TRANSFORM >= 1) z *= kScale;
      if (DEPTHLENS_TRANSFORM == 2) z = kCap * std::tanh(z / kCap);
      keep_greater(errors.logits, row(r)[v], z);
    }
  }

  void compare_sums(std::size_t r, ReduceErrors& errors) const {
    const auto V = static_cast<std::size_t>(shape_.vocab_size);
    const auto G = static_cast<std::size_t>(shape_.num_groups);
    const auto log_sum_exp = [&](const float* z) {
      const double m = *std::max_element(z, z + V);
      double sum = 0;
      for (std::size_t v = 0; v < V; ++v) sum += std::exp(z[v] - m);
      return m + std::log(sum);
    };
    const float *const z = row(r), *const zf = final_row(r % positions());
    const double log_sum = log_sum_exp(z), final_log_sum = log_sum_exp(zf);
    double mean = 0, final_mean = 0, kl_final = 0, kl_reverse = 0;
    std::vector<double> mass(G, 0);
    for (std::size_t v = 0; v < V; ++v) {
      const double log_p = z[v] - log_sum, log_final = zf[v] - final_log_sum;
      const double p = std::exp(log_p), final_p = std::exp(log_final);
      mean += p * log_p;
      final_mean += final_p * log_final;
      kl_final += final_p * (log_final - log_p);
      kl_reverse += p * (log_p - log_final);
      if (group_of_[v] >= 0) mass[static_cast<std::size_t>(group_of_[v])] += p;
    }
    const RowState& state = states_[r];
    const double found_log = std::log(state.sum), found_mean = state.weighted / state.sum - found_log;
    keep_greater(errors.log_sum_exp, state.m + found_log, log_sum);
    keep_greater(errors.entropy, found_mean, mean);
    if (shape_.beside_final) {
      keep_greater(errors.kl_final, final_mean - (state.cross / state.final_sum - found_log), kl_final);
      const double shift = final_log_sum - final_max_[r % positions()];
      keep_greater(errors.kl_reverse, found_mean - (state.reverse / state.sum - shift), kl_reverse);
    } else {
      keep_greater(errors.kl_final, state.cross, 0);
      keep_greater(errors.kl_reverse, state.reverse, 0);
    }
    for (std::size_t g = 0; g < G; ++g) keep_greater(errors.mass, mass_[r * G + g] / state.sum, mass[g]);
  }

  void compare_best(std::size_t r, ReduceErrors& errors) const {
    const float* const z = row(r);
    std::vector<int> order(static_cast<std::size_t>(shape_.vocab_size));
    std::iota(order.begin(), order.end(), 0);
    const int kept = std::min(shape_.num_best, shape_.vocab_size);
    std::partial_sort(order.begin(), order.begin() + kept, order.end(),
                      [&](int i, int j) { return z[i] > z[j] || (z[i] == z[j] && i < j); });
    bool right = found_[r] == kept;
    for (int k = 0; k < kept; ++k) {
      const std::size_t place = r * static_cast<std::size_t>(shape_.num_best) + static_cast<std::size_t>(k);
      const int id = order[static_cast<std::size_t>(k)];
      right = right && ids_[place] == id && best_[place] == z[id];
    }
    errors.wrong_best += right ? 0 : 1;
  }

  void compare_watched(std::size_t r, ReduceErrors& errors) const {
    const float* const z = row(r);
    for (std::size_t w = 0; w < kW; ++w) {
      const int id = watched_[r % positions() * kW + w];
      if (id < 0) continue;
      // In its own tile and before, others are compared with the product of its own, after it with the
      // tile's.
      const int after = (id / shape_.tile + 1) * shape_.tile;
      int count = 0;
      for (int v = 0; v < shape_.vocab_size; ++v)
        count += v != id && z[v] > (v >= after ? z[id] : bars_[r * kW + w]) ? 1 : 0;
      errors.wrong_counts += count == greater_[r * kW + w] ? 0 : 1;
      errors.wrong_logits += watched_logits_[r * kW + w] == z[id] ? 0 : 1;
    }
  }

  Device& device_;
  ReduceCase shape_;
  std::mt19937 random_;
  int stride_;
  std::vector<float> bias_, products_, z_, final_z_, final_max_, bars_;
  std::vector<int> watched_, group_of_;

  std::vector<RowState> states_;
  std::vector<float> best_, watched_logits_;
  std::vector<int> ids_, found_, greater_;
  std::vector<double> mass_;
};

}  // namespace depthlens::test
