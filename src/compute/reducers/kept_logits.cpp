// Logits as they are, and distributions made of them.
#include "compute/reducers/kept_logits.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include "compute/aten/aten_backend.hpp"
#include "compute/cpu/host_tile.hpp"
#include "depthlens/compute/log_probabilities.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::compute {

KeptLogits::KeptLogits(const VocabularyPass& pass, const StateRows& rows, at::Tensor* memory)
    : values_(rows.values),
      memory_(memory),
      num_states_(rows.num_states),
      num_positions_(rows.num_positions),
      vocab_size_(pass.vocab_size()),
      stride_(pass.logit_stride()) {}

void KeptLogits::begin(const PassLayout& layout) {
  // Products write whole blocks.
  const std::int64_t positions = util::round_up(num_positions_, layout.block_rows);
  const std::int64_t count = num_states_ * positions * stride_, bytes = 4 * count;
  at::Tensor own;
  at::Tensor& memory = memory_ != nullptr ? *memory_ : own;
  if (!memory.defined() || memory.numel() < bytes) {
    memory = at::Tensor();
    memory = aligned_bytes(bytes);
  }
  all_ = memory.view(at::kFloat).narrow(0, 0, count).view({num_states_, positions, stride_});
  data_ = all_.mutable_data_ptr<float>();
}

void KeptLogits::add(HostTile& tile, Workspace* /*workspace*/) {
  for (std::int64_t s = 0; s < num_states_; ++s) tile.write(s, row(s, tile.begin) + tile.first, stride_);
}

void KeptLogits::add(DeviceTile& tile) {
  if (!all_.defined()) all_ = at::empty({num_states_, num_positions_, stride_}, values_.options());
  all_.narrow(2, tile.first, tile.width())
      .copy_(tile.logits().view({num_states_, num_positions_, tile.width()}));
}

at::Tensor logits(const VocabularyPass& pass, const StateRows& rows) {
  KeptLogits kept(pass, rows);
  pass.run(rows, kept);
  return kept.logits().reshape({rows.num_rows(), pass.vocab_size()});
}

at::Tensor plain_log_probabilities(const Unembedding& unembedding, const at::Tensor& rows) {
  const auto pass = make_aten_pass(unembedding);
  return logits(*pass, pass->pack(rows.to(at::kDouble), 1)).log_softmax(1);
}

}  // namespace depthlens::compute
