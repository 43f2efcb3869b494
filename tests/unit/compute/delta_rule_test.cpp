// The gated delta rule by chunks, against the recurrence that defines it, position by position in float64.
#include "depthlens/compute/delta_rule.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "same_derivatives.hpp"

using namespace depthlens;

namespace {

/// As the rule takes them.
struct Arguments {
  at::Tensor queries, keys, values, updates, log_decays;
  std::vector<at::Tensor> all() const { return {queries, keys, values, updates, log_decays}; }
};

constexpr std::int64_t kChunks = 3, kWindows = 2, kGroups = 2, kHeads = 3, kChunk = 7, kKeySize = 5,
                       kValueSize = 4;

/// `decay`: the greatest that a logarithm can be below 0.
Arguments arguments(double decay) {
  const auto of = [](std::int64_t heads, std::int64_t size) {
    return at::randn({kChunks, kWindows, kGroups, heads, kChunk, size});
  };
  const auto unit = [](const at::Tensor& x) { return x / x.norm(2, {-1}, /*keepdim=*/true); };
  return {.queries = unit(of(1, kKeySize)),
          .keys = unit(of(1, kKeySize)),
          .values = of(kHeads, kValueSize),
          .updates = at::rand({kChunks, kWindows, kGroups, kHeads, kChunk, 1}),
          .log_decays = at::rand({kChunks, kWindows, kGroups, kHeads, kChunk, 1}) * -decay};
}

/// S ← e^g S, S ← S + β k (v − Sᵀ k)ᵀ, o = Sᵀ q, of each window and head by itself.
at::Tensor recurrence(const Arguments& given) {
  std::vector<at::Tensor> chunks;
  at::Tensor state = at::zeros({kWindows, kGroups, kHeads, kKeySize, kValueSize}, at::kDouble);
  for (std::int64_t c = 0; c < kChunks; ++c) {
    std::vector<at::Tensor> shown;
    for (std::int64_t t = 0; t < kChunk; ++t) {
      const auto at = [&](const at::Tensor& x) { return x.select(0, c).select(3, t).to(at::kDouble); };
      const at::Tensor key = at(given.keys).unsqueeze(-1), query = at(given.queries).unsqueeze(-1);
      state = state * at(given.log_decays).exp().unsqueeze(-1);
      const at::Tensor missing =
          at(given.values) - at::matmul(state.transpose(-1, -2), key).squeeze(-1);  // [.., value size]
      state = state + key * (at(given.updates) * missing).unsqueeze(-2);
      shown.push_back(at::matmul(state.transpose(-1, -2), query).squeeze(-1));
    }
    chunks.push_back(at::stack(shown, 3).flatten(0, 2));
  }
  return at::stack(chunks);
}

}  // namespace

TEST_CASE("the gated delta rule by chunks is the recurrence, and has its derivatives") {
  // Of states that hardly fade, and of such as are gone at the next position.
  for (const double decay : {0.01, 1.0, 200.0}) {
    INFO("logarithms of decays to −" << decay);
    Arguments given = arguments(decay);
    std::vector<at::Tensor> inputs = given.all();
    for (at::Tensor& input : inputs) input.set_requires_grad(true);
    const at::Tensor expected = recurrence(given);
    const at::Tensor found =
        compute::gated_delta_rule(given.queries, given.keys, given.values, given.updates, given.log_decays);
    test::check_same(found, expected, inputs);
  }
}
