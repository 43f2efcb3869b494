// On processors by a table of the sixteen numbers at each scale, elsewhere by libtorch's operations.
#include "depthlens/compute/mxfp4.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <c10/util/BFloat16.h>

#include <array>
#include <cmath>

#include "depthlens/compute/transfer.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::compute {
namespace {

constexpr std::array<float, 16> kNumbers = {0,     0.5F,  1,  1.5F,  2,  3,  4,  6,  //
                                            -0.0F, -0.5F, -1, -1.5F, -2, -3, -4, -6};
constexpr int kBias = 127;

at::Tensor unfold_elsewhere(const at::Tensor& codes, const at::Tensor& exponents) {
  std::array<float, 16> numbers = kNumbers;
  const at::Tensor table = copied_to(codes.device(), at::from_blob(numbers.data(), {16}, at::kFloat));
  const at::Tensor halves = at::stack({codes.bitwise_and(15), codes.bitwise_right_shift(4)}, -1);
  const at::Tensor values =
      table.index_select(0, halves.flatten().to(at::kLong)).view({codes.size(0), codes.size(1), kMxfp4Group});
  // In two steps: the largest and smallest scales are no float32.
  const at::Tensor exponent = exponents.to(at::kFloat).sub_(kBias);
  const at::Tensor half = exponent.mul(0.5).floor_();
  const at::Tensor scaled = values * half.exp2().unsqueeze(-1) * exponent.sub(half).exp2_().unsqueeze(-1);
  return scaled.flatten(1).to(at::kBFloat16);
}

}  // namespace

at::Tensor unfold_mxfp4(const at::Tensor& codes, const at::Tensor& exponents) {
  DEPTHLENS_ASSERT(codes.dim() == 3 && exponents.dim() == 2 && codes.size(2) == kMxfp4Group / 2 &&
                   codes.size(0) == exponents.size(0) && codes.size(1) == exponents.size(1));
  if (!codes.device().is_cpu()) return unfold_elsewhere(codes, exponents);
  const std::int64_t rows = codes.size(0), groups = codes.size(1);
  DEPTHLENS_ASSERT(codes.stride(2) == 1 && codes.stride(1) == kMxfp4Group / 2 && exponents.stride(1) == 1);
  const at::Tensor out = at::empty({rows, groups * kMxfp4Group}, at::kBFloat16);
  const auto* from = codes.const_data_ptr<std::uint8_t>();
  const auto* powers = exponents.const_data_ptr<std::uint8_t>();
  auto* to = out.mutable_data_ptr<c10::BFloat16>();
  constexpr std::int64_t kRowsAtOnce = 16;
  at::parallel_for(0, rows, kRowsAtOnce, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t group = 0; group < groups; ++group) {
        const int power = powers[row * exponents.stride(0) + group] - kBias;
        std::array<c10::BFloat16, 16> numbers;
        for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = std::ldexp(kNumbers[i], power);
        const std::uint8_t* bytes = from + row * codes.stride(0) + group * codes.stride(1);
        c10::BFloat16* values = to + (row * groups + group) * kMxfp4Group;
        for (int i = 0; i < kMxfp4Group / 2; ++i) {
          values[2 * i] = numbers[bytes[i] & 15];
          values[2 * i + 1] = numbers[bytes[i] >> 4];
        }
      }
    }
  });
  return out;
}

}  // namespace depthlens::compute
