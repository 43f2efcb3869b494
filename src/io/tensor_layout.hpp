// What both tensor formats check before a byte of a tensor is touched: sizes that fit, and files that are
// what their name says. Private to the room.
#pragma once

#include <cstdint>
#include <vector>

#include "depthlens/util/files.hpp"

namespace depthlens::io {

/// More dimensions than any weight has, and few enough for every ATen kernel.
constexpr std::size_t kMaxDimensions = 16;

/// The number of elements of `shape`, whose sizes are not negative. False where the product of the sizes
/// other than 0 does not fit in an int64: ATen refuses such a shape even when it is empty.
bool count_elements(const std::vector<std::int64_t>& shape, std::uint64_t& count);

/// Strides, in elements, of a tensor in row-major order without gaps. The product of the sizes must fit.
std::vector<std::int64_t> contiguous_strides(const std::vector<std::int64_t>& shape);

/// Throws a format error with a hint if the file is the small text that git-lfs leaves in place of a file.
void refuse_lfs_pointer(const util::MappedFile& file);

}  // namespace depthlens::io
