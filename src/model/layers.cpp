// The operations a decoder block is made of.
#include "layers.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::model {

using util::ceil_div;

at::Tensor apply_norm(NormKind kind, const at::Tensor& input, const at::Tensor& weight,
                      const at::Tensor& bias, double epsilon) {
  const at::Tensor x = input.to(at::kFloat);
  if (kind == NormKind::kLayerNorm) return at::layer_norm(x, {x.size(-1)}, weight, bias, epsilon);
  at::Tensor normed = x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true).add_(epsilon));
  normed.mul_(weight);
  return bias.defined() ? normed.add_(bias) : normed;
}

namespace {

at::Tensor activate_block(Activation kind, const at::Tensor& input) {
  switch (kind) {
    case Activation::kGelu:
      return at::gelu(input);
    case Activation::kGeluTanh:
      return at::gelu(input, "tanh");
    case Activation::kRelu:
      return at::relu(input);
    case Activation::kSilu:
      return at::silu(input);
  }
  DEPTHLENS_ASSERT(false);
  return {};
}

}  // namespace

at::Tensor activate(Activation kind, const at::Tensor& input) {
  if (!input.device().is_cpu() || compute::records_gradient(input)) return activate_block(kind, input);
  // libtorch computes what is left over at the end of each thread's share with other code, whose results
  // differ in the last bit. Blocks of 32 rows leave nothing over on any processor, so that a row has the same
  // bits wherever it stands.
  constexpr std::int64_t kRows = 32;
  const std::int64_t rows = input.size(0);
  at::Tensor output = at::empty_like(input);
  at::parallel_for(0, ceil_div(rows, kRows), 1, [&](std::int64_t begin, std::int64_t end) {
    const c10::InferenceMode inference;  // a setting of each thread
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t first = block * kRows, count = std::min(kRows, rows - first);
      at::Tensor part = input.narrow(0, first, count);
      if (count < kRows) part = at::constant_pad_nd(part, {0, 0, 0, kRows - count});
      output.narrow(0, first, count).copy_(activate_block(kind, part).narrow(0, 0, count));
    }
  });
  return output;
}

// Llama 3's scaling is by wavelength, as in Meta's release.
std::vector<double> rotary_frequencies(const RopeSpec& rope) {
  std::vector<double> frequencies(static_cast<std::size_t>(rope.dims / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    double frequency = std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rope.dims));
    if (rope.scaling == RopeSpec::Scaling::kLinear) frequency /= rope.factor;
    if (rope.scaling == RopeSpec::Scaling::kLlama3) {
      const double turns = rope.original_max_positions * frequency / (2 * std::numbers::pi);
      if (turns < rope.low_frequency_factor) {
        frequency /= rope.factor;
      } else if (turns <= rope.high_frequency_factor) {
        const double smooth =
            (turns - rope.low_frequency_factor) / (rope.high_frequency_factor - rope.low_frequency_factor);
        frequency *= (1 - smooth) / rope.factor + smooth;
      }
    }
    frequencies[i] = frequency;
  }
  return frequencies;
}

std::array<at::Tensor, 2> rotary_tables(const RopeSpec& rope, const std::vector<std::int64_t>& positions,
                                        at::Device device) {
  const std::vector<double> frequencies = rotary_frequencies(rope);
  const auto rows = static_cast<std::int64_t>(positions.size());
  const auto columns = static_cast<std::int64_t>(frequencies.size());
  std::vector<float> cosines, sines;
  cosines.reserve(positions.size() * frequencies.size());
  sines.reserve(positions.size() * frequencies.size());
  for (const std::int64_t position : positions) {
    for (const double frequency : frequencies) {
      cosines.push_back(static_cast<float>(std::cos(static_cast<double>(position) * frequency)));
      sines.push_back(static_cast<float>(std::sin(static_cast<double>(position) * frequency)));
    }
  }
  const auto as_tensor = [&](std::vector<float>& values) {
    return at::from_blob(values.data(), {rows, columns}, at::kFloat).clone().to(device);
  };
  return {as_tensor(cosines), as_tensor(sines)};
}

at::Tensor rotate(const at::Tensor& x, const RopeSpec& rope, const std::array<at::Tensor, 2>& tables) {
  const std::int64_t half = rope.dims / 2;
  const at::Tensor cosines = tables[0].unsqueeze(1);  // [T, 1, dims / 2]
  const at::Tensor sines = tables[1].unsqueeze(1);
  const at::Tensor first = x.narrow(-1, 0, half);
  const at::Tensor second = x.narrow(-1, half, half);
  return at::cat({first * cosines - second * sines, second * cosines + first * sines,
                  x.narrow(-1, 2 * half, x.size(-1) - 2 * half)},
                 -1);
}

at::Tensor attend(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                  std::int64_t span) {
  const std::int64_t T = queries.size(2);
  if (span == 0 || T <= span) {
    return at::scaled_dot_product_attention(queries, keys, values, {}, 0.0, /*is_causal=*/true);
  }
  // Rows in blocks, each with the keys that its rows see: neither the mask nor the work grows with T².
  constexpr std::int64_t kRows = 512;
  std::vector<at::Tensor> blocks;
  for (std::int64_t first = 0; first < T; first += kRows) {
    const std::int64_t rows = std::min(kRows, T - first);
    const std::int64_t first_key = std::max<std::int64_t>(0, first - span + 1),
                       count = first + rows - first_key;
    const at::Tensor row = at::arange(first, first + rows, queries.options().dtype(at::kLong)).unsqueeze(1);
    const at::Tensor key = at::arange(first_key, first_key + count, queries.options().dtype(at::kLong));
    const at::Tensor visible = key.le(row).logical_and_(key.gt(row - span));  // [rows, keys]
    blocks.push_back(at::scaled_dot_product_attention(queries.narrow(2, first, rows),
                                                      keys.narrow(2, first_key, count),
                                                      values.narrow(2, first_key, count), visible));
  }
  return at::cat(blocks, 2);
}

}  // namespace depthlens::model
