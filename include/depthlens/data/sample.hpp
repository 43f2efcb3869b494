// Numbers drawn at random, the same everywhere for one seed.
#pragma once

#include <cstdint>
#include <vector>

namespace depthlens::data {

/// `count` different numbers of 0 … `size` − 1, every choice as likely as any other; rising. `count` must not
/// be greater than `size`. Time and memory grow with `count` alone.
std::vector<std::int64_t> drawn(std::int64_t count, std::int64_t size, std::uint64_t seed);

}  // namespace depthlens::data
