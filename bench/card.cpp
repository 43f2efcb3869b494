// Decoding alone on a card beside the bare products it is made of, for several sizes of tiles:
//
//   bench_card [states=33] [positions=248] [d=4096] [vocab=128256] [type=bfloat16] [rounds=5] [device=cuda]
//
// Random states and weights, the quickest of the rounds. *Product*: one of bfloat16 with float32 sums, of all
// rows with as many columns as a tile of 256 MiB has. *Pass*: the walk along the vocabulary, terms of weights
// included, its tiles left alone. *Decode*: what the engine asks for: packing, products, ten best tokens, two
// watched tokens, log-sum-exp, entropy, both divergences, four groups of tokens, copied to the host. *Share*:
// of the time that the products would take at the rate of the one.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "compute/cuda/cuda_backend.hpp"
#include "compute/reducer.hpp"
#include "depthlens/compute/statistics.hpp"
#include "depthlens/util/text.hpp"

namespace {

using namespace depthlens;

class Nothing : public compute::Reducer {
 public:
  void add(compute::HostTile& /*tile*/, Workspace* /*workspace*/) override {}
  void add(compute::DeviceTile& /*tile*/) override {}
};

int run(std::map<std::string, std::string> settings) {
  const auto text = [&](const std::string& key, const std::string& otherwise) {
    return settings.count(key) > 0 ? settings.at(key) : otherwise;
  };
  const auto number = [&](const std::string& key, std::int64_t otherwise) {
    std::int64_t value = otherwise;
    if (settings.count(key) > 0 && !util::parse_int(settings.at(key), value)) std::exit(2);
    return value;
  };
  const std::int64_t S = number("states", 33), P = number("positions", 248), d = number("d", 4096),
                     V = number("vocab", 128256), rounds = number("rounds", 5);
  const std::string type = text("type", "bfloat16");
  const at::Device device(text("device", "cuda"));
  const c10::InferenceMode inference;
  at::manual_seed(1);
  const auto on_device = at::TensorOptions(at::kFloat).device(device);

  compute::Unembedding unembedding;
  unembedding.weight = at::randn({V, d}, on_device)
                           .mul_(0.05)
                           .to(type == "bfloat16"  ? at::kBFloat16
                               : type == "float16" ? at::kHalf
                                                   : at::kFloat);
  compute::StatisticsInput input;
  input.rows = at::randn({S * P, d}, on_device);
  input.num_states = S;
  input.num_positions = P;
  input.top_k = 10;
  input.num_watched = 2;
  for (std::int64_t p = 0; p < P; ++p) {
    input.watched.push_back(compute::kNoToken);
    input.watched.push_back(static_cast<compute::TokenId>(p * 131 % V));
  }
  std::vector<std::uint8_t> groups(static_cast<std::size_t>(V), 3);
  for (std::size_t v = 0; v < groups.size() && v < 1000; ++v) groups[v] = v < 10 ? 0 : v < 100 ? 1 : 2;

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

  auto card = compute::cuda::Card::open(device.index() < 0 ? 0 : device.index());
  if (!card) {
    std::fprintf(stderr, "bench_card: %s\n", card.reason.c_str());
    return 1;
  }
  const auto kernels = compute::cuda::make_card_kernels(*card);
  const std::int64_t R = S * P,
                     columns = std::min<std::int64_t>(V, (std::int64_t{64} << 20) / R / 1024 * 1024);
  const at::Tensor a = input.rows.to(at::kBFloat16),
                   b = unembedding.weight.narrow(0, 0, columns).to(at::kBFloat16).t();
  const at::Tensor out = at::empty({R, columns}, on_device);
  const double product = seconds_of([&] { kernels->multiply(out, a, b, false); });
  const double rate = 2e-12 * static_cast<double>(R * columns * d) / product;
  std::printf(
      "%lld states at %lld positions, d %lld, %lld tokens, weights in %s; product of %lld columns %.0f "
      "TFLOP/s\n",
      static_cast<long long>(S), static_cast<long long>(P), static_cast<long long>(d),
      static_cast<long long>(V), type.c_str(), static_cast<long long>(columns), rate);

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
  std::map<std::string, std::string> settings;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::size_t equals = argument.find('=');
    if (equals == std::string::npos) {
      std::fprintf(stderr, "bench_card: expected KEY=VALUE, found '%s'\n", argv[i]);
      return 2;
    }
    settings[argument.substr(0, equals)] = argument.substr(equals + 1);
  }
  return run(std::move(settings));
}
