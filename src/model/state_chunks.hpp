// Windows by chunks of positions, as mixers with a state compute them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace depthlens::model {

/// x [W, T, groups · heads · size] as [chunks, W, groups, heads, kStateChunk, size], with zeros behind the
/// window: where keys and values and the logarithm of a decay are 0, a state is neither written nor fades.
at::Tensor by_chunk(const at::Tensor& x, std::int64_t groups, std::int64_t heads);

/// What states showed, [chunks, W · heads, kStateChunk, size], as [W, T, heads, size].
at::Tensor by_position(const at::Tensor& shown, std::int64_t heads, std::int64_t T);

}  // namespace depthlens::model
