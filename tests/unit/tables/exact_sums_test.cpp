// Sums that do not depend on the order: against numbers of 128 bits, and against digits without an end.
#include "depthlens/tables/exact_sums.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <stdexcept>
#include <vector>

#include "support/catch.hpp"

using namespace depthlens;
using tables::FixedPoint, tables::to_double, tables::to_fixed_point;
using tables::WideSums;

namespace {

__extension__ using Big = __int128;

Big big(const FixedPoint& value) {
  return Big{value.whole} * (Big{1} << 64) + Big{value.fraction};
}
FixedPoint fixed(Big value) {
  return {static_cast<std::int64_t>(value >> 64), static_cast<std::uint64_t>(value)};
}

/// A sum of numbers m · 2^exponent with every bit: digits to the base 2^16 that carry at once.
class AllBits {
 public:
  void add(double m, int exponent = 0) {
    int shift = 0;
    auto bits = static_cast<std::uint64_t>(std::ldexp(std::frexp(m, &shift), 53));
    const int low = exponent + shift - 53;
    for (int bit = 0; bits != 0; ++bit, bits >>= 1) {
      if (bits & 1) add_bit(low + bit);
    }
  }
  /// Its logarithm, from the highest 64 bits or more.
  long double log() const {
    const int top = digits_.rbegin()->first;
    long double sum = 0;
    for (const auto& [place, digit] : digits_) {
      if (place > top - 8) sum += std::ldexp(static_cast<long double>(digit), 16 * (place - top));
    }
    return std::log(sum) + 16.0L * top * std::log(2.0L);
  }
  long double value() const {
    long double sum = 0;
    for (const auto& [place, digit] : digits_) sum += std::ldexp(static_cast<long double>(digit), 16 * place);
    return sum;
  }

 private:
  void add_bit(int bit) {
    int place = bit >= 0 ? bit / 16 : -((15 - bit) / 16);
    std::uint32_t more = std::uint32_t{1} << (bit - 16 * place);
    for (; more != 0; ++place) {
      const std::uint32_t sum = digits_[place] + more;
      digits_[place] = sum & 0xffff;
      more = sum >> 16;
    }
  }
  std::map<int, std::uint32_t> digits_;
};

}  // namespace

TEST_CASE("fixed point: the nearest number with 64 binary places") {
  CHECK(to_fixed_point(0) == FixedPoint{0, 0});
  CHECK(to_fixed_point(-0.0) == FixedPoint{0, 0});
  CHECK(to_fixed_point(3) == FixedPoint{3, 0});
  CHECK(to_fixed_point(-3) == FixedPoint{-3, 0});
  CHECK(to_fixed_point(0.5) == FixedPoint{0, std::uint64_t{1} << 63});
  CHECK(to_fixed_point(-0.25) == FixedPoint{-1, std::uint64_t{3} << 62});
  CHECK(to_fixed_point(0x1p-64) == FixedPoint{0, 1});
  CHECK(to_fixed_point(-0x1p-64) == FixedPoint{-1, ~std::uint64_t{0}});
  CHECK(to_fixed_point(0x1.8p-65) == FixedPoint{0, 1});
  CHECK(to_fixed_point(std::nextafter(0x1p-65, 0.0)) == FixedPoint{0, 0});
  CHECK(to_fixed_point(-0x1p-80) == FixedPoint{0, 0});
  CHECK(to_fixed_point(1e-300) == FixedPoint{0, 0});
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const double size =
        std::ldexp(static_cast<double>(random() >> 11), static_cast<int>(random() % 140) - 141);
    if (!tables::fits_fixed_point(size)) continue;
    const double value = random() % 2 == 0 ? size : -size;
    const long double exact = static_cast<long double>(value) * 0x1p64L;  // of 53 bits
    const long double error = static_cast<long double>(big(to_fixed_point(value))) - exact;
    CHECK(std::abs(error) <= 0.5L);
    CHECK(big(to_fixed_point(-value)) == -big(to_fixed_point(value)));
  }
}

TEST_CASE("fixed point: to the nearest double, also where there are more bits") {
  std::mt19937_64 random(2);
  for (int i = 0; i < 20'000; ++i) {
    Big value = (Big{static_cast<std::int64_t>(random())} << 64 | random()) >> (random() % 127);
    if (random() % 2 == 0) value = -value;
    if (random() % 3 == 0) value = value >> 40 << 40;
    CHECK(to_double(fixed(value)) == static_cast<double>(value) * 0x1p-64);
  }
  for (const double value : {0.0, 1.0, -1.0, 0x1p-64, -0x1p-64, 0x1p51 + 0.5, -0.1, 0.1, 0x1p62, -0x1p63})
    CHECK(to_double(fixed(static_cast<Big>(static_cast<long double>(value) * 0x1p64L))) ==
          Approx(value).epsilon(1e-18).margin(0x1p-65));
  CHECK(to_double(to_fixed_point(0.1)) == 0.1);
  CHECK(to_double(to_fixed_point(-123.456)) == -123.456);
}

TEST_CASE("fixed point: what fits") {
  CHECK(tables::fits_fixed_point(0x1p52 - 1));
  CHECK(tables::fits_fixed_point(-0x1p52 + 1));
  CHECK_FALSE(tables::fits_fixed_point(0x1p52));
  CHECK_FALSE(tables::fits_fixed_point(std::nan("")));
  CHECK_FALSE(tables::fits_fixed_point(-std::numeric_limits<double>::infinity()));
  CHECK_THROWS_AS(to_fixed_point(0x1p52), std::logic_error);
}

TEST_CASE("wide sums: nothing, zeros, single numbers") {
  WideSums sums(2);
  CHECK(sums.size() == 2);
  CHECK(sums.value(0) == 0);
  CHECK(sums.log(0) == -std::numeric_limits<double>::infinity());
  sums.add(0, 0);
  sums.add_exp(0, -std::numeric_limits<double>::infinity());
  sums.add_exp(0, -1e38);  // no digit has a place so low
  CHECK(sums.log(0) == -std::numeric_limits<double>::infinity());
  std::mt19937_64 random(3);
  for (const double value :
       {1.0, 0.1, 1e12, 1e300, std::numeric_limits<double>::max(), 1e-300, std::numeric_limits<double>::min(),
        std::numeric_limits<double>::denorm_min(), 7e-320}) {
    WideSums one(1);
    one.add(0, value);
    CHECK(one.value(0) == value);
    CHECK(one.log(0) == Approx(std::log(value)).margin(1e-12));
  }
  for (int i = 0; i < 5000; ++i) {
    const double value = std::ldexp(1 + static_cast<double>(random() >> 12) * 0x1p-52,
                                    static_cast<int>(random() % 1900) - 950);
    WideSums one(1);
    one.add(0, value);
    REQUIRE(one.value(0) == value);
  }
  CHECK(sums.value(1) == 0);
}

TEST_CASE("wide sums: exponentials of any magnitude") {
  for (const double log :
       {0.0, -1e-9, -0.34, 0.35, -1.0, -20.0, -700.0, -744.0, -746.0, -921.0, -12345.678, 700.0, 5000.0}) {
    WideSums one(1);
    one.add_exp(0, log);
    INFO(log);
    CHECK(one.log(0) == Approx(log).epsilon(1e-15).margin(1e-15));
    if (log < 700) CHECK(one.value(0) == Approx(std::exp(log)).epsilon(1e-15 * std::max(1.0, std::abs(log))));
  }
  WideSums far(1);
  far.add_exp(0, -1e9);
  CHECK(far.log(0) == -1e9);
  CHECK(far.value(0) == 0);
  WideSums large(1);
  large.add_exp(0, 1e9);
  CHECK(large.log(0) == Approx(1e9).epsilon(1e-15));
  CHECK(std::isinf(large.value(0)));
  CHECK_THROWS_AS(far.add_exp(0, std::nan("")), std::logic_error);
  CHECK_THROWS_AS(far.add_exp(0, std::numeric_limits<double>::infinity()), std::logic_error);
  CHECK_THROWS_AS(far.add(0, -1), std::logic_error);
  CHECK_THROWS_AS(far.add(0, std::nan("")), std::logic_error);
}

TEST_CASE("wide sums: sums agree with all their bits") {
  std::mt19937_64 random(4);
  for (int round = 0; round < 300; ++round) {
    const int span = 1 + static_cast<int>(random() % 300), lowest = -static_cast<int>(random() % 700);
    WideSums sums(1);
    AllBits expected;
    for (int term = 0; term < 100; ++term) {
      const double value = std::ldexp(1 + static_cast<double>(random() >> 12) * 0x1p-52,
                                      lowest + static_cast<int>(random() % static_cast<unsigned>(span)));
      sums.add(0, value);
      expected.add(value);
    }
    CHECK(std::abs(sums.value(0) / static_cast<double>(expected.value()) - 1) < 3e-16);
    CHECK(std::abs(sums.log(0) - static_cast<double>(expected.log())) < 1e-12);
  }
  // Far below what a double holds: e^-3000 a hundred times.
  WideSums tiny(1);
  for (int i = 0; i < 100; ++i) tiny.add_exp(0, -3000);
  CHECK(std::abs(tiny.log(0) - (std::log(100.0) - 3000)) < 1e-12);
  CHECK(tiny.value(0) == 0);
}

TEST_CASE("wide sums: many terms do not run over") {
  WideSums sums(1);
  for (int i = 0; i < 1'000'000; ++i) sums.add(0, std::nextafter(1.0, 0.0));
  for (int i = 0; i < 11; ++i) sums.merge(WideSums(sums));  // doubles it: of 2^31 terms
  CHECK(sums.value(0) == std::nextafter(1e6 * 0x1p11, 0.0));
}
