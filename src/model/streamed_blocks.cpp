#include "streamed_blocks.hpp"

#include <algorithm>
#include <utility>

#include "layers.hpp"

namespace depthlens::model {
namespace {

bool is_any_elsewhere(const std::vector<const compute::Backend*>& backends) {
  return std::any_of(backends.begin(), backends.end(),
                     [](const compute::Backend* backend) { return !backend->device().is_cpu(); });
}

/// Whether so many tokens leave hardly an expert out.
bool reaches_all_experts(std::int64_t num_tokens, const ExpertSpec& experts) {
  constexpr std::int64_t kTokensOfExpert = 8;
  return num_tokens * experts.chosen >= kTokensOfExpert * experts.count;
}

}  // namespace

StreamedBlocks::StreamedBlocks(const WeightFiles& files, const ArchSpec& spec,
                               const std::vector<const compute::Backend*>& backends, std::int64_t num_tokens)
    : files_(files),
      backends_(backends),
      with_experts_(reaches_all_experts(num_tokens, spec.experts)),
      reader_(is_any_elsewhere(backends) ? util::Worker::Where::kOwnThread : util::Worker::Where::kHere) {}

const Weights& StreamedBlocks::next(std::int64_t i) {
  // The host is ahead of a card by one block, else pinned memory would pile up.
  copied_.wait();
  of_host_ = on_device_ = {};
  const at::Device device = backend_of(i).device();
  if (!device.is_cpu()) {
    if (ahead_ != i) begin_to_read(i);
    reader_.wait();
    of_host_ = std::exchange(read_, {});
  }
  if (i + 1 < static_cast<std::int64_t>(backends_.size())) begin_to_read(i + 1);
  on_device_ = device.is_cpu() ? files_.load_block(i, backend_of(i), /*experts=*/false, moved_to(device))
                               : of_host_.on(device);
  copied_ = compute::WorkMark(device);
  // libtorch keeps pinned memory until its copies are done: the earlier it is given back, the earlier it can
  // be had again. Experts stay, with what is on the device, until they are chosen.
  of_host_ = {};
  return on_device_;
}

void StreamedBlocks::begin_to_read(std::int64_t i) {
  const at::Device device = backend_of(i).device();
  // The processor's weights are views of the file.
  if (device.is_cpu()) return files_.read_ahead(i, with_experts_);
  ahead_ = i;
  reader_.submit([this, i, device] {
    read_ = files_.load_block(i, backend_of(i), with_experts_, [&](const at::Tensor& loaded) {
      return given_up_ ? at::Tensor() : compute::staged_for(device, loaded);
    });
    files_.release(i);
  });
}

}  // namespace depthlens::model
