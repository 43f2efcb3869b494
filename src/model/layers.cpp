// The operations a decoder block is made of.
#include "layers.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/expm1.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <utility>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::model {

using util::ceil_div;

std::function<at::Tensor(const at::Tensor&)> moved_to(at::Device device) {
  return [=](const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.device() == device) return tensor;
    if (!tensor.is_cpu()) return tensor.to(device);  // from card to card
    return compute::copied_to(device, tensor);
  };
}

at::Tensor apply_norm(NormKind kind, const at::Tensor& input, const at::Tensor& weight,
                      const at::Tensor& bias, double epsilon) {
  const at::Tensor x = input.to(at::kFloat);
  if (kind == NormKind::kNone) return x;
  const bool by_row = weight.defined() && weight.dim() > 1;
  if (kind == NormKind::kLayerNorm && !by_row) return at::layer_norm(x, {x.size(-1)}, weight, bias, epsilon);
  // One kernel on a card, six operations elsewhere.
  if (kind == NormKind::kRmsNorm && !by_row && !bias.defined() && x.is_cuda())
    return at::rms_norm(x, {x.size(-1)}, weight, epsilon);
  at::Tensor normed = kind == NormKind::kLayerNorm
                          ? at::layer_norm(x, {x.size(-1)}, {}, {}, epsilon)
                          : x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true).add_(epsilon));
  if (weight.defined()) normed = normed * weight;
  return bias.defined() ? normed + bias : normed;
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
    case Activation::kReluSquared:
      return at::relu(input).square();
    case Activation::kSilu:
      return at::silu(input);
    case Activation::kXielu:
      break;
  }
  DEPTHLENS_ASSERT(false);
  return {};
}

/// libtorch computes what is left over at the end of each thread's share with other code, whose results
/// differ in the last bit; so it does at the end of each row where rows do not adjoin. Blocks of 32 rows
/// leave nothing over on any processor, so that a row has the same bits wherever it stands.
template <typename Function>
at::Tensor by_blocks(const at::Tensor& given, const Function& function) {
  if (!given.device().is_cpu() || compute::records_gradient(given)) return function(given);
  const at::Tensor input = given.contiguous();
  constexpr std::int64_t kRows = 32;
  const std::int64_t rows = input.size(0);
  at::Tensor output = at::empty_like(input);
  at::parallel_for(0, ceil_div(rows, kRows), 1, [&](std::int64_t begin, std::int64_t end) {
    const c10::InferenceMode inference;  // a setting of each thread
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t first = block * kRows, count = std::min(kRows, rows - first);
      at::Tensor part = input.narrow(0, first, count);
      if (count < kRows) part = at::constant_pad_nd(part, {0, 0, 0, kRows - count});
      output.narrow(0, first, count).copy_(function(part).narrow(0, 0, count));
    }
  });
  return output;
}

}  // namespace

at::Tensor activate(Activation kind, const at::Tensor& input) {
  return by_blocks(input, [kind](const at::Tensor& part) { return activate_block(kind, part); });
}

at::Tensor activate_xielu(const at::Tensor& input, const std::array<at::Tensor, 4>& numbers) {
  const at::Tensor& slope = numbers[2];
  const at::Tensor& limit = numbers[3];
  const at::Tensor above = at::softplus(numbers[0]), below = slope + at::softplus(numbers[1]);
  return by_blocks(input, [&](const at::Tensor& x) {
    const at::Tensor curved =
        at::where(x > 0, x.square() * above, (at::expm1(at::minimum(x, limit)) - x) * below);
    return curved + x * slope;
  });
}

at::Tensor causal_convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const std::int64_t kernel = weight.size(2), T = x.size(1);
  const at::Tensor before = at::constant_pad_nd(x, {0, 0, kernel - 1, 0});
  at::Tensor sum;
  for (std::int64_t k = 0; k < kernel; ++k) {
    const at::Tensor part = before.narrow(1, k, T) * weight.select(2, k).squeeze(1);
    sum = sum.defined() ? sum + part : part;
  }
  return bias.defined() ? sum + bias : sum;
}

at::Tensor scaled(const at::Tensor& input, double scale) {
  return scale == 1 ? input : input * scale;
}

at::Tensor logistic(const at::Tensor& input) {
  return by_blocks(input, [](const at::Tensor& part) { return at::sigmoid(part); });
}

at::Tensor gated(const ArchSpec& spec, const at::Tensor& gate, const at::Tensor& up) {
  if (spec.clamped_gate_limit > 0) {
    const double alpha = spec.clamped_gate_alpha;
    const at::Tensor g = gate.clamp_max(spec.clamped_gate_limit);
    const at::Tensor u = up.clamp(-spec.clamped_gate_limit, spec.clamped_gate_limit);
    return (u + 1) * activate(Activation::kSilu, g * alpha) / alpha;  // silu(x) = x · sigmoid(x)
  }
  const at::Tensor activated = activate(spec.activation, gate);
  return compute::records_gradient(activated) ? activated * up : activated.mul_(up);
}

namespace {

// Llama 3's scaling is by wavelength, as in Meta's release.
double llama3_frequency(const RopeSpec& rope, double frequency) {
  const double turns = rope.original_max_positions * frequency / (2 * std::numbers::pi);
  if (turns < rope.low_frequency_factor) return frequency / rope.factor;
  if (turns >= rope.high_frequency_factor) return frequency;
  const double smooth =
      (turns - rope.low_frequency_factor) / (rope.high_frequency_factor - rope.low_frequency_factor);
  return frequency * ((1 - smooth) / rope.factor + smooth);
}

/// YaRN (arXiv 2309.00071): frequencies that turn often within the original length are kept, slow ones
/// divided, those between blended along a ramp over their index.
double yarn_frequency(const RopeSpec& rope, std::size_t index, double frequency) {
  const auto dims = static_cast<double>(rope.dims);
  const auto index_of_turns = [&](double turns) {
    return dims * std::log(rope.original_max_positions / (2 * std::numbers::pi * turns)) /
           (2 * std::log(rope.theta));
  };
  double low = index_of_turns(rope.beta_fast), high = index_of_turns(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dims - 1);
  constexpr double kNoDivisionByZero = 0.001;
  if (low == high) high += kNoDivisionByZero;
  const double ramp = std::clamp((static_cast<double>(index) - low) / (high - low), 0.0, 1.0);
  return frequency * (1 - ramp) + frequency / rope.factor * ramp;
}

/// The base that lets the slowest pair turn no further than it did in training.
double dynamic_theta(const RopeSpec& rope, std::int64_t length) {
  const auto dims = static_cast<double>(rope.dims);
  const double stretched = std::max(static_cast<double>(length) / rope.original_max_positions, 1.0);
  return rope.theta * std::pow(rope.factor * stretched - (rope.factor - 1), dims / (dims - 2));
}

}  // namespace

std::vector<double> rotary_frequencies(const RopeSpec& rope, std::int64_t length) {
  using Scaling = RopeSpec::Scaling;
  const double theta = rope.scaling == Scaling::kDynamic ? dynamic_theta(rope, length) : rope.theta;
  std::vector<double> frequencies(static_cast<std::size_t>(rope.dims / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rope.dims));
    if (rope.scaling == Scaling::kLinear) frequency /= rope.factor;
    if (rope.scaling == Scaling::kLlama3) frequency = llama3_frequency(rope, frequency);
    if (rope.scaling == Scaling::kYarn) frequency = yarn_frequency(rope, i, frequency);
    if (rope.scaling == Scaling::kLongRope) {
      const bool is_long = static_cast<double>(length) > rope.original_max_positions;
      frequency /= (is_long ? rope.long_factors : rope.short_factors)[i];
    }
    frequencies[i] = frequency;
  }
  std::fill(frequencies.end() - rope.still_pairs, frequencies.end(), 0);
  return frequencies;
}

RotaryTables rotary_tables(const RopeSpec& rope, const std::vector<std::int64_t>& lengths,
                           at::Device device) {
  // Windows of the same amplitude and frequencies turn alike: the longest of them has the angles of all.
  struct Angles {
    std::int64_t length = 0;
    std::vector<float> cosines, sines;
  };
  std::map<std::pair<double, std::vector<double>>, Angles> all;
  std::vector<const Angles*> of_windows;
  std::int64_t T = 0;
  for (const std::int64_t length : lengths) {
    const bool is_long = static_cast<double>(length) > rope.original_max_positions;
    const double amplitude = is_long && rope.long_amplitude > 0 ? rope.long_amplitude : rope.amplitude;
    Angles& angles = all[{amplitude, rotary_frequencies(rope, length)}];
    angles.length = std::max(angles.length, length);
    of_windows.push_back(&angles);
    T += length;
  }
  for (auto& [turns, angles] : all) {
    const auto& [amplitude, frequencies] = turns;
    for (std::int64_t position = 0; position < angles.length; ++position) {
      for (const double frequency : frequencies) {
        const double angle = static_cast<double>(rope.backwards ? -position : position) * frequency;
        angles.cosines.push_back(static_cast<float>(amplitude * std::cos(angle)));
        angles.sines.push_back(static_cast<float>(amplitude * std::sin(angle)));
      }
    }
  }
  const std::int64_t columns = rope.dims / 2;
  const auto table = [&](std::vector<float> Angles::*values) {
    std::vector<float> rows;
    rows.reserve(static_cast<std::size_t>(T * columns));
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const auto begin = (of_windows[i]->*values).begin();
      rows.insert(rows.end(), begin, begin + lengths[i] * columns);
    }
    return compute::copied_to(device, at::from_blob(rows.data(), {T, columns}, at::kFloat));
  };
  return {table(&Angles::cosines), table(&Angles::sines)};
}

at::Tensor sinusoidal_positions(const std::vector<std::int64_t>& rows, std::int64_t d, at::Device device) {
  const auto columns = static_cast<std::size_t>(d), half = columns / 2;
  std::vector<double> frequencies(half);
  constexpr double kBase = 10000;
  for (std::size_t n = 0; n < half; ++n)
    frequencies[n] = std::pow(kBase, -static_cast<double>(n) / static_cast<double>(half - 1));
  std::map<std::int64_t, std::size_t> first_with;  // windows have the same positions
  std::vector<float> values(rows.size() * columns, 0);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto row = values.begin() + static_cast<std::ptrdiff_t>(i * columns);
    const auto [known, is_new] = first_with.emplace(rows[i], i);
    if (!is_new) {
      std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(known->second * columns), columns, row);
      continue;
    }
    for (std::size_t n = 0; n < half; ++n) {
      const double angle = static_cast<double>(rows[i]) * frequencies[n];
      row[static_cast<std::ptrdiff_t>(n)] = static_cast<float>(std::sin(angle));
      row[static_cast<std::ptrdiff_t>(half + n)] = static_cast<float>(std::cos(angle));
    }
  }
  return compute::copied_to(
      device, at::from_blob(values.data(), {static_cast<std::int64_t>(rows.size()), d}, at::kFloat));
}

at::Tensor rotate(const at::Tensor& x, const RopeSpec& rope, const RotaryTables& tables) {
  const std::int64_t half = rope.dims / 2;
  const at::Tensor cosines = tables[0].unsqueeze(1);  // [T, 1, dims / 2]
  const at::Tensor sines = tables[1].unsqueeze(1);
  const at::Tensor rest = x.narrow(-1, 2 * half, x.size(-1) - 2 * half);
  if (rope.interleaved) {
    const at::Tensor pairs = x.narrow(-1, 0, 2 * half).unflatten(-1, {half, 2});
    const at::Tensor first = pairs.select(-1, 0), second = pairs.select(-1, 1);
    const at::Tensor turned =
        at::stack({first * cosines - second * sines, second * cosines + first * sines}, -1).flatten(-2);
    return at::cat({turned, rest}, -1);
  }
  const at::Tensor first = x.narrow(-1, 0, half);
  const at::Tensor second = x.narrow(-1, half, half);
  return at::cat({first * cosines - second * sines, second * cosines + first * sines, rest}, -1);
}

namespace {

/// One slope a head: powers of 2^(−max/n), where n is the largest power of two up to H; for the heads that
/// are left over every second power of 2^(−max/2n) (Press et al., arXiv 2108.12409).
std::vector<double> alibi_slopes(std::int64_t num_heads, double max) {
  std::int64_t n = 1;
  while (2 * n <= num_heads) n *= 2;
  std::vector<double> slopes;
  for (std::int64_t h = 0; h < num_heads; ++h) {
    const double exponent = h < n ? -max * static_cast<double>(h + 1) / static_cast<double>(n)
                                  : -max / 2 * static_cast<double>(2 * (h - n) + 1) / static_cast<double>(n);
    slopes.push_back(std::exp2(exponent));
  }
  return slopes;
}

}  // namespace

at::Tensor position_bias(const ArchSpec& spec, std::int64_t length, at::Device device) {
  const PositionBias kind = spec.attention.position_bias;
  if (kind == PositionBias::kNone) return {};
  const auto rounded = [](double value) {
    return static_cast<double>(static_cast<float>(c10::BFloat16(static_cast<float>(value))));
  };
  std::vector<float> values;
  for (const double slope : alibi_slopes(spec.num_heads, spec.attention.position_bias_max)) {
    for (std::int64_t position = 0; position < length; ++position) {
      const auto place = static_cast<double>(position);
      values.push_back(static_cast<float>(
          kind == PositionBias::kSlopes ? slope * place
                                        : spec.attention.scale * rounded(rounded(slope) * rounded(place))));
    }
  }
  return compute::copied_to(device, at::from_blob(values.data(), {spec.num_heads, length}, at::kFloat));
}

}  // namespace depthlens::model
