// The arithmetic of a card's threads, on the processor: any split of a row into parts gives what float64
// gives for the whole.
#include "compute/cuda/row_sums.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "support/catch.hpp"

namespace depthlens {
namespace {

using namespace compute::cuda;

struct Row {
  std::vector<float> z, final_z;
  float final_max;
};

Row draw_row(std::size_t size, float spread, float level, std::mt19937& random) {
  std::normal_distribution<float> normal(0, spread);
  Row row;
  for (std::size_t i = 0; i < size; ++i) {
    row.z.push_back(normal(random) + level);
    row.final_z.push_back(normal(random) - level);
  }
  row.final_max = *std::max_element(row.final_z.begin(), row.final_z.end());
  return row;
}

/// What one thread does with some of the tokens, in their order.
template <typename Number>
struct Part {
  RowSums<Number> sums = no_sums<Number>();
  Number final_sum = 0;

  void take(const Row& row, std::size_t token) {
    const Number z = row.z[token], shifted = Number(row.final_z[token]) - row.final_max;
    const Number e = exponential(shifted);
    if (z > sums.m) raise(sums, z, final_sum);
    add(sums, z, shifted, e);
    final_sum += e;
  }
  void take(const Part<float>& other) {
    merge(sums, final_sum, in_double(other.sums), static_cast<double>(other.final_sum));
    final_sum += other.final_sum;
  }
};

/// S, A, C and D relative to m, straight from their definitions.
RowSums<double> expected(const Row& row, double m) {
  RowSums<double> sums{m, 0, 0, 0, 0};
  for (std::size_t i = 0; i < row.z.size(); ++i) {
    const double shifted = row.z[i] - m, final_shifted = double(row.final_z[i]) - row.final_max;
    sums.sum += std::exp(shifted);
    sums.weighted += std::exp(shifted) * shifted;
    sums.cross += std::exp(final_shifted) * shifted;
    sums.reverse += std::exp(shifted) * final_shifted;
  }
  return sums;
}

void check_near(const RowSums<double>& found, const RowSums<double>& wanted, double tolerance) {
  CHECK(found.m == wanted.m);
  CHECK(std::abs(found.sum - wanted.sum) <= tolerance * wanted.sum);
  CHECK(std::abs(found.weighted - wanted.weighted) <= tolerance * std::abs(wanted.weighted));
  CHECK(std::abs(found.cross - wanted.cross) <= tolerance * std::abs(wanted.cross));
  CHECK(std::abs(found.reverse - wanted.reverse) <= tolerance * std::abs(wanted.reverse));
}

TEST_CASE("sums taken one logit at a time are those of the definitions, in either order", "[cuda-kernels]") {
  std::mt19937 random(1);
  for (const float spread : {0.1F, 3.0F, 25.0F}) {
    Row row = draw_row(500, spread, 40, random);
    for (const bool rising : {true, false}) {
      // Rising logits raise the reference at every step.
      std::sort(row.z.begin(), row.z.end(), [&](float a, float b) { return rising ? a < b : a > b; });
      Part<double> all;
      for (std::size_t i = 0; i < row.z.size(); ++i) all.take(row, i);
      const double m = *std::max_element(row.z.begin(), row.z.end());
      check_near(all.sums, expected(row, m), 1e-12);
    }
  }
}

TEST_CASE("float32 parts of any split, merged in float64, are the sums of the whole", "[cuda-kernels]") {
  std::mt19937 random(2);
  for (const float spread : {0.5F, 4.0F, 15.0F}) {
    for (const std::size_t num_parts : {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{64}}) {
      const Row row = draw_row(3000, spread, -7, random);
      std::vector<std::size_t> owner(row.z.size());
      for (std::size_t& part : owner) part = random() % num_parts;
      Part<double> all;
      for (std::size_t p = 0; p <= num_parts; ++p) {  // the last has no tokens
        Part<float> part;
        for (std::size_t i = 0; i < row.z.size(); ++i) {
          if (owner[i] == p) part.take(row, i);
        }
        all.take(part);
      }
      const double m = *std::max_element(row.z.begin(), row.z.end());
      check_near(all.sums, expected(row, m), 2e-5);
      double final_sum = 0;
      for (const float z : row.final_z) final_sum += std::exp(double(z) - row.final_max);
      CHECK(std::abs(all.final_sum - final_sum) <= 1e-5 * final_sum);
    }
  }
}

TEST_CASE(
    "a reference above all logits is as good as their maximum, and a logit that is not there adds nothing",
    "[cuda-kernels]") {
  std::mt19937 random(3);
  const Row row = draw_row(400, 2, 3, random);
  const double m = *std::max_element(row.z.begin(), row.z.end());
  Part<float> part;
  part.sums.m = static_cast<float>(m) + 5;
  for (std::size_t i = 0; i < row.z.size(); ++i) part.take(row, i);
  add(part.sums, kNoLogit, kNoLogit - row.final_max, exponential(kNoLogit - row.final_max));
  check_near(in_double(part.sums), expected(row, m + 5), 2e-5);

  // A thread that has read nothing else leaves the others' sums as they are.
  Part<float> nothing;
  add(nothing.sums, kNoLogit, kNoLogit - row.final_max, exponential(kNoLogit - row.final_max));
  Part<double> all;
  all.take(part);
  const RowSums<double> before = all.sums;
  all.take(nothing);
  CHECK(all.sums.sum == before.sum);
  CHECK(all.sums.weighted == before.weighted);
  CHECK(all.sums.cross == before.cross);
  CHECK(all.sums.reverse == before.reverse);
}

TEST_CASE("places among candidates are those of a sort by logit, then id", "[cuda-kernels]") {
  std::mt19937 random(4);
  std::vector<float> logits;
  std::vector<int> ids(200), order(200);
  std::iota(ids.begin(), ids.end(), 0);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(ids.begin(), ids.end(), random);
  for (int i = 0; i < 200; ++i) logits.push_back(static_cast<float>(random() % 20) - 10);
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
    return logits[i] != logits[j] ? logits[i] > logits[j] : ids[i] < ids[j];
  });
  for (int place = 0; place < 200; ++place) {
    const auto i = static_cast<std::size_t>(order[static_cast<std::size_t>(place)]);
    CHECK(place_among(logits.data(), ids.data(), 200, logits[i], ids[i]) == place);
  }
}

}  // namespace
}  // namespace depthlens
