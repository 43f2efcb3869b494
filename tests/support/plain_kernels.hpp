// In the place of a card's kernels: products by libtorch's operations, on whatever device; no others.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>

#include <cstdint>

#include "compute/cuda/kernels.hpp"
#include "compute/cuda/split_terms.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::test {

struct PlainKernels : compute::cuda::Kernels {
  bool has_reduction(const compute::cuda::ReduceVariant& /*variant*/) override { return false; }
  void reduce(const compute::cuda::ReduceVariant& /*variant*/,
              const compute::cuda::ReduceWork& /*work*/) override {
    DEPTHLENS_ASSERT(false);
  }
  bool has_softening() override { return false; }
  void soften(const compute::cuda::SoftenWork& /*work*/) override { DEPTHLENS_ASSERT(false); }
  at::Tensor split(const at::Tensor& x, std::int64_t count) override {
    return compute::cuda::split_terms(x, count);
  }
  void multiply(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add) override {
    DEPTHLENS_ASSERT(a.scalar_type() == at::kBFloat16 && b.scalar_type() == at::kBFloat16);
    const at::Tensor product = at::mm(a.to(at::kFloat), b.to(at::kFloat));
    at::Tensor to = out;
    if (add) {
      to.add_(product);
    } else {
      to.copy_(product);
    }
  }
};

}  // namespace depthlens::test
