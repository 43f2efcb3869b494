// Every kernel that runs on this machine against plain float64 arithmetic on logits chosen by hand. With the
// identity as unembedding the normed states are the logits, exactly.
#include "depthlens/compute/statistics.hpp"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "depthlens/compute/runtime.hpp"
#include "support/check_error.hpp"
#include "support/devices.hpp"
#include "support/kernels.hpp"

namespace depthlens {
namespace {

using compute::kNoToken;
using compute::TokenId;
using compute::Unembedding;

/// A kernel, and how exactly it takes what it is given.
struct Tested {
  std::string name;
  compute::Precision precision = compute::Precision::kExact;
  std::string device = "cpu";

  /// The bits of a state that reach the product.
  int bits() const {
    if (!test::is_bfloat16(name)) return 24;
    return precision == compute::Precision::kFast ? 8 : 16;
  }
};

/// All that this processor runs, and the kernel of every other device.
std::vector<Tested> usable_kernels() {
  std::vector<Tested> usable;
  for (const auto precision : {compute::Precision::kExact, compute::Precision::kFast}) {
    for (const std::string& name : compute::processor_kernels(precision)) {
      const Tested tested{name, precision};
      if (precision == compute::Precision::kExact || tested.bits() == 8) usable.push_back(tested);
    }
  }
  for (const std::string& device : test::devices()) {
    if (device == "cpu") continue;
    const auto backend = test::backend_on(device);
    for (const auto precision : {compute::Precision::kExact, compute::Precision::kFast}) {
      const Tested tested{.name = backend->kernel_name(precision) + " of " + device,
                          .precision = precision,
                          .device = device};
      if (precision == compute::Precision::kExact || tested.bits() == 8) usable.push_back(tested);
    }
  }
  return usable;
}

std::ostream& operator<<(std::ostream& out, const Tested& tested) {
  return out << tested.name << (tested.precision == compute::Precision::kFast ? " (fast)" : "");
}

/// Logits [S][P][V], state 0 the final layer; [P][W] watched tokens, of which entry 0 is the kernel's to
/// fill.
struct Case {
  std::vector<std::vector<std::vector<float>>> logits;
  std::vector<std::vector<TokenId>> watched;
  std::int64_t top_k = 3;
  std::vector<std::uint8_t> groups = {};  // [V]
  std::int64_t num_groups = 0;
};

struct Expected {
  double log_sum_exp, entropy, kl_final, kl_reverse;
  std::vector<TokenId> top_ids;
  std::vector<double> top_logits;
  std::vector<std::int64_t> ranks;     // [W], 0 where there is no token
  std::vector<double> watched_logits;  // [W]
  std::vector<double> mass;            // [G]
};

std::vector<double> log_probabilities(const std::vector<float>& logits, double& log_sum_exp) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float z : logits) sum += std::exp(z - most);
  log_sum_exp = most + std::log(sum);
  std::vector<double> logprobs;
  for (const float z : logits) logprobs.push_back(z - log_sum_exp);
  return logprobs;
}

/// The definitions of docs/methods.md, term by term.
Expected expected_of(const Case& c, std::size_t s, std::size_t p) {
  const std::vector<float>& row = c.logits[s][p];
  Expected e{};
  double unused;
  const std::vector<double> q = log_probabilities(row, e.log_sum_exp);
  const std::vector<double> f = log_probabilities(c.logits[0][p], unused);
  for (std::size_t v = 0; v < row.size(); ++v) {
    e.entropy -= std::exp(q[v]) * q[v];
    e.kl_final += std::exp(f[v]) * (f[v] - q[v]);
    e.kl_reverse += std::exp(q[v]) * (q[v] - f[v]);
  }
  std::vector<TokenId> order(row.size());
  for (std::size_t v = 0; v < order.size(); ++v) order[v] = static_cast<TokenId>(v);
  const auto logit = [&](TokenId id) { return row[static_cast<std::size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return logit(a) > logit(b); });
  for (std::int64_t k = 0; k < c.top_k; ++k) {
    e.top_ids.push_back(order[static_cast<std::size_t>(k)]);
    e.top_logits.push_back(logit(e.top_ids.back()));
  }
  std::vector<TokenId> watched = c.watched[p];
  const auto& final_row = c.logits[0][p];
  watched[0] = static_cast<TokenId>(std::max_element(final_row.begin(), final_row.end()) - final_row.begin());
  for (const TokenId id : watched) {
    e.ranks.push_back(id == kNoToken ? 0 : 1 + std::count_if(row.begin(), row.end(), [&](float z) {
                                             return z > logit(id);
                                           }));
    e.watched_logits.push_back(id == kNoToken ? 0 : logit(id));
  }
  e.mass.assign(static_cast<std::size_t>(c.num_groups), 0);
  for (std::size_t v = 0; v < c.groups.size(); ++v) e.mass[c.groups[v]] += std::exp(q[v]);
  return e;
}

/// With `sums`, its probabilities are added to them.
compute::Statistics decoded(const Tested& tested, const Unembedding& host_head, const Case& c,
                            const at::Tensor& rows, compute::ProbabilitySums* sums = nullptr,
                            std::uint64_t memory = std::uint64_t{192} << 20) {
  compute::StatisticsInput input;
  input.rows = test::moved(rows, tested.device);
  input.num_states = static_cast<std::int64_t>(c.logits.size());
  input.num_positions = static_cast<std::int64_t>(c.logits[0].size());
  input.top_k = c.top_k;
  input.num_watched = static_cast<std::int64_t>(c.watched[0].size());
  for (const auto& watched : c.watched)
    input.watched.insert(input.watched.end(), watched.begin(), watched.end());
  const bool on_processor = tested.device == "cpu";
  const auto backend = compute::Backend::create(
      {.device = tested.device, .kernel = on_processor ? tested.name : "", .decode = tested.precision});
  if (on_processor) CHECK(backend->kernel_name() == tested.name);
  const auto pass = backend->vocabulary_pass(test::moved(host_head, tested.device), tested.precision);
  const compute::StatisticsDecoder decoder(*pass, c.groups, c.num_groups, memory);
  const auto working_memory = [&](std::int64_t top_k, std::int64_t num_watched) {
    return decoder.working_memory(
        {.num_states = input.num_states, .top_k = top_k, .num_watched = num_watched}, input.num_positions);
  };
  CHECK(working_memory(input.top_k, input.num_watched) > 0);
  CHECK(working_memory(2 * input.top_k, input.num_watched) > working_memory(input.top_k, input.num_watched));
  CHECK(working_memory(input.top_k, 2 * input.num_watched) > working_memory(input.top_k, input.num_watched));
  return decoder.decode(input, sums);
}

compute::Statistics decoded(const Tested& tested, const Case& c, at::Tensor bias = {},
                            compute::ProbabilitySums* sums = nullptr,
                            std::uint64_t memory = std::uint64_t{192} << 20) {
  const auto S = static_cast<std::int64_t>(c.logits.size()),
             P = static_cast<std::int64_t>(c.logits[0].size()),
             V = static_cast<std::int64_t>(c.logits[0][0].size());
  Unembedding head;
  head.weight = at::eye(V, at::kFloat);
  head.bias = std::move(bias);
  const at::Tensor rows = at::empty({S * P, V}, at::kFloat);
  float* data = rows.mutable_data_ptr<float>();
  for (const auto& state : c.logits) {
    for (const auto& row : state) data = std::copy(row.begin(), row.end(), data);
  }
  return decoded(tested, head, c, rows, sums, memory);
}

/// Of 24, 16 or 8 bits, as split terms of bfloat16 hold them.
float rounded(float value, int bits) {
  if (bits == 24) return value;
  const auto high = static_cast<float>(static_cast<at::BFloat16>(value));
  return bits == 8 ? high : high + static_cast<float>(static_cast<at::BFloat16>(value - high));
}

Case rounded(Case c, int bits) {
  for (auto& state : c.logits) {
    for (auto& row : state) {
      for (float& logit : row) logit = rounded(logit, bits);
    }
  }
  return c;
}

/// `margin`: nats; float32 logits of size z leave about z · 1e-7.
void check_case(const Case& given, double margin = 5e-6) {
  const std::size_t S = given.logits.size(), P = given.logits[0].size(), W = given.watched[0].size();
  const auto K = static_cast<std::size_t>(given.top_k), G = static_cast<std::size_t>(given.num_groups);
  for (const Tested& tested : usable_kernels()) {
    INFO(tested << ", " << given.logits[0][0].size() << " tokens");
    // With logits that its terms hold, a kernel on bfloat16 is as exact as the others.
    const Case c = rounded(given, tested.bits());
    const compute::Statistics out = decoded(tested, c);
    REQUIRE(out.top_ids.size() == S * P * K);
    REQUIRE(out.watched_ranks.size() == S * P * W);
    REQUIRE(out.group_mass.size() == S * P * G);
    for (std::size_t s = 0; s < S; ++s) {
      for (std::size_t p = 0; p < P; ++p) {
        INFO("state " << s << ", position " << p);
        const Expected e = expected_of(c, s, p);
        const std::size_t row = s * P + p;
        CHECK(out.log_sum_exp[row] == Approx(e.log_sum_exp).margin(margin));
        CHECK(out.entropy[row] == Approx(e.entropy).margin(margin));
        CHECK(out.kl_final[row] == Approx(e.kl_final).margin(margin));
        CHECK(out.kl_reverse[row] == Approx(e.kl_reverse).margin(margin));
        if (s == 0) CHECK(out.kl_final[row] == 0);
        if (s == 0) CHECK(out.kl_reverse[row] == 0);
        const auto slice = [&](const auto& values, std::size_t each) {
          const auto first = values.begin() + static_cast<std::ptrdiff_t>(row * each);
          return std::vector(first, first + static_cast<std::ptrdiff_t>(each));
        };
        CHECK(slice(out.top_ids, K) == e.top_ids);
        CHECK(slice(out.top_logits, K) == e.top_logits);
        CHECK(slice(out.watched_ranks, W) == e.ranks);
        for (std::size_t w = 0; w < W; ++w) {
          if (e.ranks[w] > 0) CHECK(out.watched_logits[row * W + w] == e.watched_logits[w]);
        }
        for (std::size_t g = 0; g < G; ++g)
          CHECK(out.group_mass[row * G + g] == Approx(e.mass[g]).margin(1e-6));
      }
    }
  }
}

/// Logits with many exact ties: few different values, over a range that every tile touches.
std::vector<float> tied_logits(std::size_t V, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> row;
  for (std::size_t v = 0; v < V; ++v) row.push_back(static_cast<float>(random() % 23) * 0.5F - 6);
  return row;
}

std::vector<float> smooth_logits(std::size_t V, std::uint32_t seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> row;
  for (std::size_t v = 0; v < V; ++v) row.push_back(normal(random));
  return row;
}

TEST_CASE("kernels: this machine has the portable one and ATen's, and an unknown name is refused") {
  std::vector<std::string> usable;
  for (const Tested& tested : usable_kernels()) usable.push_back(tested.name);
  CHECK(std::count(usable.begin(), usable.end(), "portable") == 1);
  CHECK(std::count(usable.begin(), usable.end(), "aten") == 1);
  test::check_error(util::ErrorCode::kUsage, {"DEPTHLENS_KERNEL", "portable", "aten", "found 'abacus'"},
                    [] { test::backend("abacus"); });
}

TEST_CASE("kernels: a distribution that can be computed in the head") {
  // Probabilities 1/2, 1/4, 1/8, 1/8 and a uniform layer.
  const auto l = [](double p) { return static_cast<float>(std::log(p)); };
  const Case c{.logits = {{{l(.125), l(.5), l(.25), l(.125)}}, {{2, 2, 2, 2}}},
               .watched = {{kNoToken, 3, 2}},
               .top_k = 4,
               .groups = {0, 1, 1, 0},
               .num_groups = 2};
  for (const Tested& tested : usable_kernels()) {
    if (tested.bits() == 8) continue;  // holds no logarithms of these probabilities
    INFO(tested);
    const auto out = decoded(tested, c);
    CHECK(out.watched == std::vector<TokenId>{1, 3, 2});
    CHECK(out.top_ids == std::vector<TokenId>{1, 2, 0, 3, 0, 1, 2, 3});
    CHECK(out.watched_ranks == std::vector<std::int64_t>{1, 3, 2, 1, 1, 1});
    CHECK(out.log_sum_exp[0] == Approx(0).margin(1e-6));
    CHECK(out.log_sum_exp[1] == Approx(2 + std::log(4)));
    CHECK(out.entropy[0] == Approx(1.75 * std::log(2)));
    CHECK(out.entropy[1] == Approx(std::log(4)));
    CHECK(out.kl_final[1] == Approx(0.25 * std::log(2)));
    CHECK(out.kl_reverse[1] == Approx(0.25 * std::log(2)));
    CHECK(out.group_mass[0] == Approx(0.25));
    CHECK(out.group_mass[1] == Approx(0.75));
    CHECK(out.group_mass[2] == Approx(0.5));
  }
  check_case(c);
}

TEST_CASE("kernels: vocabularies of every awkward size, with ties everywhere") {
  for (const std::size_t V : {1, 2, 3, 15, 16, 17, 31, 33, 100, 1023, 1024, 1025, 2047, 2049, 3000, 4100}) {
    const auto last = static_cast<TokenId>(V - 1), middle = static_cast<TokenId>(V / 2);
    Case c{.logits = {},
           .watched = {{kNoToken, 0, last}, {kNoToken, middle, kNoToken}},
           .top_k = std::min<std::int64_t>(7, static_cast<std::int64_t>(V))};
    for (std::uint32_t s = 0; s < 3; ++s) c.logits.push_back({tied_logits(V, s), tied_logits(V, 10 + s)});
    for (std::size_t v = 0; v < V; ++v) c.groups.push_back(static_cast<std::uint8_t>(v * 7 % 5 % 4));
    c.num_groups = 4;
    check_case(c);
  }
}

TEST_CASE("kernels: all of the vocabulary as top K") {
  for (const std::size_t V : {1, 5, 17, 130}) {
    Case c{.logits = {{tied_logits(V, 1)}, {smooth_logits(V, 2, 3)}},
           .watched = {{kNoToken, 0}},
           .top_k = static_cast<std::int64_t>(V)};
    check_case(c);
  }
}

TEST_CASE("kernels: more of the top K than one tile holds") {
  Case c{.logits = {{tied_logits(2600, 1)}, {tied_logits(2600, 2)}},
         .watched = {{kNoToken, 2599}},
         .top_k = 2500};
  check_case(c);
}

TEST_CASE("kernels: a maximum that stands twice goes to the lower id, within a tile and across tiles") {
  const std::vector<std::pair<std::size_t, std::size_t>> places = {
      {0, 1}, {3, 19}, {15, 16}, {1023, 1024}, {5, 2999}, {2047, 2048}, {2998, 2999}};
  for (const auto& [lower, higher] : places) {
    std::vector<float> final_row = smooth_logits(3000, 5, 1), other = smooth_logits(3000, 6, 1);
    final_row[lower] = final_row[higher] = 9;
    other[lower] = other[higher] = 8;
    const auto a = static_cast<TokenId>(lower), b = static_cast<TokenId>(higher);
    const Case c{.logits = {{final_row}, {other}}, .watched = {{kNoToken, b, a}}, .top_k = 2};
    check_case(c);
    for (const Tested& tested : usable_kernels()) {
      INFO(tested << ": " << lower << " and " << higher);
      const auto out = decoded(tested, c);
      CHECK(out.watched[0] == a);
      CHECK(out.top_ids == std::vector<TokenId>{a, b, a, b});
      CHECK(out.watched_ranks == std::vector<std::int64_t>{1, 1, 1, 1, 1, 1});  // both have rank 1
    }
  }
}

/// log(e^a + e^b)
double log_of_sum(double a, double b) {
  const double most = std::max(a, b);
  return std::isinf(most) ? most : most + std::log(std::exp(a - most) + std::exp(b - most));
}

TEST_CASE("kernels: sums of probability are those of float64, and none of them vanishes") {
  const std::size_t V = 1100, P = 19;
  // Spread so far that most probabilities of the second state are beyond float32, and many beyond float64.
  Case given{.logits = {{}, {}, {}}, .watched = {}, .top_k = 1};
  for (std::uint32_t p = 0; p < P; ++p) {
    given.logits[0].push_back(smooth_logits(V, p, 2));
    given.logits[1].push_back(smooth_logits(V, 100 + p, 400));
    given.logits[2].push_back(smooth_logits(V, 200 + p, 30));
    given.watched.push_back({kNoToken});
  }
  for (const Tested& tested : usable_kernels()) {
    INFO(tested);
    const Case c = rounded(given, tested.bits());
    compute::ProbabilitySums sums(3, static_cast<std::int64_t>(V));
    // Once from logits that are kept, once from logits that are made again.
    for (const std::uint64_t memory : {std::uint64_t{1} << 30, std::uint64_t{0}})
      decoded(tested, c, {}, &sums, memory);
    const double* found = sums.sums.const_data_ptr<double>();
    const double* found_small = sums.log_small.const_data_ptr<double>();
    double worst = 0, worst_log = 0;
    for (std::size_t s = 0; s < 3; ++s) {
      std::vector<double> expected(V), logs(V, -std::numeric_limits<double>::infinity());
      for (const std::vector<float>& row : c.logits[s]) {
        double unused;
        const std::vector<double> q = log_probabilities(row, unused);
        for (std::size_t v = 0; v < V; ++v) {
          expected[v] += 2 * std::exp(q[v]);
          logs[v] = log_of_sum(logs[v], q[v] + std::log(2));
        }
      }
      double total = 0;
      for (std::size_t v = 0; v < V; ++v) {
        const double sum = found[s * V + v] + std::exp(found_small[s * V + v]);
        const double log = std::isnormal(sum) ? std::log(sum) : found_small[s * V + v];
        total += sum;
        worst = std::max(worst, std::abs(sum - expected[v]));
        worst_log = std::max(worst_log, std::abs(log - logs[v]));
      }
      CHECK(total == Approx(2 * P).epsilon(1e-6));
    }
    CHECK(worst < 1e-5);
    CHECK(worst_log < 1e-4);  // nats; float32 logits of 1,000
  }
}

TEST_CASE("kernels: probabilities add up to 1 where products are rounded") {
  // Weights and states that no kernel of bfloat16 holds: what is summed and what it is divided by must come
  // from the same products.
  const std::int64_t V = 5001, d = 48, S = 3, P = 19;
  at::manual_seed(3);
  Unembedding head;
  head.weight = at::randn({V, d});
  head.bias = at::randn({V});
  const at::Tensor rows = at::randn({S * P, d}) * 3;
  Case c{.logits = std::vector<std::vector<std::vector<float>>>(S, std::vector<std::vector<float>>(P)),
         .watched = std::vector<std::vector<TokenId>>(P, {kNoToken}),
         .top_k = 1};
  const at::Tensor logits = at::mm(rows.to(at::kDouble), head.weight.to(at::kDouble).t()) + head.bias;
  const at::Tensor expected = logits.softmax(1).view({S, P, V}).sum(1);
  for (const Tested& tested : usable_kernels()) {
    INFO(tested);
    compute::ProbabilitySums sums(S, V), again(S, V);
    decoded(tested, head, c, rows, &sums);
    decoded(tested, head, c, rows, &again, 0);
    if (tested.name != "aten" && tested.device == "cpu") CHECK(at::equal(sums.sums, again.sums));
    for (std::int64_t s = 0; s < S; ++s)
      CHECK(sums.sums[s].sum().item<double>() == Approx(static_cast<double>(P)).epsilon(1e-6));
    const double error = (sums.sums - expected).abs().max().item<double>();
    CHECK(error < (tested.bits() == 8 ? 0.5 : tested.bits() == 16 ? 1e-3 : 1e-4));
  }
}

TEST_CASE("kernels: all logits equal") {
  for (const std::size_t V : {1, 40, 2100}) {
    const auto last = static_cast<TokenId>(V - 1);
    const std::vector<float> flat(V, -3.25F);
    Case c{.logits = {{flat}, {flat}, {std::vector<float>(V, 7)}}, .watched = {{kNoToken, last}}, .top_k = 1};
    check_case(c);
  }
}

TEST_CASE("kernels: the maximum grows tile by tile, or comes first") {
  const std::size_t V = 5000;
  std::vector<float> rising, falling;
  for (std::size_t v = 0; v < V; ++v) {
    rising.push_back(static_cast<float>(v) * 0.01F);
    falling.push_back(static_cast<float>(V - v) * 0.01F);
  }
  Case c{.logits = {{rising}, {falling}, {rising}},
         .watched = {{kNoToken, 0, static_cast<TokenId>(V - 1), 2500}},
         .top_k = 10};
  for (std::size_t v = 0; v < V; ++v) c.groups.push_back(v < 100 ? 1 : v < 4000 ? 0 : 2);
  c.num_groups = 3;
  check_case(c, 5e-5);
  std::swap(c.logits[0], c.logits[1]);
  check_case(c, 5e-5);
}

TEST_CASE("kernels: the maximum grows by more than sums can hold at once") {
  const std::size_t V = 5000;
  const std::vector<float> smooth = smooth_logits(V, 3, 2);
  for (const float stair : {30.0F, 90.0F}) {
    std::vector<float> stairs = smooth;
    for (std::size_t v = 0; v < V; ++v) stairs[v] += stair * static_cast<float>(v / 90 % 11);
    Case c{.logits = {{smooth}, {stairs}}, .watched = {{kNoToken, 0, 4321}}, .top_k = 10};
    for (std::size_t v = 0; v < V; ++v) c.groups.push_back(v % 7 == 0 ? 1 : v % 3 == 0 ? 2 : 0);
    c.num_groups = 3;
    check_case(c, 1e-4);
    std::swap(c.logits[0], c.logits[1]);
    check_case(c, 1e-4);
  }
}

TEST_CASE("kernels: logits far apart, and large ones") {
  // e^-200 is 0 in float32, and its logarithm must not be.
  std::vector<float> sure(1500, -100), other(1500, 0);
  sure[1200] = 100;
  other[3] = 300;
  check_case({.logits = {{sure}, {other}}, .watched = {{kNoToken, 3, 1200}}, .top_k = 2}, 1e-4);
  std::vector<float> large = smooth_logits(1500, 8, 2);
  for (float& z : large) z += 4096;
  check_case({.logits = {{smooth_logits(1500, 9, 2)}, {large}}, .watched = {{kNoToken, 7}}, .top_k = 5},
             1e-4);
}

TEST_CASE("kernels: random rows, several positions, every statistic") {
  for (const std::size_t V : {67, 1500, 4099}) {
    Case c{.logits = {}, .watched = {}, .top_k = 10};
    for (std::uint32_t s = 0; s < 4; ++s) {
      auto& state = c.logits.emplace_back();
      for (std::uint32_t p = 0; p < 5; ++p)
        state.push_back(smooth_logits(V, 100 * s + p, 1.F + static_cast<float>(s)));
    }
    for (TokenId p = 0; p < 5; ++p) c.watched.push_back({kNoToken, p % 2 == 0 ? kNoToken : p, 11 * p});
    for (std::size_t v = 0; v < V; ++v)
      c.groups.push_back(static_cast<std::uint8_t>(v < 10 ? 0 : v < 60 ? 1 : 2));
    c.num_groups = 3;
    check_case(c);
  }
}

TEST_CASE("kernels: more watched tokens than a tile holds, some of them at every position") {
  const std::size_t V = 1500, P = 37, W = 60;
  Case c{.logits = {{}, {}}, .watched = {}, .top_k = 1};
  for (std::uint32_t p = 0; p < P; ++p) {
    c.logits[0].push_back(smooth_logits(V, p, 1));
    c.logits[1].push_back(smooth_logits(V, 100 + p, 2));
    std::vector<TokenId>& watched = c.watched.emplace_back(1, kNoToken);
    for (std::uint32_t w = 1; w < W; ++w)
      watched.push_back(w == 7 ? kNoToken : static_cast<TokenId>(w < 20 ? 1400 - w : (w * 37 + p * 101) % V));
  }
  check_case(c);
}

TEST_CASE("kernels: no watched token besides the final top-1") {
  check_case({.logits = {{smooth_logits(100, 1, 1)}, {smooth_logits(100, 2, 1)}},
              .watched = {{kNoToken}},
              .top_k = 1});
  check_case(
      {.logits = {{smooth_logits(100, 1, 1)}}, .watched = {{kNoToken, kNoToken, kNoToken}}, .top_k = 1});
}

TEST_CASE("kernels: groups without a token have no mass, one group has all") {
  Case c{
      .logits = {{smooth_logits(50, 1, 2)}, {smooth_logits(50, 2, 2)}}, .watched = {{kNoToken}}, .top_k = 1};
  c.groups.assign(50, 2);
  c.num_groups = 4;
  check_case(c);
}

TEST_CASE("kernels: the unembedding's bias is part of the logits") {
  const std::int64_t V = 40;
  const at::Tensor bias = at::arange(V, at::kFloat).mul(0.25);
  Case c{.logits = {{smooth_logits(40, 1, 1)}, {smooth_logits(40, 2, 1)}},
         .watched = {{kNoToken, 3}},
         .top_k = 4};
  for (const Tested& tested : usable_kernels()) {
    INFO(tested);
    Case taken = rounded(c, tested.bits());
    const auto out = decoded(tested, taken, bias);
    for (auto& state : taken.logits) {
      for (std::size_t v = 0; v < 40; ++v) state[0][v] += 0.25F * static_cast<float>(v);
    }
    for (std::size_t s = 0; s < 2; ++s) {
      const Expected e = expected_of(taken, s, 0);
      CHECK(out.log_sum_exp[s] == Approx(e.log_sum_exp).margin(5e-6));
      CHECK(out.kl_final[s] == Approx(e.kl_final).margin(5e-6));
      CHECK(std::vector<TokenId>(out.top_ids.begin() + static_cast<std::ptrdiff_t>(4 * s),
                                 out.top_ids.begin() + static_cast<std::ptrdiff_t>(4 * s + 4)) == e.top_ids);
      CHECK(out.watched_ranks[2 * s + 1] == e.ranks[1]);
    }
  }
}

/// Random states against random weights of a stored type: what a model has.
struct Products {
  Case c;  // its logits are those of the rows and weights, rounded from float64
  Unembedding head;
  at::Tensor rows;  // [S · P, d]

  Products(std::int64_t d, std::int64_t V, at::ScalarType stored, std::int64_t S, std::int64_t P) {
    at::manual_seed(static_cast<std::uint64_t>(d + V));
    head.weight = at::randn({V, d}, at::kFloat).mul_(0.2).to(stored);
    head.bias = at::randn({V}, at::kFloat);
    rows = at::randn({S * P, d}, at::kFloat);
    rows.select(1, 0).mul_(3);  // a dimension of large values, as trained models have
    const at::Tensor logits =
        at::mm(rows.to(at::kDouble), head.weight.to(at::kDouble).t()).add_(head.bias).to(at::kFloat);
    const float* next = logits.const_data_ptr<float>();
    for (std::int64_t s = 0; s < S; ++s) {
      auto& state = c.logits.emplace_back();
      for (std::int64_t p = 0; p < P; ++p, next += V) state.emplace_back(next, next + V);
    }
    for (TokenId p = 0; p < P; ++p)
      c.watched.push_back({kNoToken, static_cast<TokenId>((p * 37 + 5) % V), static_cast<TokenId>(p % V)});
    c.top_k = 10;
  }
};

TEST_CASE("kernels: products of states and weights of every stored type and awkward size") {
  for (const at::ScalarType stored : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const auto& [d, V, P] : {std::array{1, 10, 1}, {31, 333, 7}, {96, 1500, 33}, {130, 2100, 13}}) {
      const Products products(d, V, stored, 3, P);
      const Case& c = products.c;
      for (const Tested& tested : usable_kernels()) {
        if (tested.precision == compute::Precision::kFast) continue;  // its error depends on the numbers
        INFO(tested << ": " << at::toString(stored) << ", d " << d << ", V " << V << ", P " << P);
        const auto out = decoded(tested, products.head, c, products.rows);
        double worst = 0, worst_rank = 0;
        for (std::size_t s = 0; s < c.logits.size(); ++s) {
          for (std::size_t p = 0; p < c.logits[s].size(); ++p) {
            const Expected e = expected_of(c, s, p);
            const std::size_t row = s * c.logits[s].size() + p;
            worst =
                std::max({worst, std::abs(out.log_sum_exp[row] - e.log_sum_exp),
                          std::abs(out.entropy[row] - e.entropy), std::abs(out.kl_final[row] - e.kl_final),
                          std::abs(out.kl_reverse[row] - e.kl_reverse)});
            for (std::size_t k = 0; k < 10; ++k)
              worst = std::max(worst, std::abs(out.top_logits[row * 10 + k] - e.top_logits[k]));
            for (std::size_t w = 0; w < 3; ++w) {
              worst = std::max(worst, std::abs(out.watched_logits[row * 3 + w] - e.watched_logits[w]));
              // As many ranks apart at most as there are logits within the accuracy of this one.
              const auto& logits = c.logits[s][p];
              const auto near = std::count_if(logits.begin(), logits.end(), [&](float z) {
                return std::abs(z - e.watched_logits[w]) < 1e-3;
              });
              worst_rank = std::max(
                  worst_rank, std::abs(static_cast<double>(out.watched_ranks[row * 3 + w] - e.ranks[w])) -
                                  static_cast<double>(near - 1));
            }
            // The row's own top-1 has rank 1 at the final layer.
            if (s == 0) CHECK(out.watched_ranks[row * 3] == 1);
          }
        }
        CHECK(worst < 5e-4);
        CHECK(worst_rank <= 0);
      }
    }
  }
}

TEST_CASE("kernels: logits that are scaled and capped") {
  const std::int64_t d = 40, V = 1300, S = 3, P = 9;
  at::manual_seed(11);
  Unembedding head;
  head.weight = at::randn({V, d}, at::kFloat).mul_(0.5);
  head.bias = at::randn({V}, at::kFloat);
  const at::Tensor rows = at::randn({S * P, d}, at::kFloat);
  const at::Tensor plain = at::mm(rows.to(at::kDouble), head.weight.to(at::kDouble).t()) + head.bias;
  for (const double scale : {1.0, 0.0625}) {
    for (const double cap : {0.0, 30.0, 2.5}) {
      head.transform = {.scale = scale, .soft_cap = cap};
      const at::Tensor scaled = plain * scale, logits = cap > 0 ? (scaled / cap).tanh() * cap : scaled;
      const at::Tensor logprobs = logits.log_softmax(1).view({S, P, V});
      const at::Tensor p = logprobs.exp(), f = p.select(0, 0), final_logprobs = logprobs.select(0, 0);
      const at::Tensor entropy = -(p * logprobs).sum(2), kl = (f * (final_logprobs - logprobs)).sum(2);
      Case c{.logits = std::vector<std::vector<std::vector<float>>>(S, std::vector<std::vector<float>>(P)),
             .watched = std::vector<std::vector<TokenId>>(P, {kNoToken, 77}),
             .top_k = 1};
      for (const Tested& tested : usable_kernels()) {
        if (tested.bits() == 8) continue;
        INFO(tested << ", scale " << scale << ", cap " << cap);
        const auto out = decoded(tested, head, c, rows);
        double worst = 0;
        for (std::int64_t row = 0; row < S * P; ++row) {
          const std::int64_t s = row / P, at = row % P;
          const auto i = static_cast<std::size_t>(row);
          worst = std::max({worst, std::abs(out.entropy[i] - entropy[s][at].item<double>()),
                            std::abs(out.kl_final[i] - kl[s][at].item<double>()),
                            std::abs(out.watched_logits[2 * i + 1] - logits[row][77].item<double>()),
                            std::abs(out.top_logits[i] - logits[row].max().item<double>())});
        }
        CHECK(worst < 5e-4);  // as of logits without a transform
      }
    }
  }
}

TEST_CASE("kernels: a row has the same bits alone and among others, on one thread and on many") {
  const int before = compute::num_threads();
  constexpr std::size_t kPositions = 70;
  // Few of the best tokens, and so many that what is kept of them would be too much for a chunk.
  for (const auto& [num_tokens, top_k] : {std::pair<std::int64_t, std::int64_t>{1500, 10}, {9000, 7000}}) {
    Products products(96, num_tokens, at::kFloat, 3, kPositions);
    products.c.top_k = top_k;
    const auto K = static_cast<std::size_t>(top_k);
    for (const Tested& tested : usable_kernels()) {
      if (tested.name == "aten" || tested.device != "cpu")
        continue;  // libtorch's products promise no such thing
      INFO(tested << ", " << num_tokens << " tokens");
      compute::set_threads(7);
      const auto together = decoded(tested, products.head, products.c, products.rows);
      compute::set_threads(1);
      for (std::size_t p = 0; p < kPositions; p += 9) {
        Case alone = products.c;
        for (auto& state : alone.logits) state = {state[p]};
        alone.watched = {alone.watched[p]};
        const at::Tensor rows =
            products.rows.view({3, kPositions, 96}).select(1, static_cast<std::int64_t>(p)).contiguous();
        const auto out = decoded(tested, products.head, alone, rows);
        for (std::size_t s = 0; s < 3; ++s) {
          const std::size_t row = s * kPositions + p;
          CHECK(out.log_sum_exp[s] == together.log_sum_exp[row]);
          CHECK(out.entropy[s] == together.entropy[row]);
          CHECK(out.kl_final[s] == together.kl_final[row]);
          CHECK(out.kl_reverse[s] == together.kl_reverse[row]);
          for (std::size_t k = 0; k < K; k += 7) {
            CHECK(out.top_ids[s * K + k] == together.top_ids[row * K + k]);
            CHECK(out.top_logits[s * K + k] == together.top_logits[row * K + k]);
          }
          for (std::size_t w = 0; w < 3; ++w)
            CHECK(out.watched_ranks[s * 3 + w] == together.watched_ranks[row * 3 + w]);
        }
      }
    }
  }
  compute::set_threads(before);
}

}  // namespace
}  // namespace depthlens
