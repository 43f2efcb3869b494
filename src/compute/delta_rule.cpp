// The gated delta rule by chunks of positions: within one, what its positions write is the solution of a
// triangular system; from one to the next goes the state.
#include "depthlens/compute/delta_rule.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>

#include <vector>

#include "compute/state_chunks.hpp"

namespace depthlens::compute {

at::Tensor gated_delta_rule(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                            const at::Tensor& updates, const at::Tensor& log_decays) {
  const Decays decays = decays_of(log_decays);
  const at::Tensor turned = keys.transpose(-1, -2);
  const at::Tensor system = at::matmul(keys, turned) * decays.between * updates;
  const at::Tensor sides = at::cat({values * updates, keys * (updates * decays.from_start)}, -1);
  // Of the system the entries below the diagonal are read.
  const at::Tensor solved = at::linalg_solve_triangular(system, sides, /*upper=*/false, /*left=*/true,
                                                        /*unitriangular=*/true);
  const std::vector<at::Tensor> parts = solved.split_with_sizes({values.size(-1), keys.size(-1)}, -1);
  return run_through({.written = by_head(parts[0]),
                      .reads = by_head(parts[1]),
                      .shown = by_head(queries * decays.from_start),
                      .seen = by_head(at::matmul(queries, turned) * decays.between),
                      .keys = by_head(keys * decays.to_end),
                      .decay = by_head(decays.of_chunk)});
}

}  // namespace depthlens::compute
