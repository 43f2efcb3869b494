#pragma once

#include <c10/util/Exception.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "support/other_pass.hpp"

namespace depthlens::test {

/// The processor's, with memory for products of so many rows, and for a pass over so many positions.
class ScarceBackend : public compute::Backend {
 public:
  explicit ScarceBackend(std::int64_t most_rows,
                         std::int64_t most_positions = std::numeric_limits<std::int64_t>::max())
      : Backend({}, at::kCPU),
        most_rows_(most_rows),
        most_positions_(most_positions),
        whole_(Backend::create()) {}
  compute::WorkSizes work_sizes() const override { return sizes; }
  std::string kernel_name(compute::Precision precision) const override {
    return whole_->kernel_name(precision);
  }
  bool multiplies_stored(at::ScalarType type) const override { return whole_->multiplies_stored(type); }
  compute::PackedRows pack(const at::Tensor& rows, compute::Precision precision) const override {
    return whole_->pack(rows, precision);
  }
  std::unique_ptr<compute::VocabularyPass> vocabulary_pass(const compute::Unembedding& unembedding,
                                                           compute::Precision precision) const override {
    return std::make_unique<OtherPass>(whole_->vocabulary_pass(unembedding, precision),
                                       [this](const compute::VocabularyPass& real,
                                              const compute::StateRows& rows, compute::Reducer& reducer) {
                                         if (rows.num_positions > most_positions_)
                                           refused.push_back(rows.num_positions);
                                         TORCH_CHECK_WITH(OutOfMemoryError,
                                                          rows.num_positions <= most_positions_, "no memory");
                                         real.run(rows, reducer);
                                       });
  }

  compute::WorkSizes sizes = {};
  mutable std::vector<std::int64_t> refused;  // numbers of rows, or of positions

 protected:
  bool takes_fewer_bits(compute::Precision /*precision*/) const override { return false; }
  at::Tensor product(const compute::PackedRows& rows, const at::Tensor& weight,
                     compute::Way way) const override {
    if (rows.values.size(0) > most_rows_) refused.push_back(rows.values.size(0));
    // As libtorch says it of cuBLAS' own memory.
    TORCH_CHECK(rows.values.size(0) <= most_rows_, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling");
    return way == compute::Way::kForward ? whole_->linear(rows, weight, {})
                                         : whole_->linear_back(rows, weight);
  }

 private:
  std::int64_t most_rows_, most_positions_;
  std::shared_ptr<const Backend> whole_;
};

}  // namespace depthlens::test
