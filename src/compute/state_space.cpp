// State spaces by chunks of positions: within one, what positions write is seen as attention without a
// softmax sees it; from one to the next goes the state.
#include "depthlens/compute/state_space.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>

#include "compute/state_chunks.hpp"

namespace depthlens::compute {

at::Tensor state_space(const at::Tensor& readers, const at::Tensor& writers, const at::Tensor& values,
                       const at::Tensor& log_decays) {
  const Decays decays = decays_of(log_decays);
  return run_through({.written = by_head(values),
                      .reads = {},
                      .shown = by_head(readers * decays.from_start),
                      .seen = by_head(at::matmul(readers, writers.transpose(-1, -2)) * decays.between),
                      .keys = by_head(writers * decays.to_end),
                      .decay = by_head(decays.of_chunk)});
}

}  // namespace depthlens::compute
