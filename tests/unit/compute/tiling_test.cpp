// Products of several blocks with wide tiles, slice by slice of the dimensions, for every microkernel of this
// processor.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>

#include <string>
#include <vector>

#include "compute/cpu/cpu_backend.hpp"
#include "compute/cpu/gemm.hpp"
#include "compute/cpu/kernels.hpp"
#include "compute/cpu/packed_gemm.hpp"
#include "depthlens/compute/expected_logits.hpp"
#include "depthlens/compute/log_sum_exp.hpp"
#include "depthlens/compute/statistics.hpp"
#include "depthlens/text/token.hpp"
#include "support/catch.hpp"

namespace depthlens {
namespace {

using compute::CpuKernel;
using compute::GemmKernel;
using compute::PackedGemm;
using compute::Precision;
using text::TokenId;

constexpr std::int64_t kDeep = 1500;  // dimensions: too many for wide tiles, with weights in float32

std::vector<CpuKernel> microkernels() {
  std::vector<CpuKernel> found;
  for (const CpuKernel& kernel : compute::usable_kernels(Precision::kExact)) {
    if (kernel.gemm != nullptr) found.push_back(kernel);
  }
  return found;
}

/// The kernel as if it were too quick for the cache, and so is given wide tiles.
struct Quick {
  explicit Quick(const CpuKernel& given) : gemm(*given.gemm), kernel(given) {
    gemm.outruns_cache = true;
    kernel.gemm = &gemm;
  }
  Quick(const Quick&) = delete;
  Quick& operator=(const Quick&) = delete;

  GemmKernel gemm;
  CpuKernel kernel;
};

/// What a product may be off by: the kernel's terms hold 16 bits of both factors with kExact, and all else
/// comes of sums in float32.
double bound_of(const CpuKernel& kernel, Precision precision, const at::Tensor& x, const at::Tensor& weight) {
  const double sum_of_sizes = at::matmul(x.abs(), weight.to(at::kFloat).abs().t()).max().item<double>();
  return sum_of_sizes * (kernel.splits && precision == Precision::kExact ? 0x1p-15 : 2e-6);
}

at::Tensor in_float64(const at::Tensor& x, const at::Tensor& weight) {
  return at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t());
}

TEST_CASE("tiling: several blocks by slices of the dimensions") {
  at::manual_seed(31);
  for (const CpuKernel& kernel : microkernels()) {
    for (const at::ScalarType stored : {at::kFloat, at::kBFloat16}) {
      for (const Precision precision : {Precision::kFloat32, Precision::kExact}) {
        INFO(kernel.name << ", " << at::toString(stored) << ", precision " << static_cast<int>(precision));
        const at::Tensor weight = at::randn({100, 200}, at::kFloat).to(stored);
        const PackedGemm gemm(kernel, precision, weight);
        const std::int64_t rows = gemm.block_rows(), T = 2 * rows + 1;
        const at::Tensor x = at::randn({T, 200}, at::kFloat);
        const at::Tensor blocks = compute::pack_blocks(gemm, x),
                         panels = compute::aligned_bytes(gemm.columns_bytes(100));
        gemm.pack_neighbours(0, 100, panels.mutable_data_ptr<std::uint8_t>());
        const std::int64_t stride = gemm.columns_bytes(100) / gemm.columns_bytes(1) * gemm.panel_columns();
        const auto product = [&](std::int64_t depth) {
          at::Tensor out = at::empty({3 * rows, stride}, at::kFloat);
          gemm.multiply({.first = blocks.const_data_ptr<std::uint8_t>(),
                         .num_blocks = 3,
                         .count = rows,
                         .last_count = 1},
                        depth, panels.const_data_ptr<std::uint8_t>(), 100, out.mutable_data_ptr<float>(),
                        stride);
          return out.narrow(0, 0, T).narrow(1, 0, 100);
        };
        const at::Tensor expected = in_float64(x, weight), whole = product(224);
        for (const std::int64_t depth : {32, 64, 96}) {
          const at::Tensor sliced = product(depth);
          CHECK((sliced - expected).abs().max().item<double>() < bound_of(kernel, precision, x, weight));
          // AMX goes on with the sums as they are.
          if (kernel.gemm->outruns_cache) CHECK(at::equal(sliced, whole));
        }
      }
    }
  }
}

TEST_CASE("tiling: only many deep blocks are sliced") {
  for (const CpuKernel& kernel : microkernels()) {
    INFO(kernel.name);
    const Quick quick(kernel);
    const auto tiling = [&](std::int64_t d, std::int64_t num_blocks) {
      return PackedGemm(quick.kernel, Precision::kFloat32, at::empty({0, d}, at::kFloat))
          .tiling(384, num_blocks);
    };
    const PackedGemm::Tiling sliced = tiling(kDeep, 40);
    CHECK(sliced.depth < kDeep);
    CHECK(sliced.depth % GemmKernel::kDepth == 0);
    CHECK(sliced.blocks > 1);
    CHECK(sliced.columns == 384 / kernel.gemm->panel_columns * kernel.gemm->panel_columns);
    for (const PackedGemm::Tiling& whole : {tiling(kDeep, 1), tiling(100, 40)}) {
      CHECK(whole.depth >= 100);
      CHECK(whole.blocks == 1);
    }
    const auto both_ways = [&](const CpuKernel& by, std::int64_t d) {
      return PackedGemm(by, Precision::kFloat32, at::empty({0, d}, at::kFloat)).tiling_both_ways(256, 384);
    };
    CHECK(both_ways(quick.kernel, kDeep).columns == sliced.columns);
    CHECK(both_ways(quick.kernel, kDeep).depth == sliced.depth);
    CHECK(both_ways(quick.kernel, kDeep).blocks > 1);
    CHECK(both_ways(quick.kernel, 100).blocks == 1);
    if (!kernel.gemm->outruns_cache) CHECK(both_ways(kernel, kDeep).blocks == 1);
    CHECK(tiling(kDeep, 1).depth >= kDeep);
    CHECK(tiling(kDeep, 1).columns < sliced.columns);
  }
}

TEST_CASE("tiling: products with deep weights, forward and back") {
  at::manual_seed(32);
  for (const CpuKernel& kernel : microkernels()) {
    const Quick quick(kernel);
    for (const Precision precision : {Precision::kFloat32, Precision::kExact}) {
      INFO(kernel.name << ", precision " << static_cast<int>(precision));
      const std::int64_t T = 9 * kernel.gemm->block_rows + 1;
      const at::Tensor x = at::randn({T, kDeep}, at::kFloat);
      const at::Tensor weight = at::randn({300, kDeep}, at::kFloat), turned = weight.t().contiguous();
      const at::Tensor blocks = compute::pack_for_product(quick.kernel, precision, x);
      const at::Tensor expected = in_float64(x, weight);
      for (const compute::Way way : {compute::Way::kForward, compute::Way::kBack}) {
        const at::Tensor found = compute::packed_product(
            quick.kernel, precision, blocks, T, way == compute::Way::kForward ? weight : turned, way, {});
        REQUIRE(found.sizes() == expected.sizes());
        CHECK((found - expected).abs().max().item<double>() < bound_of(kernel, precision, x, weight));
      }
    }
  }
}

TEST_CASE("tiling: statistics of deep states, whose logits are made several states at once") {
  at::manual_seed(33);
  for (const CpuKernel& kernel : microkernels()) {
    INFO(kernel.name);
    const Quick quick(kernel);
    const std::int64_t S = 30, P = kernel.gemm->block_rows + 1, V = 800;
    const compute::Unembedding head{.weight = at::randn({V, kDeep}, at::kFloat) * 0.05,
                                    .bias = at::randn({V}, at::kFloat),
                                    .transform = {.soft_cap = 20}};
    const compute::StatisticsInput input{.rows = at::randn({S * P, kDeep}, at::kFloat),
                                         .num_states = S,
                                         .num_positions = P,
                                         .top_k = 5,
                                         .num_watched = 2,
                                         .watched = std::vector<TokenId>(static_cast<std::size_t>(2 * P), 7)};
    const auto decoded = [&](const CpuKernel& by, compute::ProbabilitySums& sums) {
      const auto pass = compute::make_cpu_pass(by, Precision::kExact, head, {});
      return compute::StatisticsDecoder(*pass, {}, 0).decode(input, &sums);
    };
    compute::ProbabilitySums sums(S, V), other_sums(S, V);
    CpuKernel narrow = kernel;
    GemmKernel slow = *kernel.gemm;
    slow.outruns_cache = false;
    narrow.gemm = &slow;
    const compute::Statistics found = decoded(quick.kernel, sums), expected = decoded(narrow, other_sums);
    REQUIRE(found.top_ids.size() == static_cast<std::size_t>(S * P * 5));
    CHECK(found.top_ids == expected.top_ids);
    for (std::size_t row = 0; row < static_cast<std::size_t>(S * P); ++row) {
      CHECK(found.log_sum_exp[row] == Approx(expected.log_sum_exp[row]).margin(1e-5));
      CHECK(found.kl_final[row] == Approx(expected.kl_final[row]).margin(1e-4));
      CHECK(found.entropy[row] == Approx(expected.entropy[row]).margin(1e-4));
    }
    CHECK((sums.sums - other_sums.sums).abs().max().item<double>() < 1e-5);
  }
}

TEST_CASE("tiling: log-sum-exp and expected rows of deep states, with their way back slice by slice") {
  at::manual_seed(34);
  for (const CpuKernel& kernel : microkernels()) {
    const Quick quick(kernel);
    // More blocks than are multiplied at once; the last tile, the last block of rows and the last columns of
    // the way back are parts of one, and gradients end within a block.
    const std::int64_t R = 41 * kernel.gemm->block_rows + 1, G = R - kernel.gemm->block_rows, V = 2000;
    const compute::LogitTransform transform = {.scale = 0.5, .soft_cap = 20};
    const compute::Unembedding head{.weight = at::randn({V, kDeep}, at::kFloat) * 0.05,
                                    .bias = at::randn({V}, at::kFloat),
                                    .transform = transform};
    const at::Tensor rows = at::randn({R, kDeep}, at::kFloat), scale = at::rand({V}, at::kFloat);
    const at::Tensor weight = head.weight.to(at::kDouble);
    const at::Tensor inner =
        (at::matmul(rows.to(at::kDouble), weight.t()) + head.bias.to(at::kDouble)) * (0.5 / 20);
    const at::Tensor logits = inner.tanh() * 20, slopes = (1 - inner.tanh().square()) * 0.5;
    const at::Tensor lse = logits.logsumexp(1);
    const auto expected_rows = [&](const at::Tensor& q) { return at::matmul(q * slopes * scale, weight); };
    const at::Tensor softmax = (logits - lse.unsqueeze(1)).exp(), gradient = expected_rows(softmax);
    const at::Tensor q = at::rand({R, V}, at::kFloat) / V, mean = (q * logits).sum(1),
                     mean_gradient = expected_rows(q.to(at::kDouble));
    for (const Precision precision : {Precision::kFloat32, Precision::kExact}) {
      INFO(kernel.name << ", precision " << static_cast<int>(precision));
      const auto pass = compute::make_cpu_pass(quick.kernel, precision, head, {});
      const compute::LogSumExpValues found = compute::log_sum_exp(*pass, rows, G, scale);
      CHECK((found.value - lse).abs().max().item<double>() < 1e-5);
      CHECK(at::equal(found.top, logits.argmax(1)));
      REQUIRE(found.gradient.size(0) == G);
      CHECK((found.gradient - gradient.narrow(0, 0, G)).abs().max().item<double>() < 2e-6);
      const compute::ExpectedLogits of_q = compute::expected_logits(*pass, rows, q, scale);
      CHECK((of_q.value - mean).abs().max().item<double>() < 1e-5);
      CHECK((of_q.gradient - mean_gradient).abs().max().item<double>() < 2e-6);
      // The same bits whatever else is there, and on any number of threads.
      const std::int64_t few = kernel.gemm->block_rows + 3;
      const compute::LogSumExpValues alone = compute::log_sum_exp(*pass, rows.narrow(0, 0, few), few, scale);
      CHECK(at::equal(alone.value, found.value.narrow(0, 0, few)));
      CHECK(at::equal(alone.gradient, found.gradient.narrow(0, 0, few)));
    }
  }
}

}  // namespace
}  // namespace depthlens
