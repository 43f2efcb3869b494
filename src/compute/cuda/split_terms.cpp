// Terms by libtorch's operations.
#include "compute/cuda/split_terms.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <vector>

#include "depthlens/util/error.hpp"

namespace depthlens::compute::cuda {

at::Tensor split_terms(const at::Tensor& x, std::int64_t count) {
  DEPTHLENS_ASSERT(count >= 1);
  if (count == 1 && x.scalar_type() == at::kBFloat16) return x.unsqueeze(0);
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.insert(shape.begin(), count);
  at::Tensor terms = at::empty(shape, x.options().dtype(at::kBFloat16));
  at::Tensor rest = x;
  for (std::int64_t i = 0; i < count; ++i) {
    const at::Tensor term = terms.select(0, i);
    term.copy_(rest);
    // Exact: the difference of a number and its first bits.
    if (i + 1 < count) rest = rest.to(at::kFloat) - term;
  }
  return terms;
}

at::Tensor sum_of_terms(const at::Tensor& terms) {
  at::Tensor sum = terms.select(0, terms.size(0) - 1).to(at::kFloat);
  for (std::int64_t i = terms.size(0) - 2; i >= 0; --i) sum = sum + terms.select(0, i);
  return sum;
}

}  // namespace depthlens::compute::cuda
