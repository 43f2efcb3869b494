// Numbers drawn at random.
#include "depthlens/data/sample.hpp"

#include <random>
#include <set>

#include "depthlens/util/error.hpp"

namespace depthlens::data {
namespace {

/// Of 0 … `size` − 1, all equally likely. The standard's distributions differ from library to library.
std::uint64_t below(std::uint64_t size, std::mt19937_64& random) {
  const std::uint64_t most = std::mt19937_64::max() - std::mt19937_64::max() % size;
  std::uint64_t number = random();
  while (number >= most) number = random();
  return number % size;
}

}  // namespace

std::vector<std::int64_t> drawn(std::int64_t count, std::int64_t size, std::uint64_t seed) {
  DEPTHLENS_ASSERT(count >= 0 && count <= size);
  // Floyd's algorithm (Bentley and Floyd 1987).
  std::mt19937_64 random(seed);
  std::set<std::int64_t> chosen;
  for (std::int64_t last = size - count; last < size; ++last) {
    const auto number = static_cast<std::int64_t>(below(static_cast<std::uint64_t>(last) + 1, random));
    if (!chosen.insert(number).second) chosen.insert(last);
  }
  return {chosen.begin(), chosen.end()};
}

}  // namespace depthlens::data
