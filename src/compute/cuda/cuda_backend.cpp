// Weights stay as they are stored, bfloat16 ones are multiplied so. Terms of others are made when they are
// needed: they would take more memory than the weights, which training changes besides, and splitting takes a
// few per cent of what a batch of rows takes to multiply.
#include "compute/cuda/cuda_backend.hpp"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "compute/aten/aten_backend.hpp"
#include "compute/cuda/split_terms.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::compute {
namespace {

class CudaBackend : public Backend {
 public:
  CudaBackend(const BackendOptions& options, at::Device device, std::shared_ptr<cuda::Kernels> kernels,
              std::function<std::uint64_t()> free_memory)
      : Backend(options, device), kernels_(std::move(kernels)), free_memory_(std::move(free_memory)) {}

  std::string kernel_name(Precision /*precision*/) const override { return "cuda-bf16"; }

  std::uint64_t memory() const override {
    if (options().memory > 0) return options().memory;
    constexpr std::uint64_t kMin = std::uint64_t{64} << 20;
    return std::max(kMin, free_memory_() / 4);
  }
  WorkSizes work_sizes() const override {
    return {.tokens_per_batch = 65536,
            .rows_per_chunk = 8192,
            .positions_per_chunk = 2048,
            .positions_translated = 2048,
            .attention_padding = 2,
            .memory_of_batch = 1.5,
            .memory_where_streamed = 2,
            .bytes_recorded = std::int64_t{4} << 30};
  }

  bool multiplies_stored(at::ScalarType type) const override {
    return type == at::kFloat || type == at::kBFloat16 || type == at::kHalf;
  }

  PackedRows pack(const at::Tensor& rows, Precision precision) const override {
    PackedRows packed{.values = rows, .precision = precision, .blocks = {}};
    if (records_gradient(rows)) return packed;
    if (rows.scalar_type() == at::kFloat) packed.blocks = kernels_->split(rows, cuda::row_terms(precision));
    if (rows.scalar_type() == at::kBFloat16) packed.blocks = rows.unsqueeze(0);  // a single term
    return packed;
  }

  std::unique_ptr<VocabularyPass> vocabulary_pass(const Unembedding& unembedding,
                                                  Precision precision) const override {
    if (!multiplies_stored(unembedding.weight.scalar_type())) return make_aten_pass(unembedding);
    constexpr std::int64_t kTileBytes = std::int64_t{256} << 20;
    return make_cuda_pass(kernels_, precision, unembedding, kTileBytes);
  }

 protected:
  at::Tensor product(const PackedRows& rows, const at::Tensor& weight, Way way) const override {
    if (!rows.blocks.defined() || !multiplies_stored(weight.scalar_type()))
      return aten_linear(rows.values, weight, way);
    const std::int64_t terms = cuda::weight_terms(weight.scalar_type(), rows.blocks.size(0));
    const at::Tensor y = at::empty({rows.values.size(0), weight.size(way == Way::kForward ? 0 : 1)},
                                   rows.values.options().dtype(at::kFloat));
    if (y.numel() == 0) return y;
    const at::Tensor weights = kernels_->split(weight, terms);
    cuda::multiply_terms(y, rows.blocks, way == Way::kForward ? weights : weights.transpose(1, 2),
                         [&](auto&&... of) { kernels_->multiply(of...); });
    return y;
  }

  bool takes_fewer_bits(Precision precision) const override { return precision == Precision::kFast; }

 private:
  std::shared_ptr<cuda::Kernels> kernels_;
  std::function<std::uint64_t()> free_memory_;
};

/// Bytes that libtorch holds of a card's memory for tensors to come.
std::uint64_t cached_memory(at::Device device) {
  c10::DeviceAllocator* const allocator = c10::getDeviceAllocator(at::kCUDA);
  if (!allocator->initialized()) return 0;
  constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  const auto stats = allocator->getDeviceStats(device.index());
  return static_cast<std::uint64_t>(stats.reserved_bytes[kAll].current - stats.allocated_bytes[kAll].current);
}

}  // namespace

std::shared_ptr<const Backend> make_cuda_backend(const BackendOptions& options, at::Device device) {
  cuda::Outcome<cuda::Card> card = cuda::Card::open(device.index());
  std::string reason = card.reason;
  constexpr int kFirstWithBfloat16 = 8;  // sm_80
  if (card && card->capability()[0] < kFirstWithBfloat16)
    reason = util::cat("it is of compute capability ", card->capability()[0], ".", card->capability()[1],
                       ", and multiplies no bfloat16");
  if (reason.empty()) {
    return make_cuda_backend(options, device, cuda::make_card_kernels(*card, options.kernel_cache),
                             [card = *card, device] { return card.free_memory() + cached_memory(device); });
  }
  util::log_info(
      util::cat(device.str(), " is used by libtorch's operations in float32, which is slower: ", reason));
  return make_aten_backend(options, device);
}

std::shared_ptr<const Backend> make_cuda_backend(const BackendOptions& options, at::Device device,
                                                 std::shared_ptr<cuda::Kernels> kernels,
                                                 std::function<std::uint64_t()> free_memory) {
  return std::make_shared<CudaBackend>(options, device, std::move(kernels), std::move(free_memory));
}

}  // namespace depthlens::compute
