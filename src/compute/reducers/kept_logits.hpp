// The reducer that keeps what it is handed.
#pragma once

#include <ATen/core/Tensor.h>

#include "compute/reducer.hpp"

namespace depthlens::compute {

class KeptLogits : public Reducer {
 public:
  /// Keeps S · P rows as a walk of this pass makes them. On the processor they lie in `memory`, which becomes
  /// as large as they need and is theirs until they are gone; nullptr: in memory of their own.
  KeptLogits(const VocabularyPass& pass, const StateRows& rows, at::Tensor* memory = nullptr);

  Split split() const override { return Split::kBoth; }
  void begin(const PassLayout& layout) override;
  void add(HostTile& tile, Workspace* workspace) override;
  void add(DeviceTile& tile) override;

  /// [S, P, V]
  at::Tensor logits() const { return all_.narrow(1, 0, num_positions_).narrow(2, 0, vocab_size_); }

  // On the processor.
  float* row(std::int64_t state, std::int64_t position) {
    return data_ + (state * all_.size(1) + position) * stride_;
  }
  const float* row(std::int64_t state, std::int64_t position) const {
    return data_ + (state * all_.size(1) + position) * stride_;
  }
  std::int64_t stride() const { return stride_; }

 private:
  at::Tensor values_;  // of the rows: device and type
  at::Tensor* memory_;
  std::int64_t num_states_, num_positions_, vocab_size_, stride_;
  at::Tensor all_;  // [S, ≥ P, stride]
  float* data_ = nullptr;
};

}  // namespace depthlens::compute
