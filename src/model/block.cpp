#include "block.hpp"

#include <ATen/TensorOperators.h>

#include "depthlens/util/error.hpp"
#include "layers.hpp"

namespace depthlens::model {

compute::PackedRows Block::packed(const at::Tensor& rows) const {
  return backend().pack(rows.to(dtype), products);
}

at::Tensor Block::linear(const compute::PackedRows& rows, Slot weight, std::optional<Slot> bias) const {
  return backend().linear(rows, weights[weight], bias ? weights[*bias] : at::Tensor());
}

at::Tensor Block::norm(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) const {
  return apply_norm(arch.norm, input, weight, bias, arch.norm_epsilon);
}

namespace {

/// What the block's mixer, whichever it is, makes of `input`.
at::Tensor mixed(const Block& block, const at::Tensor& input) {
  switch (block.spec().mixer) {
    case Mixer::kAttention:
    case Mixer::kWideAttention:
      return attention(block, input);
    case Mixer::kDeltaNet:
      return delta_net(block, input);
    case Mixer::kConvolution:
      return convolution(block, input);
    case Mixer::kStateSpace:
      return state_space(block, input);
    case Mixer::kAttentionAndStateSpace:
      return state_space(block, input) + attention(block, input);
    case Mixer::kSelectiveScan:
      return selective_scan(block, input);
    case Mixer::kNone:
      break;
  }
  DEPTHLENS_ASSERT(false);
  return {};
}

/// What is added to the stream of what the block is told of its tokens.
at::Tensor of_tokens(const Block& block, const at::Tensor& stream) {
  const std::int64_t p = block.arch.block_embedding_size;
  const at::Tensor told = block.carried.told.narrow(1, block.index * p, p).to(block.backend().device());
  const at::Tensor gate = block.linear(stream, Slot::kBlockInputGateWeight);
  const at::Tensor gated = activate(block.arch.activation, gate) * told;
  return block.norm(block.linear(gated, Slot::kBlockInputOutWeight), block[Slot::kBlockInputNormWeight]);
}

}  // namespace

at::Tensor run_block(const Block& block, const at::Tensor& states) {
  const ArchSpec& arch = block.arch;
  const NormPlace place = block.spec().norm_place.value_or(arch.norm_place);
  const bool before = place == NormPlace::kBefore || place == NormPlace::kBeforeAndAfter;
  const bool after = place == NormPlace::kAfter || place == NormPlace::kBeforeAndAfter;
  const auto read = [&](const at::Tensor& x, Slot weight, Slot bias) {
    return before ? block.norm(x, block[weight], block[bias]) : x;
  };
  const auto added = [&](const at::Tensor& x, at::Tensor branch, Slot out_norm, Slot weight, Slot bias) {
    if (after) branch = block.norm(branch, block[out_norm]);
    if (arch.residual_scale != 1) branch = branch * arch.residual_scale;
    const at::Tensor sum = x + branch;
    return place == NormPlace::kOfSum ? block.norm(sum, block[weight], block[bias]) : sum;
  };

  const BlockSpec& spec = block.spec();
  at::Tensor attention_reads, middle = states;
  if (spec.mixer != Mixer::kNone) {
    attention_reads = read(states, Slot::kAttentionNormWeight, Slot::kAttentionNormBias);
    middle = added(states, mixed(block, attention_reads), Slot::kAttentionOutNormWeight,
                   Slot::kAttentionNormWeight, Slot::kAttentionNormBias);
  }
  at::Tensor out = middle;
  if (spec.feed_forward) {
    const at::Tensor mlp_reads = arch.shared_norm ? attention_reads
                                                  : read(arch.parallel_residual ? states : middle,
                                                         Slot::kMlpNormWeight, Slot::kMlpNormBias);
    out = added(middle, feed_forward(block, mlp_reads, middle), Slot::kMlpOutNormWeight, Slot::kMlpNormWeight,
                Slot::kMlpNormBias);
  }
  if (block[Slot::kBlockInputGateWeight].defined()) out = out + of_tokens(block, out);
  return block[Slot::kBlockScale].defined() ? out * block[Slot::kBlockScale] : out;
}

}  // namespace depthlens::model
