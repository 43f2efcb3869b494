// Numbers in fixed point, and sums of digits that do not carry.
#include "depthlens/tables/exact_sums.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "depthlens/util/error.hpp"

namespace depthlens::tables {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::size_t kDigits = 3;
constexpr std::int64_t kDigitBits = 32;
/// Logarithms beyond this have no place for their highest digit.
constexpr double kMaxLog = 0x1p34;

/// m · 2^exponent, also where the exponent is no int.
double scaled(double m, std::int64_t exponent) {
  return std::ldexp(m, static_cast<int>(std::clamp<std::int64_t>(exponent, -100'000, 100'000)));
}

/// The three highest digits of a number: every digit of a double, since its 53 bits touch three at the most.
struct Term {
  std::int32_t top;
  std::array<std::uint32_t, kDigits> digits;
};

/// `m` · 2^`exponent`, m > 0 and finite.
Term term_of(double m, std::int64_t exponent) {
  int shift = 0;
  auto mantissa = static_cast<std::uint64_t>(std::ldexp(std::frexp(m, &shift), 53));  // of 53 bits, exactly
  exponent += shift - 53;
  const std::int64_t place = exponent >> 5;  // rounded down
  const Wide bits = Wide{mantissa} << (exponent - place * kDigitBits);
  const std::array<std::uint32_t, kDigits> digits = {static_cast<std::uint32_t>(bits >> 64),
                                                     static_cast<std::uint32_t>(bits >> 32),
                                                     static_cast<std::uint32_t>(bits)};
  if (digits[0] != 0) return {static_cast<std::int32_t>(place + 2), digits};
  return {static_cast<std::int32_t>(place + 1), {digits[1], digits[2], 0}};  // 53 bits are more than a digit
}

}  // namespace

FixedPoint to_fixed_point(double value) {
  DEPTHLENS_ASSERT(fits_fixed_point(value));
  // By its bits, mantissa · 2^(exponent − 1075): conversions of doubles to unsigned numbers guess at
  // branches.
  const auto pattern = std::bit_cast<std::uint64_t>(value);
  const auto exponent = static_cast<std::int32_t>(pattern >> 52 & 0x7ff);
  const std::uint64_t mantissa = (pattern & 0xfffffffffffff) | 0x10000000000000;
  const std::int32_t up = exponent - (1075 - 64);  // below 64
  Wide size = 0;
  if (up >= 0) {
    size = Wide{mantissa} << up;
  } else if (up >= -53) {  // below, what is left is less than a half; zero and denormal numbers too
    size = (mantissa + (std::uint64_t{1} << (-up - 1))) >> -up;
  }
  const Wide sign = ~Wide{0} * (pattern >> 63);
  const Wide fixed = (size ^ sign) - sign;
  return {static_cast<std::int64_t>(fixed >> 64), static_cast<std::uint64_t>(fixed)};
}

double to_double(const FixedPoint& value) {
  Wide bits = Wide{static_cast<std::uint64_t>(value.whole)} << 64 | value.fraction;
  const bool negative = value.whole < 0;
  if (negative) bits = ~bits + 1;
  const double size = static_cast<double>(bits) * 0x1p-64;
  return negative ? -size : size;
}

WideSums::WideSums(std::size_t size) : top_(size, kNothing), digits_(size * kDigits) {}

void WideSums::add(std::size_t i, double value) {
  DEPTHLENS_ASSERT(value >= 0 && std::isfinite(value));
  if (value > 0) add_term(i, value, 0);
}

void WideSums::add_exp(std::size_t i, double log_value) {
  DEPTHLENS_ASSERT(log_value < kMaxLog);  // nor a NaN
  if (log_value <= -kMaxLog) return;
  // ln 2 in two parts, of which a multiple of the first, up to 2²¹, is exact.
  constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  const double exponent = std::nearbyint(log_value / (kLn2High + kLn2Low));
  const double rest = (log_value - exponent * kLn2High) - exponent * kLn2Low;
  add_term(i, std::exp(rest), static_cast<std::int64_t>(exponent));
}

void WideSums::add_term(std::size_t i, double m, std::int64_t exponent) {
  const Term term = term_of(m, exponent);
  add_digits(i, term.top, {term.digits[0], term.digits[1], term.digits[2]});
}

void WideSums::add_digits(std::size_t i, std::int32_t top, const std::array<std::uint64_t, 3>& digits) {
  std::uint64_t* to = digits_.data() + i * kDigits;
  if (top_[i] == kNothing) {
    top_[i] = top;
  } else if (top > top_[i]) {
    const std::int64_t up = std::int64_t{top} - top_[i];
    for (std::int64_t d = kDigits - 1; d >= 0; --d) to[d] = d >= up ? to[d - up] : 0;
    top_[i] = top;
  }
  const std::int64_t down = std::int64_t{top_[i]} - top;
  for (std::int64_t d = down; d < static_cast<std::int64_t>(kDigits); ++d)
    to[d] += digits[static_cast<std::size_t>(d - down)];
}

double WideSums::value(std::size_t i) const {
  if (top_[i] == kNothing) return 0;
  const std::uint64_t* digits = digits_.data() + i * kDigits;
  const Wide bits = (Wide{digits[0]} << 64) + (Wide{digits[1]} << 32) + digits[2];
  return scaled(static_cast<double>(bits), (std::int64_t{top_[i]} - 2) * kDigitBits);
}

double WideSums::log(std::size_t i) const {
  if (top_[i] == kNothing) return -std::numeric_limits<double>::infinity();
  if (const double number = value(i); std::isnormal(number)) return std::log(number);
  const std::uint64_t* digits = digits_.data() + i * kDigits;
  const Wide bits = (Wide{digits[0]} << 64) + (Wide{digits[1]} << 32) + digits[2];
  const auto exponent = static_cast<double>((std::int64_t{top_[i]} - 2) * kDigitBits);
  return std::log(static_cast<double>(bits)) + exponent * 0.69314718055994530942;
}

void WideSums::merge(const WideSums& other) {
  DEPTHLENS_ASSERT(size() == other.size());
  for (std::size_t i = 0; i < size(); ++i) {
    if (other.top_[i] == kNothing) continue;
    const std::uint64_t* digits = other.digits_.data() + i * kDigits;
    add_digits(i, other.top_[i], {digits[0], digits[1], digits[2]});
  }
}

}  // namespace depthlens::tables
