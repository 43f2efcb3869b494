// Decoding alone beside the bare products it is made of, for every kernel of this processor:
//
//   bench_kernels [states=13] [positions=288] [d=768] [vocab=50304] [type=float32] [threads=2] [rounds=5]
//                 [only=NAME] [precision=exact|fast]
//
// Random states and weights, interleaved rounds, the quickest of each. *Bare*: every block of rows times
// panels that are packed already and stay in the cache. *Decode*: what the engine asks of a kernel: packing,
// products, ten best tokens, two watched tokens, log-sum-exp, entropy, both divergences, four groups of
// tokens. *Training*: log-sum-exp with its gradient for all rows, as training of lenses asks. GFLOP/s count
// one product for each logit (in training two), however many split terms the kernel takes.
#include "compute/cpu/kernels.hpp"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "compute/cpu/packed_gemm.hpp"
#include "compute/parallel.hpp"
#include "decoding.hpp"
#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/log_sum_exp.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/util/rounding.hpp"

namespace {

using namespace depthlens;

double seconds_of(const std::function<void()>& work) {
  const auto started = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

struct Candidate {
  std::string name;
  compute::Precision precision;
  std::unique_ptr<compute::VocabularyPass> pass = nullptr;
  std::unique_ptr<compute::StatisticsDecoder> decoder = nullptr;
  compute::LogitMemory memory = {};                     // as chunks of a batch share it
  std::unique_ptr<compute::PackedGemm> gemm = nullptr;  // none: libtorch's products
  double bare = 1e30, decode = 1e30, train = 1e30;      // seconds
};

void multiply_all(const compute::PackedGemm& gemm, const at::Tensor& blocks, std::int64_t rows,
                  std::int64_t columns) {
  const std::int64_t tile = gemm.tile_columns(256), block_rows = gemm.block_rows();
  struct Workspace {
    at::Tensor panels;
    std::vector<float> out;
  };
  compute::parallel_for_dynamic(
      util::ceil_div(columns, tile), /*should_stop=*/{},
      [&] {
        Workspace made{compute::aligned_bytes(gemm.columns_bytes(tile)),
                       std::vector<float>(static_cast<std::size_t>(block_rows * tile))};
        gemm.pack_neighbours(0, tile, made.panels.mutable_data_ptr<std::uint8_t>());
        return made;
      },
      [&](std::int64_t item, Workspace& workspace) {
        const auto* panels = workspace.panels.const_data_ptr<std::uint8_t>();
        for (std::int64_t b = 0; b * block_rows < rows; ++b) {
          gemm.multiply(blocks.const_data_ptr<std::uint8_t>() + b * gemm.block_bytes(),
                        std::min(block_rows, rows - b * block_rows), panels,
                        std::min(tile, columns - item * tile), workspace.out.data(), tile);
        }
      });
}

int run(const bench::Settings& settings) {
  const std::int64_t S = settings.number("states", 13), P = settings.number("positions", 288),
                     d = settings.number("d", 768), V = settings.number("vocab", 50304),
                     rounds = settings.number("rounds", 5);
  const auto threads = static_cast<int>(settings.number("threads", 2));
  const std::string type = settings.text("type", "float32"), only = settings.text("only", ""),
                    which = settings.text("precision", "");
  compute::set_threads(threads);
  const c10::InferenceMode inference;
  at::manual_seed(1);

  const compute::Unembedding head = bench::random_unembedding(V, d, 0.1, type, at::kCPU);
  const compute::StatisticsInput input = bench::random_input(S, P, d, V, at::kCPU);
  const std::vector<std::uint8_t> groups = bench::four_groups(V);

  std::vector<Candidate> candidates;
  for (const auto precision : {compute::Precision::kExact, compute::Precision::kFast}) {
    const bool fast = precision == compute::Precision::kFast;
    if (!which.empty() && which != (fast ? "fast" : "exact")) continue;
    for (const compute::CpuKernel& kernel : compute::usable_kernels(precision)) {
      if (fast && !kernel.splits) continue;  // the same as exact
      if (!only.empty() && only != kernel.name) continue;
      Candidate candidate{kernel.name, precision};
      candidate.pass = compute::Backend::create({.kernel = kernel.name})->vocabulary_pass(head, precision);
      candidate.decoder = std::make_unique<compute::StatisticsDecoder>(*candidate.pass, groups, 4);
      if (kernel.gemm != nullptr)
        candidate.gemm = std::make_unique<compute::PackedGemm>(kernel, precision, head.weight);
      candidates.push_back(std::move(candidate));
    }
  }
  for (std::int64_t round = 0; round < rounds; ++round) {
    for (Candidate& candidate : candidates) {
      if (candidate.gemm != nullptr) {
        const at::Tensor blocks = compute::pack_blocks(*candidate.gemm, input.rows);
        candidate.bare =
            std::min(candidate.bare, seconds_of([&] { multiply_all(*candidate.gemm, blocks, S * P, V); }));
      }
      candidate.decode =
          std::min(candidate.decode,
                   seconds_of([&] { candidate.decoder->decode(input, nullptr, &candidate.memory); }));
      candidate.train = std::min(
          candidate.train, seconds_of([&] { compute::log_sum_exp(*candidate.pass, input.rows, S * P); }));
    }
  }
  const double giga = 2e-9 * static_cast<double>(S * P) * static_cast<double>(d) * static_cast<double>(V);
  std::printf("%lld states at %lld positions, d %lld, %lld tokens, weights in %s, %d threads\n",
              static_cast<long long>(S), static_cast<long long>(P), static_cast<long long>(d),
              static_cast<long long>(V), type.c_str(), threads);
  std::printf("%-22s%14s%10s%10s%10s%10s\n", "GFLOP/s", "bare products", "decode", "share", "seconds",
              "training");
  for (const Candidate& candidate : candidates) {
    const std::string name =
        candidate.name + (candidate.precision == compute::Precision::kFast ? ", fast" : "");
    if (candidate.gemm == nullptr) {
      std::printf("%-22s%14s%10.0f%10s%10.3f%10.0f\n", name.c_str(), "", giga / candidate.decode, "",
                  candidate.decode, 2 * giga / candidate.train);
      continue;
    }
    std::printf("%-22s%14.0f%10.0f%9.0f%%%10.3f%10.0f\n", name.c_str(), giga / candidate.bare,
                giga / candidate.decode, 100 * candidate.bare / candidate.decode, candidate.decode,
                2 * giga / candidate.train);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run(bench::Settings("bench_kernels", argc, argv));
}
