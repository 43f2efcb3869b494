// The pass of cards and its statistics with the processor in the card's place: products by libtorch, the
// kernels emulated. Logits are exact, so that all kernels must find the same.
#include "compute/cuda/cuda_statistics.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <limits>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "compute/aten/aten_backend.hpp"
#include "compute/cuda/cuda_backend.hpp"
#include "compute/reducer.hpp"
#include "depthlens/compute/log_probabilities.hpp"
#include "depthlens/compute/log_sum_exp.hpp"
#include "depthlens/compute/statistics.hpp"
#include "support/check_error.hpp"
#include "support/plain_kernels.hpp"

namespace depthlens {

namespace test {
template <int states, int bias, int transform>
void reduce_on_processor(const void* work);
template <>
void reduce_on_processor<1, 0, 0>(const void* work);
template <>
void reduce_on_processor<4, 0, 0>(const void* work);
template <>
void reduce_on_processor<4, 0, 2>(const void* work);
template <>
void reduce_on_processor<4, 1, 0>(const void* work);
template <>
void reduce_on_processor<4, 1, 1>(const void* work);
template <>
void reduce_on_processor<4, 1, 2>(const void* work);
void soften_on_processor(const void* work);
}  // namespace test

namespace {

using compute::Precision;
using compute::Unembedding;

using Variant = compute::cuda::ReduceVariant;
using Transform = Variant::Transform;

/// The emulated form of the reduction, or nullptr.
void (*emulated(const Variant& variant))(const void*) {
  const std::pair<Variant, void (*)(const void*)> all[] = {
      {{1, 4}, test::reduce_on_processor<1, 0, 0>},
      {{4, 4}, test::reduce_on_processor<4, 0, 0>},
      {{4, 4, false, Transform::kSoftCap}, test::reduce_on_processor<4, 0, 2>},
      {{4, 4, true}, test::reduce_on_processor<4, 1, 0>},
      {{4, 4, true, Transform::kScale}, test::reduce_on_processor<4, 1, 1>},
      {{4, 4, true, Transform::kSoftCap}, test::reduce_on_processor<4, 1, 2>}};
  for (const auto& [form, function] : all) {
    if (form == variant) return function;
  }
  return nullptr;
}

struct Processor : test::PlainKernels {
  int launches = 0;
  std::vector<Variant> reductions;                                    // launched
  bool softens = true;                                                // whether it has that kernel
  std::int64_t most_rows = std::numeric_limits<std::int64_t>::max();  // that its memory holds

  bool has_reduction(const Variant& variant) override { return emulated(variant) != nullptr; }
  void reduce(const Variant& variant, const compute::cuda::ReduceWork& work) override {
    ++launches;
    reductions.push_back(variant);
    emulated(variant)(&work);
  }
  bool has_softening() override { return softens; }
  void soften(const compute::cuda::SoftenWork& work) override {
    ++launches;
    test::soften_on_processor(&work);
  }
  void multiply(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add) override {
    TORCH_CHECK_WITH(OutOfMemoryError, a.size(0) <= most_rows, "no memory");
    PlainKernels::multiply(out, a, b, add);
  }
};

struct Shape {
  std::int64_t states = 6, positions = 3, vocab = 5003, top_k = 7;
  std::int64_t num_groups = 4;
};

/// Numbers that one term holds, and whose products are exact: with many ties.
Unembedding exact_unembedding(std::int64_t vocab, at::ScalarType type) {
  Unembedding unembedding;
  unembedding.weight = at::randint(-9, 10, {vocab, 12}, at::kFloat).div_(4).to(type);
  return unembedding;
}

compute::StatisticsInput exact_input(const Shape& shape) {
  compute::StatisticsInput input;
  input.rows = at::randint(-9, 10, {shape.states * shape.positions, 12}, at::kFloat).div_(8);
  input.num_states = shape.states;
  input.num_positions = shape.positions;
  input.top_k = shape.top_k;
  input.num_watched = 3;
  const auto last = static_cast<compute::TokenId>(shape.vocab - 1);
  for (std::int64_t p = 0; p < shape.positions; ++p) {
    for (const compute::TokenId token :
         {compute::kNoToken, static_cast<compute::TokenId>(p * 997 % shape.vocab),
          p == 1 ? compute::kNoToken : last})
      input.watched.push_back(token);
  }
  return input;
}

std::vector<std::uint8_t> groups_of(const Shape& shape) {
  std::vector<std::uint8_t> groups;
  for (std::int64_t v = 0; v < shape.vocab && shape.num_groups > 0; ++v)
    groups.push_back(static_cast<std::uint8_t>(v * 7 % 11 % shape.num_groups));
  return groups;
}

void check_near(const std::vector<double>& found, const std::vector<double>& expected, double margin) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    INFO("value " << i);
    CHECK(found[i] == Approx(expected[i]).margin(margin));
  }
}

/// All but the ranks; `margin`: of single logits.
void check_same_numbers(const compute::Statistics& found, const compute::Statistics& expected,
                        double margin) {
  CHECK(found.watched == expected.watched);
  CHECK(found.top_ids == expected.top_ids);
  check_near(found.top_logits, expected.top_logits, margin);
  check_near(found.watched_logits, expected.watched_logits, margin);
  check_near(found.log_sum_exp, expected.log_sum_exp, 2e-6);
  check_near(found.entropy, expected.entropy, 5e-6);
  check_near(found.kl_final, expected.kl_final, 5e-6);
  check_near(found.kl_reverse, expected.kl_reverse, 5e-6);
  check_near(found.group_mass, expected.group_mass, 1e-6);
}

void check_same(const compute::Statistics& found, const compute::Statistics& expected) {
  check_same_numbers(found, expected, 0);
  CHECK(found.top_logits == expected.top_logits);
  CHECK(found.watched_ranks == expected.watched_ranks);
}

/// Ranks among all logits [R, V], where those that differ by the rounding of a soft cap may be taken for
/// equal ones.
void check_ranks(const compute::Statistics& found, const at::Tensor& logits) {
  const std::size_t R = static_cast<std::size_t>(logits.size(0)), RW = found.watched_ranks.size(), W = RW / R;
  for (std::size_t i = 0; i < RW; ++i) {
    INFO("rank " << i);
    const compute::TokenId token = found.watched[i % found.watched.size()];
    const std::int64_t rank = found.watched_ranks[i];
    if (token == compute::kNoToken) {
      CHECK(rank == 0);
      continue;
    }
    const at::Tensor row = logits[static_cast<std::int64_t>(i / W)], away = row - row[token];
    CHECK(rank > away.gt(1e-6).sum().item<std::int64_t>());
    CHECK(rank <= away.ge(-1e-6).sum().item<std::int64_t>());
  }
}

TEST_CASE("cuda statistics: those of libtorch's operations, for every stored type and precision") {
  at::manual_seed(11);
  for (const auto& [type, precision] : {std::pair{at::kFloat, Precision::kFloat32},
                                        {at::kBFloat16, Precision::kExact},
                                        {at::kHalf, Precision::kFast}}) {
    INFO(at::toString(type) << ", " << compute::cuda::row_terms(precision) << " terms");
    const Shape shape;
    const Unembedding unembedding = exact_unembedding(shape.vocab, type);
    const compute::StatisticsInput input = exact_input(shape);
    const auto groups = groups_of(shape);
    const auto expected =
        compute::StatisticsDecoder(*compute::make_aten_pass(unembedding), groups, shape.num_groups)
            .decode(input);
    const auto card = std::make_shared<Processor>();
    const auto pass = compute::make_cuda_pass(card, precision, unembedding, 0);
    const auto found = compute::StatisticsDecoder(*pass, groups, shape.num_groups).decode(input);
    check_same(found, expected);
    // The final layer, then tiles of 2,048.
    CHECK((card->reductions == std::vector<Variant>{{1, 4}, {4, 4}, {4, 4}, {4, 4}}));
    for (std::size_t p = 0; p < 3; ++p) {
      CHECK(found.kl_final[p] == 0);
      CHECK(found.kl_reverse[p] == 0);
    }
  }
}

TEST_CASE("cuda statistics: awkward sizes, a bias, a soft cap, no groups, the final layer alone") {
  at::manual_seed(12);
  struct Case {
    Shape shape;
    bool bias;
    double scale, soft_cap;
    Variant others;
  };
  for (const Case& c :
       {Case{{.vocab = 1, .top_k = 1}, false, 1, 0, {4, 4}},
        Case{{.vocab = 9, .top_k = 9}, true, 1, 0, {4, 4, true}},
        Case{{.states = 1, .vocab = 2500}, true, 0.5, 6, {4, 4, true, Transform::kSoftCap}},
        Case{{.states = 2, .positions = 1, .vocab = 2051, .num_groups = 0},
             true,
             0.5,
             0,
             {4, 4, true, Transform::kScale}},
        Case{{.states = 3, .vocab = 2055}, false, 1, 3, {4, 4, false, Transform::kSoftCap}},
        Case{{.states = 5, .vocab = 4096}, true, 0.25, 6, {4, 4, true, Transform::kSoftCap}}}) {
    INFO(c.shape.vocab << " tokens, " << c.shape.states << " states");
    Unembedding unembedding = exact_unembedding(c.shape.vocab, at::kBFloat16);
    if (c.bias) unembedding.bias = at::randint(-9, 10, {c.shape.vocab}, at::kFloat).div_(8);
    unembedding.transform = {.scale = c.scale, .soft_cap = c.soft_cap};
    const compute::StatisticsInput input = exact_input(c.shape);
    const auto groups = groups_of(c.shape);
    const auto expected =
        compute::StatisticsDecoder(*compute::make_aten_pass(unembedding), groups, c.shape.num_groups)
            .decode(input);
    const auto card = std::make_shared<Processor>();
    const auto pass = compute::make_cuda_pass(card, Precision::kExact, unembedding, 0);
    const auto found = compute::StatisticsDecoder(*pass, groups, c.shape.num_groups).decode(input);
    // The final layer's logits are finished before, those of others by the kernel.
    REQUIRE(!card->reductions.empty());
    CHECK(card->reductions[0] == Variant{1, 4});
    for (std::size_t i = 1; i < card->reductions.size(); ++i) CHECK(card->reductions[i] == c.others);
    CHECK((card->reductions.size() == 1) == (c.shape.states == 1));
    if (c.soft_cap == 0) {
      check_same(found, expected);
      continue;
    }
    check_same_numbers(found, expected, 1e-6);
    const auto plain = compute::make_aten_pass(unembedding);
    check_ranks(found, compute::logits(*plain, plain->pack(input.rows, c.shape.states)));
  }
}

TEST_CASE("cuda pass: logits of tokens are those of the walk, however few positions are taken at once") {
  at::manual_seed(17);
  Unembedding unembedding;
  unembedding.weight = at::randint(-9, 10, {300, 16}, at::kFloat).div_(4).to(at::kBFloat16);
  unembedding.bias = at::randint(-9, 10, {300}, at::kFloat).div_(8);
  unembedding.transform = {.scale = 0.125, .soft_cap = 20};
  constexpr std::int64_t S = 2, P = 23, W = 40;
  const at::Tensor rows = at::randint(-9, 10, {S * P, 16}, at::kFloat).div_(8),
                   tokens = at::randint(-1, 300, {P, W}, at::kInt);
  const std::vector<compute::TokenId> listed(tokens.const_data_ptr<int>(),
                                             tokens.const_data_ptr<int>() + tokens.numel());
  const auto pass = compute::make_cuda_pass(std::make_shared<Processor>(), Precision::kExact, unembedding, 0);
  const compute::StateRows packed = pass->pack(rows, S);
  const auto check = [&](const compute::StateRows& some) {
    const at::Tensor found = pass->gather(some, listed);
    const at::Tensor all = compute::logits(*pass, some).view({some.num_states, P, 300});
    const at::Tensor ids = tokens.clamp_min(0).to(at::kLong).expand({some.num_states, P, W});
    CHECK(at::equal(found, all.gather(2, ids)));
  };
  check(packed);
  check(packed.states(1, 1));
}

TEST_CASE("device tiles: logits are made once, of products that are no more to be had then") {
  int times = 0;
  compute::DeviceTile tile(at::ones({2, 3}), 5, [&](at::Tensor& products) {
    ++times;
    products.mul_(2);
  });
  CHECK(tile.num_rows() == 2);
  CHECK(tile.width() == 3);
  CHECK(at::equal(tile.products(), at::ones({2, 3})));
  CHECK(times == 0);
  for (int i = 0; i < 2; ++i) CHECK(at::equal(tile.logits(), at::full({2, 3}, 2)));
  CHECK(times == 1);
  CHECK_THROWS_AS(tile.products(), std::logic_error);
  CHECK_THROWS_AS(compute::DeviceTile(at::ones({2, 3}), 0).products(), std::logic_error);
}

TEST_CASE("cuda kernels: variants differ in every member, and none is for too many tokens") {
  std::set<Variant> variants;
  for (const int states : {1, 4}) {
    for (const bool bias : {false, true}) {
      for (const auto transform : {Transform::kNone, Transform::kScale, Transform::kSoftCap})
        variants.insert({states, 4, bias, transform});
    }
  }
  CHECK(variants.size() == 12);
  using compute::cuda::ReduceForms;
  const Unembedding head = exact_unembedding(9, at::kFloat);
  CHECK(ReduceForms::of(32, 32, head, false));
  CHECK(!ReduceForms::of(33, 32, head, false));
  CHECK(!ReduceForms::of(32, 33, head, false));
}

TEST_CASE("cuda statistics: sums of probabilities, logits kept and not") {
  at::manual_seed(13);
  const Shape shape{.states = 3};
  Unembedding unembedding = exact_unembedding(shape.vocab, at::kBFloat16);
  unembedding.bias = at::randint(-9, 10, {shape.vocab}, at::kFloat).div_(8);
  unembedding.transform = {.scale = 0.5, .soft_cap = 4};
  const compute::StatisticsInput input = exact_input(shape);
  const auto of = [&](const compute::VocabularyPass& pass, std::uint64_t memory) {
    compute::ProbabilitySums sums(shape.states, shape.vocab);
    compute::StatisticsDecoder(pass, {}, 0, memory).decode(input, &sums);
    return sums;
  };
  const at::Tensor expected = of(*compute::make_aten_pass(unembedding), 1 << 30).sums;
  for (const std::uint64_t memory : {std::uint64_t{0}, std::uint64_t{1} << 30}) {
    const auto card = std::make_shared<Processor>();
    const auto pass = compute::make_cuda_pass(card, Precision::kExact, unembedding, 0);
    const at::Tensor found = of(*pass, memory).sums;
    // Kept logits are finished, so the kernel must not.
    CHECK(card->reductions.at(1) == (memory > 0 ? Variant{4, 4} : Variant{4, 4, true, Transform::kSoftCap}));
    CHECK((found - expected).abs().max().item<double>() < 1e-7);
    CHECK(found.sum().item<double>() == Approx(9).margin(1e-5));
  }
}

TEST_CASE("cuda statistics: more best tokens than the kernel keeps are found without it") {
  at::manual_seed(14);
  const Shape shape{.states = 2, .vocab = 3001, .top_k = 33};
  const Unembedding unembedding = exact_unembedding(shape.vocab, at::kFloat);
  const compute::StatisticsInput input = exact_input(shape);
  const auto card = std::make_shared<Processor>();
  const auto pass = compute::make_cuda_pass(card, Precision::kExact, unembedding, 0);
  const auto expected =
      compute::StatisticsDecoder(*compute::make_aten_pass(unembedding), {}, 0).decode(input);
  check_same(compute::StatisticsDecoder(*pass, {}, 0).decode(input), expected);
  CHECK(card->launches == 0);
}

TEST_CASE("cuda pass: log-sum-exp and expected rows, by the kernel and without it") {
  at::manual_seed(15);
  struct Case {
    at::ScalarType type = at::kFloat;
    Precision precision = Precision::kFloat32;
    std::int64_t vocab = 5003, num_gradients = 4;
    bool bias = false, token_scale = false;
    compute::LogitTransform transform = {};
    double gradient_error = 2e-6;
  };
  const Case cases[] = {{},
                        {.type = at::kBFloat16},
                        {.num_gradients = 0},
                        {.num_gradients = 11, .bias = true, .token_scale = true},
                        {.type = at::kHalf, .precision = Precision::kExact, .gradient_error = 2e-5},
                        {.precision = Precision::kFast, .vocab = 4096, .gradient_error = 5e-3},
                        {.vocab = 1},
                        {.vocab = 2049, .num_gradients = 7, .transform = {.scale = 0.25}},
                        {.bias = true, .token_scale = true, .transform = {.scale = 0.5, .soft_cap = 5}}};
  for (const Case& c : cases) {
    Unembedding unembedding = exact_unembedding(c.vocab, c.type);
    if (c.bias) unembedding.bias = at::randint(-9, 10, {c.vocab}, at::kFloat).div_(8);
    unembedding.transform = c.transform;
    const at::Tensor rows = at::randint(-9, 10, {11, 12}, at::kFloat).div_(8);
    const at::Tensor token_scale =
        c.token_scale ? at::randint(0, 9, {c.vocab}, at::kFloat).div_(8) : at::Tensor();
    const auto expected = compute::log_sum_exp(*compute::make_aten_pass(unembedding), rows.to(at::kDouble),
                                               c.num_gradients, token_scale);
    for (const bool softens : {true, false}) {
      INFO("case " << &c - cases << (softens ? "" : ", by libtorch's operations"));
      const auto card = std::make_shared<Processor>();
      card->softens = softens;
      const auto pass = compute::make_cuda_pass(card, c.precision, unembedding, 0);
      const auto found = compute::log_sum_exp(*pass, rows, c.num_gradients, token_scale);
      CHECK((found.value - expected.value).abs().max().item<double>() < 2e-6);
      REQUIRE(found.gradient.sizes() == expected.gradient.sizes());
      if (c.num_gradients > 0)
        CHECK((found.gradient - expected.gradient).abs().max().item<double>() < c.gradient_error);
      CHECK(at::equal(found.top, expected.top));
      // By tiles of 2,048.
      CHECK(card->launches == (softens ? (c.vocab + 2047) / 2048 : 0));
    }
  }
}

TEST_CASE("cuda pass: no rows at all") {
  const Unembedding unembedding = exact_unembedding(3000, at::kFloat);
  const auto pass = compute::make_cuda_pass(std::make_shared<Processor>(), Precision::kFast, unembedding, 0);
  const auto found = compute::log_sum_exp(*pass, at::zeros({0, 12}), 0);
  CHECK(found.value.size(0) == 0);
  CHECK(found.gradient.size(1) == 12);
}

TEST_CASE("cuda statistics: where memory does not suffice, nothing has been added to sums") {
  at::manual_seed(16);
  const Shape shape{.states = 4, .positions = 5, .vocab = 2100};
  const Unembedding unembedding = exact_unembedding(shape.vocab, at::kBFloat16);
  const compute::StatisticsInput input = exact_input(shape);
  const auto groups = groups_of(shape);
  const auto card = std::make_shared<Processor>();
  const auto pass = compute::make_cuda_pass(card, Precision::kExact, unembedding, 0);
  const compute::StatisticsDecoder decoder(*pass, groups, shape.num_groups);
  compute::ProbabilitySums sums(shape.states, shape.vocab);
  card->most_rows = 3 * 5 - 1;  // five positions beside the final layer
  CHECK_THROWS_AS(decoder.decode(input, &sums), c10::OutOfMemoryError);
  CHECK_FALSE(sums.sums.any().item<bool>());
  card->most_rows = 3 * 5;
  check_same(decoder.decode(input, &sums),
             compute::StatisticsDecoder(*compute::make_aten_pass(unembedding), groups, shape.num_groups)
                 .decode(input));
  CHECK(sums.sums.sum().item<double>() == Approx(4 * 5).epsilon(1e-6));
}

}  // namespace
}  // namespace depthlens
