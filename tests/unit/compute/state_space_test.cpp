// A state space by chunks, and a selective scan, against the recurrences that define them, position by
// position in float64.
#include "depthlens/compute/state_space.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "depthlens/compute/selective_scan.hpp"
#include "same_derivatives.hpp"

using namespace depthlens;
using test::check_same;

namespace {

constexpr std::int64_t kChunks = 3, kWindows = 2, kGroups = 2, kHeads = 3, kChunk = 7, kStateSize = 5,
                       kValueSize = 4;

/// S ← e^g S + b vᵀ, o = Sᵀ c, of each window and head by itself; the arguments are those of `state_space`.
at::Tensor recurrence(const std::vector<at::Tensor>& given) {
  std::vector<at::Tensor> chunks;
  at::Tensor state = at::zeros({kWindows, kGroups, kHeads, kStateSize, kValueSize}, at::kDouble);
  for (std::int64_t c = 0; c < kChunks; ++c) {
    std::vector<at::Tensor> shown;
    for (std::int64_t t = 0; t < kChunk; ++t) {
      const auto at = [&](std::size_t n) { return given[n].select(0, c).select(3, t).to(at::kDouble); };
      state = state * at(3).exp().unsqueeze(-1) + at(1).unsqueeze(-1) * at(2).unsqueeze(-2);
      shown.push_back(at::matmul(state.transpose(-1, -2), at(0).unsqueeze(-1)).squeeze(-1));
    }
    chunks.push_back(at::stack(shown, 3).flatten(0, 2));
  }
  return at::stack(chunks);
}

}  // namespace

TEST_CASE("a state space by chunks is the recurrence, and has its derivatives") {
  const auto of = [](std::int64_t heads, std::int64_t size) {
    return at::randn({kChunks, kWindows, kGroups, heads, kChunk, size});
  };
  // Of states that hardly fade, and of such as are gone at the next position.
  for (const double decay : {0.01, 1.0, 200.0}) {
    INFO("logarithms of decays to −" << decay);
    const at::Tensor log_decays = at::rand({kChunks, kWindows, kGroups, kHeads, kChunk, 1}) * -decay;
    std::vector<at::Tensor> inputs = {of(1, kStateSize), of(1, kStateSize), of(kHeads, kValueSize),
                                      log_decays};
    for (at::Tensor& input : inputs) input.set_requires_grad(true);
    check_same(compute::state_space(inputs[0], inputs[1], inputs[2], inputs[3]), recurrence(inputs), inputs);
  }
}

TEST_CASE("a selective scan is the recurrence, and has its derivatives") {
  constexpr std::int64_t T = 150, kChannels = 6, kNumbers = 5;
  for (const double rate : {0.01, 1.0, 200.0}) {
    INFO("rates to −" << rate);
    std::vector<at::Tensor> inputs = {at::rand({kWindows, T, kChannels}),
                                      at::rand({kChannels, kNumbers}) * -rate,
                                      at::randn({kWindows, T, kChannels}), at::randn({kWindows, T, kNumbers}),
                                      at::randn({kWindows, T, kNumbers})};
    for (at::Tensor& input : inputs) input.set_requires_grad(true);
    at::Tensor state = at::zeros({kWindows, kChannels, kNumbers}, at::kDouble);
    std::vector<at::Tensor> shown;
    for (std::int64_t t = 0; t < T; ++t) {
      const auto at = [&](std::size_t n) { return inputs[n].select(1, t).to(at::kDouble); };
      state = state * (at(0).unsqueeze(-1) * inputs[1].to(at::kDouble)).exp() +
              at(2).unsqueeze(-1) * at(3).unsqueeze(1);
      shown.push_back(at::matmul(state, at(4).unsqueeze(-1)).squeeze(-1));
    }
    check_same(compute::selective_scan(inputs[0], inputs[1], inputs[2], inputs[3], inputs[4]),
               at::stack(shown, 1), inputs);
  }
}
