// Windows by chunks of positions, as mixers with a state compute them.
#include "state_chunks.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/constant_pad_nd.h>

#include "depthlens/model/arch_spec.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::model {

at::Tensor by_chunk(const at::Tensor& x, std::int64_t groups, std::int64_t heads) {
  const std::int64_t T = x.size(1), whole = util::ceil_div(T, kStateChunk) * kStateChunk;
  return at::constant_pad_nd(x, {0, 0, 0, whole - T})
      .unflatten(1, {-1, kStateChunk})
      .unflatten(-1, {groups, heads, -1})
      .permute({1, 0, 3, 4, 2, 5})
      .contiguous();
}

at::Tensor by_position(const at::Tensor& shown, std::int64_t heads, std::int64_t T) {
  return shown.unflatten(1, {-1, heads}).permute({1, 0, 3, 2, 4}).flatten(1, 2).narrow(1, 0, T);
}

}  // namespace depthlens::model
