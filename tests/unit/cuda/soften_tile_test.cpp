// The kernel of the softmax for cards, run on the processor, against float64: the layout of threads, the ends
// of tiles, rows with and without coefficients, and their terms.
#include "support/cuda_on_processor.hpp"

// The kernel converts as CUDA code does.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include "compute/cuda/soften_tile.cu"
#pragma GCC diagnostic pop

#include <cstdlib>
#include <limits>
#include <new>
#include <random>
#include <vector>

#include "support/catch.hpp"

namespace depthlens {
namespace {

using namespace compute::cuda;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Numbers that begin where a card's allocations do.
template <typename T>
class Aligned {
 public:
  Aligned(std::size_t count, T value) : count_(count) {
    values_ = static_cast<T*>(::operator new (count * sizeof(T) + 1, std::align_val_t{16}));
    std::fill_n(values_, count, value);
  }
  ~Aligned() { ::operator delete (values_, std::align_val_t{16}); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  T* data() { return values_; }
  T& operator[](std::size_t i) { return values_[i]; }

 private:
  std::size_t count_;
  T* values_;
};

struct SoftenCase {
  int rows, gradients, vocab, tile;
  int terms = 1;
  float spread = 3;
  float levels = 0;  // 0: logits of any value; else so many different ones in a spread, for ties
  float scale = 1, cap = 0;
  bool token_scale = false;
  int expected = 5;
};

float number_of(unsigned short bits) {
  return number_of_bits(static_cast<unsigned>(bits) << 16);
}

std::size_t sized(long long n) {
  return static_cast<std::size_t>(n);
}

/// A tile's logits in rows of their own, which end where a kernel may not read on.
class Trial {
 public:
  explicit Trial(const SoftenCase& shape)
      : shape_(shape),
        m_(sized(shape.rows), -kInfinity),
        sum_(sized(shape.rows), 0),
        top_(sized(shape.rows), -7),
        expected_(sized(shape.gradients) * sized(shape.expected), kNaN) {}

  /// Hands the rows' tiles over one after the other and holds what comes out against float64.
  void run(const std::vector<std::vector<float>>& z, const std::vector<float>& token_scale) {
    for (int first = 0; first < shape_.vocab; first += shape_.tile)
      take_tile(z, token_scale, first, std::min(shape_.tile, shape_.vocab - first));
    for (std::size_t r = 0; r < z.size(); ++r) {
      INFO("row " << r);
      const auto greatest = std::max_element(z[r].begin(), z[r].end());
      CHECK(m_[r] == *greatest);
      CHECK(top_[r] == greatest - z[r].begin());
      double sum = 0;
      for (const float logit : z[r]) sum += std::exp(static_cast<double>(logit) - *greatest);
      CHECK(std::abs(sum_[r] / sum - 1) < 1e-6);
    }
  }

 private:
  void take_tile(const std::vector<std::vector<float>>& z, const std::vector<float>& token_scale, int first,
                 int width) {
    const int stride = (width + 3) / 4 * 4;
    Aligned<float> logits(sized(shape_.rows) * sized(stride), 777);
    for (std::size_t r = 0; r < z.size(); ++r)
      std::copy_n(z[r].begin() + first, width, logits.data() + r * sized(stride));
    const int places = shape_.terms * shape_.gradients;
    Aligned<unsigned short> coefficients(sized(places) * sized(stride), 0x7fc0);
    const std::vector<float> before(m_.data(), m_.data() + shape_.rows);
    for (std::size_t i = 0; first > 0 && i < sized(shape_.gradients) * sized(shape_.expected); ++i)
      expected_[i] = 2;

    SoftenTileWork work{};
    work.logits = logits.data();
    work.stride = stride;
    work.num_rows = shape_.rows;
    work.num_gradients = shape_.gradients;
    work.first = first;
    work.width = width;
    work.token_scale = token_scale.empty() ? nullptr : token_scale.data();
    work.scale = shape_.scale;
    work.by_cap = shape_.cap > 0 ? 1 / shape_.cap : 0;
    work.num_terms = shape_.terms;
    work.m = m_.data();
    work.sum = sum_.data();
    work.top = top_.data();
    work.coefficients = coefficients.data();
    work.coefficient_stride = stride;
    work.expected = first > 0 ? expected_.data() : nullptr;
    work.num_expected = shape_.expected;
    test::launch_on_processor(static_cast<unsigned>(shape_.rows), 1, kSoftenThreads,
                              [&] { depthlens_soften_tile(work); });

    double worst = 0;
    const auto keep = [&](double gap) { worst = gap <= worst ? worst : std::isnan(gap) ? kInfinity : gap; };
    for (std::size_t r = 0; r < sized(shape_.gradients); ++r) {
      for (std::size_t v = 0; v < sized(width); ++v) {
        double c = 0;
        for (int term = shape_.terms - 1; term >= 0; --term)
          c += number_of(coefficients[(sized(term * shape_.gradients) + r) * sized(stride) + v]);
        const double logit = z[r][sized(first) + v];
        double wanted = std::exp(logit - m_[r]) * shape_.scale;
        if (shape_.cap > 0) wanted *= 1 - std::pow(logit / shape_.cap, 2);
        if (!token_scale.empty()) wanted *= token_scale[sized(first) + v];
        keep(std::abs(c - wanted) / (std::abs(wanted) + 1e-30));
      }
      for (std::size_t k = 0; first > 0 && k < sized(shape_.expected); ++k) {
        const double factor = std::exp(static_cast<double>(before[r]) - m_[r]);
        const double found = expected_[r * sized(shape_.expected) + k];
        CHECK(std::abs(found - 2 * factor) < 1e-6);
        if (before[r] == m_[r]) CHECK(found == 2);
      }
    }
    INFO("first " << first << ", width " << width);
    CHECK(worst <= std::ldexp(1, shape_.terms == 1 ? -8 : shape_.terms == 2 ? -16 : -20));
  }

  SoftenCase shape_;
  Aligned<float> m_;
  Aligned<double> sum_;
  Aligned<long long> top_;
  Aligned<float> expected_;
};

void check(const SoftenCase& shape, unsigned seed) {
  INFO("seed " << seed);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, shape.spread);
  std::vector<std::vector<float>> z(sized(shape.rows));
  for (std::vector<float>& row : z) {
    const float level = shape.cap > 0 ? 0 : 3 * normal(random);
    for (int v = 0; v < shape.vocab; ++v) {
      float value = normal(random) + level;
      const float step = shape.levels > 0 ? shape.spread / shape.levels : 0;
      if (step > 0) value = std::round(value / step) * step;
      if (shape.cap > 0) value = shape.cap * std::tanh(value / shape.cap);
      row.push_back(value);
    }
  }
  std::vector<float> token_scale;
  for (int v = 0; shape.token_scale && v < shape.vocab; ++v)
    token_scale.push_back(static_cast<float>(random() % 9) / 8);
  Trial(shape).run(z, token_scale);
}

TEST_CASE("the kernel of the softmax makes the sums and coefficients that float64 makes", "[cuda-kernels]") {
  check({.rows = 3, .gradients = 2, .vocab = 1003, .tile = 300}, 1);
  check({.rows = 4, .gradients = 4, .vocab = 2601, .tile = 1300, .terms = 2, .expected = 300}, 2);
  check({.rows = 2, .gradients = 1, .vocab = 1026, .tile = 1024, .terms = 3}, 3);
  check({.rows = 2, .gradients = 2, .vocab = 1, .tile = 1024, .terms = 3}, 4);
  // Beyond what is held in registers.
  check({.rows = 2, .gradients = 1, .vocab = 19003, .tile = 9500, .terms = 2}, 5);
  check({.rows = 1, .gradients = 1, .vocab = 8191, .tile = 8192}, 6);
  check({.rows = 1, .gradients = 1, .vocab = 16384, .tile = 8192, .spread = 20}, 7);
}

TEST_CASE("the kernel of the softmax without coefficients makes the sums alone", "[cuda-kernels]") {
  check({.rows = 3, .gradients = 0, .vocab = 2050, .tile = 600}, 11);
  check({.rows = 1, .gradients = 0, .vocab = 9001, .tile = 9000}, 12);
}

TEST_CASE("the kernel of the softmax takes slopes and scales of tokens", "[cuda-kernels]") {
  check({.rows = 2, .gradients = 2, .vocab = 903, .tile = 300, .terms = 2, .scale = 0.25F}, 21);
  check({.rows = 2, .gradients = 2, .vocab = 903, .tile = 300, .terms = 3, .scale = 0.5F, .cap = 6}, 22);
  check({.rows = 2, .gradients = 1, .vocab = 1111, .tile = 500, .terms = 2, .token_scale = true}, 23);
  check({.rows = 2,
         .gradients = 2,
         .vocab = 10001,
         .tile = 10001,
         .terms = 1,
         .scale = 0.5F,
         .cap = 6,
         .token_scale = true},
        24);
}

TEST_CASE("the first of equal logits is the greatest", "[cuda-kernels]") {
  check({.rows = 4, .gradients = 2, .vocab = 2100, .tile = 1052, .levels = 2}, 31);
  check({.rows = 2, .gradients = 2, .vocab = 9100, .tile = 9052, .spread = 0.001F, .levels = 0.1F}, 32);
  for (const float all : {0.0F, -1e30F, -3e38F, 1e30F}) {
    INFO("all are " << all);
    for (const auto& [vocab, tile] : {std::pair{2055, 1028}, {3, 8}, {8203, 8200}}) {
      const SoftenCase shape{.rows = 2, .gradients = 1, .vocab = vocab, .tile = tile};
      Trial(shape).run({2, std::vector<float>(sized(vocab), all)}, {});
    }
  }
}

TEST_CASE("logits far apart, very small ones and infinitely small ones", "[cuda-kernels]") {
  const SoftenCase shape{.rows = 3, .gradients = 3, .vocab = 1501, .tile = 500, .terms = 2};
  std::vector<std::vector<float>> z(3, std::vector<float>(1501, -1e30F));
  z[0][1500] = 5;  // the last tile has all
  z[0][3] = -2e30F;
  z[1][0] = 1e30F;  // the first has
  for (std::size_t v = 0; v < 500; ++v) z[2][v] = v % 3 == 0 ? -80 : -kInfinity;
  z[2][700] = 3;
  Trial(shape).run(z, {});
}

TEST_CASE("what is no number makes a sum that is none", "[cuda-kernels]") {
  for (const float bad : {kNaN, kInfinity}) {
    std::vector<float> row(1200, 1);
    row[700] = bad;
    Aligned<float> logits(row.size(), 0), m(1, -kInfinity);
    std::copy(row.begin(), row.end(), logits.data());
    double sum = 0;
    long long top = 0;
    SoftenTileWork work{};
    work.logits = logits.data();
    work.num_rows = 1;
    work.width = 1200;
    work.m = m.data();
    work.sum = &sum;
    work.top = &top;
    test::launch_on_processor(1, 1, kSoftenThreads, [&] { depthlens_soften_tile(work); });
    CHECK(std::isnan(sum));
  }
}

}  // namespace
}  // namespace depthlens
