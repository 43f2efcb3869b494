#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/compute/vocabulary_pass.hpp"

namespace depthlens::test {

/// A pass that runs in a way of its own.
class OtherPass : public compute::VocabularyPass {
 public:
  using Run = std::function<void(const compute::VocabularyPass& real, const compute::StateRows& rows,
                                 compute::Reducer& reducer)>;
  OtherPass(std::unique_ptr<compute::VocabularyPass> real, Run run)
      : VocabularyPass(real->unembedding()), real_(std::move(real)), run_(std::move(run)) {}
  std::string kernel_name() const override { return real_->kernel_name(); }
  std::string products() const override { return real_->products(); }
  compute::StateRows pack(const at::Tensor& rows, std::int64_t num_states) const override {
    return real_->pack(rows, num_states);
  }
  void run(const compute::StateRows& rows, compute::Reducer& reducer) const override {
    run_(*real_, rows, reducer);
  }
  at::Tensor gather(const compute::StateRows& rows,
                    const std::vector<compute::TokenId>& tokens) const override {
    return real_->gather(rows, tokens);
  }
  std::uint64_t working_memory(std::int64_t num_states, std::int64_t num_positions) const override {
    return real_->working_memory(num_states, num_positions);
  }
  std::int64_t logit_stride() const override { return real_->logit_stride(); }
  const compute::RowStatistics* row_statistics() const override { return real_->row_statistics(); }

 private:
  std::unique_ptr<compute::VocabularyPass> real_;
  Run run_;
};

}  // namespace depthlens::test
