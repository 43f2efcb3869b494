// Numbers drawn at random.
#include "depthlens/data/sample.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "support/catch.hpp"

using namespace depthlens;
using Numbers = std::vector<std::int64_t>;

TEST_CASE("drawn: different numbers, rising, of the range") {
  for (const std::int64_t size : {1, 2, 10, 1000}) {
    for (const std::int64_t count : {std::int64_t{0}, std::int64_t{1}, size / 2, size}) {
      const Numbers numbers = data::drawn(count, size, 7);
      CHECK(static_cast<std::int64_t>(numbers.size()) == count);
      CHECK(std::adjacent_find(numbers.begin(), numbers.end(), std::greater_equal<>()) == numbers.end());
      if (!numbers.empty()) CHECK((numbers.front() >= 0 && numbers.back() < size));
    }
  }
  CHECK(data::drawn(3, 3, 1) == Numbers{0, 1, 2});
}

TEST_CASE("drawn: the seed decides, the same everywhere") {
  CHECK(data::drawn(5, 1000000, 0) == data::drawn(5, 1000000, 0));
  CHECK(data::drawn(5, 1000000, 0) != data::drawn(5, 1000000, 1));
}

TEST_CASE("drawn: every number is as likely as any other") {
  constexpr int kRounds = 20000, kSize = 10, kCount = 3;
  std::vector<int> times(kSize);
  for (int seed = 0; seed < kRounds; ++seed) {
    for (const std::int64_t number : data::drawn(kCount, kSize, static_cast<std::uint64_t>(seed)))
      ++times[static_cast<std::size_t>(number)];
  }
  const double expected = kRounds * 0.3, deviation = std::sqrt(kRounds * 0.3 * 0.7);
  for (const int count : times) CHECK(std::abs(count - expected) < 4.5 * deviation);
}
