// Holds the kernel of the softmax against float64 on a card, and times it:
//
//   nvcc -std=c++17 -O3 -arch=native -I src -o soften_tile bench/soften_tile.cu && ./soften_tile
//
// Rows and tiles are those of a step of training, a narrow last tile and a wide one of fewer rows; the
// greatest logit stands in the first of a row's tiles. "TB/s" counts four bytes read of each logit and two
// written of each term of a coefficient.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "compute/cuda/soften_tile.cu"
#include "on_card.hpp"

namespace {

using namespace depthlens::compute::cuda;
using depthlens::bench::check;
using depthlens::bench::fill;

struct Shape {
  int rows, gradients, width, tiles, terms, expected;
  bool token_scale = false;
  float cap = 0;
};

class Trial {
 public:
  explicit Trial(const Shape& shape)
      : shape_(shape), stride_((shape.width + 7) / 8 * 8), num_logits_(stride_ * shape.rows) {
    const auto rows = static_cast<std::size_t>(shape.rows),
               gradients = static_cast<std::size_t>(shape.gradients),
               stride = static_cast<std::size_t>(stride_);
    work_.logits = logits_ = memory_.reserve<float>(rows * stride);
    work_.stride = work_.coefficient_stride = stride_;
    work_.num_rows = shape.rows;
    work_.num_gradients = shape.gradients;
    work_.width = shape.width;
    work_.scale = 1;
    work_.by_cap = shape.cap > 0 ? 1 / shape.cap : 0;
    work_.num_terms = shape.terms;
    work_.m = memory_.reserve<float>(rows);
    work_.sum = memory_.reserve<double>(rows);
    work_.top = memory_.reserve<long long>(rows);
    work_.coefficients =
        memory_.reserve<unsigned short>(static_cast<std::size_t>(shape.terms) * gradients * stride);
    work_.num_expected = shape.expected;
    expected_ = memory_.reserve<float>(gradients * static_cast<std::size_t>(shape.expected));
    if (shape.token_scale) {
      float* const scale = memory_.reserve<float>(static_cast<std::size_t>(shape.width) *
                                                  static_cast<std::size_t>(shape.tiles));
      fill<<<64, 256>>>(scale, 1LL * shape.width * shape.tiles, 5);
      work_.token_scale = scale;
    }
  }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  bool holds() {
    start();
    std::vector<std::vector<float>> z(static_cast<std::size_t>(shape_.rows));
    for (int t = 0; t < shape_.tiles; ++t) {
      fill<<<1024, 256>>>(logits_, num_logits_, 17U + static_cast<unsigned>(t));
      launch(t);
      const std::vector<float> tile = fetched(logits_, static_cast<std::size_t>(num_logits_));
      for (std::size_t r = 0; r < z.size(); ++r) {
        const auto begin = tile.begin() + static_cast<std::ptrdiff_t>(r) * stride_;
        z[r].insert(z[r].end(), begin, begin + shape_.width);
      }
    }
    const auto m = fetched(work_.m, z.size());
    const auto sum = fetched(work_.sum, z.size());
    const auto top = fetched(work_.top, z.size());
    double of_sums = 0, of_coefficients = 0;
    int wrong = 0;
    for (std::size_t r = 0; r < z.size(); ++r) {
      const auto greatest = std::max_element(z[r].begin(), z[r].end());
      if (m[r] != *greatest || top[r] != greatest - z[r].begin()) ++wrong;
      double expected = 0;
      for (const float logit : z[r]) expected += std::exp(static_cast<double>(logit) - *greatest);
      of_sums = std::max(of_sums, std::abs(sum[r] / expected - 1));
    }
    // Coefficients of the last tile, which is relative to the last m.
    const std::size_t of_term =
        static_cast<std::size_t>(shape_.gradients) * static_cast<std::size_t>(stride_);
    const auto terms = fetched(work_.coefficients, static_cast<std::size_t>(shape_.terms) * of_term);
    for (std::size_t r = 0; r < static_cast<std::size_t>(shape_.gradients); ++r) {
      for (int v = 0; v < shape_.width; ++v) {
        double c = 0;
        for (std::size_t term = static_cast<std::size_t>(shape_.terms); term-- > 0;)
          c += number_of_bits(
              static_cast<unsigned>(
                  terms[term * of_term + r * static_cast<std::size_t>(stride_) + static_cast<std::size_t>(v)])
              << 16);
        const double logit = z[r][static_cast<std::size_t>((shape_.tiles - 1) * shape_.width + v)];
        double expected = std::exp(logit - m[r]);
        if (shape_.cap > 0) expected *= 1 - std::pow(logit / shape_.cap, 2);
        if (work_.token_scale != nullptr) continue;
        of_coefficients = std::max(of_coefficients, std::abs(c / expected - 1));
      }
    }
    const bool good = wrong == 0 && of_sums < 2e-6 &&
                      of_coefficients < (shape_.terms == 1   ? 4e-3
                                         : shape_.terms == 2 ? 2e-5
                                                             : 5e-6);
    std::printf("%s R %d G %d width %d tiles %d terms %d: sums %.1e coefficients %.1e wrong %d\n",
                good ? "ok " : "BAD", shape_.rows, shape_.gradients, shape_.width, shape_.tiles, shape_.terms,
                of_sums, of_coefficients, wrong);
    return good;
  }

  void time() {
    cudaEvent_t from, to;
    check(cudaEventCreate(&from));
    check(cudaEventCreate(&to));
    fill<<<1024, 256>>>(logits_, num_logits_, 3);
    std::vector<float> times;
    for (int round = 0; round < 8; ++round) {
      start();
      check(cudaEventRecord(from));
      for (int t = 0; t < shape_.tiles; ++t) launch(t);
      check(cudaEventRecord(to));
      check(cudaEventSynchronize(to));
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, from, to));
      if (round > 1) times.push_back(milliseconds);
    }
    std::sort(times.begin(), times.end());
    const double seconds = times[times.size() / 2] * 1e-3 / shape_.tiles;
    const double bytes = (4.0 * shape_.rows + 2.0 * shape_.terms * shape_.gradients) * shape_.width;
    std::printf("R %d G %d width %d terms %d%s%s: %.1f us a tile, %.2f ps a logit, %.2f TB/s\n", shape_.rows,
                shape_.gradients, shape_.width, shape_.terms, shape_.token_scale ? ", scaled" : "",
                shape_.cap > 0 ? ", capped" : "", seconds * 1e6,
                seconds * 1e12 / (1.0 * shape_.rows * shape_.width), bytes / seconds * 1e-12);
    check(cudaEventDestroy(from));
    check(cudaEventDestroy(to));
  }

 private:
  template <typename T>
  std::vector<T> fetched(const T* place, std::size_t count) {
    std::vector<T> values(count);
    check(cudaMemcpy(values.data(), place, count * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }
  /// Before the first tile.
  void start() {
    const auto rows = static_cast<std::size_t>(shape_.rows);
    const std::vector<float> m(rows, -INFINITY);
    check(cudaMemcpy(work_.m, m.data(), rows * sizeof(float), cudaMemcpyHostToDevice));
    check(cudaMemset(work_.sum, 0, rows * sizeof(double)));
  }
  void launch(int tile) {
    work_.first = tile * shape_.width;
    work_.expected = tile > 0 && shape_.gradients > 0 ? expected_ : nullptr;
    depthlens_soften_tile<<<shape_.rows, kSoftenThreads>>>(work_);
    check(cudaGetLastError());
  }

  Shape shape_;
  long long stride_, num_logits_;
  SoftenTileWork work_{};
  float *logits_ = nullptr, *expected_ = nullptr;
  depthlens::bench::CardMemory memory_;
};

}  // namespace

int main(int argc, char** argv) {
  const bool only_check = argc > 1 && std::strcmp(argv[1], "check") == 0;
  bool good = true;
  for (const Shape& shape :
       {Shape{300, 300, 8192, 3, 1, 768}, Shape{301, 40, 2052, 5, 2, 33}, Shape{200, 200, 20000, 2, 3, 64},
        Shape{77, 0, 1000, 4, 1, 64}, Shape{60, 60, 4096, 2, 2, 64, false, 8}})
    good = Trial(shape).holds() && good;
  std::printf(good ? "all right\n" : "NOT right\n");
  if (!good || only_check) return good ? 0 : 1;
  for (const Shape& shape :
       {Shape{8190, 8190, 8192, 6, 1, 768}, Shape{8190, 8190, 8192, 6, 2, 768},
        Shape{8190, 8190, 8192, 6, 3, 768}, Shape{8190, 630, 8192, 6, 1, 768},
        Shape{8190, 8190, 1152, 6, 1, 768}, Shape{2048, 2048, 32768, 4, 1, 768},
        Shape{8190, 8190, 8192, 6, 1, 768, true}, Shape{8190, 8190, 8192, 6, 1, 768, false, 30}})
    Trial(shape).time();
  return 0;
}
