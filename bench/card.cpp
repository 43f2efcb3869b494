// Decoding alone on a card beside the bare products it is made of, for several sizes of tiles:
//
//   bench_card [states=33] [positions=248] [d=4096] [vocab=128256] [type=bfloat16] [soft_cap=0] [rounds=5]
//              [device=cuda]
//
// Random states and weights, the quickest of the rounds; logits have that soft cap, 0: none. *Product*: one
// of bfloat16 with float32 sums, of all rows with as many columns as a tile of 256 MiB has. *Pass*: the walk
// along the vocabulary, terms of weights included, its tiles left alone: products without soft cap. *Decode*:
// what the engine asks for: packing, products, ten best tokens, two watched tokens, log-sum-exp, entropy,
// both divergences, four groups of tokens, copied to the host. *Share*: of the time that the products would
// take at the rate of the one. Where the reduction of our own is not there, it ends with status 1.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "compute/cuda/cuda_backend.hpp"
#include "compute/cuda/cuda_statistics.hpp"
#include "compute/reducer.hpp"
#include "decoding.hpp"

namespace {

using namespace depthlens;

class Nothing : public compute::Reducer {
 public:
  void add(compute::HostTile& /*tile*/, Workspace* /*workspace*/) override {}
  void add(compute::DeviceTile& /*tile*/) override {}
};

int run(const bench::Settings& settings) {
  const std::int64_t S = settings.number("states", 33), P = settings.number("positions", 248),
                     d = settings.number("d", 4096), V = settings.number("vocab", 128256),
                     rounds = settings.number("rounds", 5);
  const std::string type = settings.text("type", "bfloat16");
  const at::Device device(settings.text("device", "cuda"));
  auto card = compute::cuda::Card::open(device.index() < 0 ? 0 : device.index());
  if (!card) {
    std::fprintf(stderr, "bench_card: %s\n", card.reason.c_str());
    return 1;
  }
  const auto kernels = compute::cuda::make_card_kernels(*card);

  const c10::InferenceMode inference;
  at::manual_seed(1);
  const auto on_device = at::TensorOptions(at::kFloat).device(device);

  compute::Unembedding unembedding = bench::random_unembedding(V, d, 0.05, type, device);
  unembedding.transform.soft_cap = static_cast<double>(settings.number("soft_cap", 0));
  const compute::StatisticsInput input = bench::random_input(S, P, d, V, device);
  const std::vector<std::uint8_t> groups = bench::four_groups(V);
  const auto forms = compute::cuda::ReduceForms::of(input.num_watched, input.top_k, unembedding,
                                                    /*logits_are_kept=*/false);
  if (!forms || !forms->are_in(*kernels)) {
    std::fprintf(stderr, "bench_card: no reduction of our own: libtorch's operations would be measured\n");
    return 1;
  }

  // Waits for the card.
  const at::Tensor mark = at::empty({1}, on_device);
  const auto seconds_of = [&](const std::function<void()>& work) {
    double best = 1e30;
    for (std::int64_t round = 0; round <= rounds; ++round) {
      mark.to(at::kCPU);
      const auto started = std::chrono::steady_clock::now();
      work();
      mark.to(at::kCPU);
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
      if (round > 0) best = std::min(best, seconds);
    }
    return best;
  };

  const std::int64_t R = S * P,
                     columns = std::min<std::int64_t>(V, (std::int64_t{64} << 20) / R / 1024 * 1024);
  const at::Tensor a = input.rows.to(at::kBFloat16),
                   b = unembedding.weight.narrow(0, 0, columns).to(at::kBFloat16).t();
  const at::Tensor out = at::empty({R, columns}, on_device);
  const double product = seconds_of([&] { kernels->multiply(out, a, b, false); });
  const double rate = 2e-12 * static_cast<double>(R * columns * d) / product;
  std::printf(
      "%lld states at %lld positions, d %lld, %lld tokens, weights in %s, soft cap %g; product of %lld "
      "columns %.0f TFLOP/s\n",
      static_cast<long long>(S), static_cast<long long>(P), static_cast<long long>(d),
      static_cast<long long>(V), type.c_str(), unembedding.transform.soft_cap,
      static_cast<long long>(columns), rate);

  for (const auto precision : {compute::Precision::kExact, compute::Precision::kFast}) {
    const bool exact = precision == compute::Precision::kExact;
    const int products = !exact ? 1 : type == "bfloat16" ? 2 : 3;
    const double bare = products * 2e-12 * static_cast<double>(R * V * d) / rate;
    for (const std::int64_t mebibytes : {32, 64, 128, 256, 512}) {
      const auto pass = compute::make_cuda_pass(kernels, precision, unembedding, mebibytes << 20);
      const compute::StatisticsDecoder decoder(*pass, groups, 4);
      const compute::StateRows rows = pass->pack(input.rows, S);
      Nothing nothing;
      const double packing = seconds_of([&] { pass->pack(input.rows, S); });
      const double walk = seconds_of([&] { pass->run(rows, nothing); });
      const double decode = seconds_of([&] { decoder.decode(input); });
      std::printf(
          "%s, tiles of %3lld MiB: packing %.2f ms, pass %.2f ms (%.0f%%), decode %.2f ms (%.0f%%), "
          "%.0f positions/s\n",
          exact ? "exact" : "fast ", static_cast<long long>(mebibytes), 1e3 * packing, 1e3 * walk,
          100 * bare / walk, 1e3 * decode, 100 * bare / decode, static_cast<double>(P) / decode);
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run(bench::Settings("bench_card", argc, argv));
}
