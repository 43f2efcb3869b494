// A decoder-only language model: weights from a checkpoint, and a forward pass that shows every residual
// state.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/vocabulary_pass.hpp"
#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

struct LoadOptions {
  /// Of the products; the residual stream stays in float32. Weights are converted to it, but for float32
  /// where the backend's products take them as they are stored.
  at::ScalarType dtype = at::kFloat;
  /// How many bits of float32 rows reach the products of the blocks.
  compute::Precision products = compute::Precision::kFloat32;
  /// Where the model is, and what multiplies; none: the processor's quickest. Several: the blocks are dealt
  /// out to them in order, so that each device holds about the same bytes; the embedding is on the first, the
  /// head on the last.
  std::vector<std::shared_ptr<const compute::Backend>> backends = {};
  /// Keep no block's weights: each is read when its turn comes and dropped, so that a pass over all blocks
  /// should have many windows. Where a block is not the processor's, a thread reads the next one meanwhile,
  /// and none after that: the host holds two blocks at most.
  bool stream_layers = false;
  /// Only what turns states into logits: the blocks are neither needed nor read, and nothing can be run.
  bool head_only = false;
  /// What `read_config` gave of the folder, where it has been read; nothing: it is read.
  std::optional<ArchSpec> config = {};
};

/// Reads `config.json` of a folder (`read_arch_spec`). Throws input errors, too.
ArchSpec read_config(const std::filesystem::path& folder);

/// What turns a residual state into logits: final norm, and the unembedding with its bias and transform. A
/// projection that a model has between the two is part of the unembedding here. Tensors are shared with the
/// model.
struct OutputHead {
  NormKind norm = NormKind::kLayerNorm;
  double norm_epsilon = 1e-5;
  at::Tensor norm_weight;  ///< [d], float32, or undefined
  at::Tensor norm_bias;    ///< likewise
  compute::Unembedding unembedding;

  /// The final norm of residual states [P, d], in float32.
  at::Tensor normed(const at::Tensor& states) const;
};

/// Several windows of tokens, one after the other; none sees another.
struct PackedWindows {
  std::vector<std::int64_t> tokens;   ///< all windows' ids, T in all
  std::vector<std::int64_t> lengths;  ///< of each window, ≥ 1
};

/// Called with layer 0 … L, in this order: the float32 residual states [T, d] of all windows before the final
/// norm. The tensor is not changed afterwards and may be kept.
using ResidualTap = std::function<void(std::int64_t layer, const at::Tensor& states)>;

/// Indices of rows or tokens, [n] int64.
at::Tensor index_tensor(const std::vector<std::int64_t>& values, at::Device device);

class Model {
 public:
  /// Loads the weights of `folder`, and `config.json` unless the options have it. Throws input and format
  /// errors that name the file and the key or tensor: an unknown architecture, a missing or misshapen tensor,
  /// a tensor that nothing claims.
  static std::shared_ptr<const Model> load(const std::filesystem::path& folder, const LoadOptions& options);

  ~Model();

  const ArchSpec& spec() const;
  const OutputHead& head() const;
  const std::filesystem::path& folder() const;
  /// What multiplies for the head and for all that goes by the states which the tap gets. Where the model is
  /// on several devices, that of the last.
  const compute::Backend& backend() const;
  at::Device device() const { return backend().device(); }
  /// What multiplies for a block, on the device where its weights are.
  const compute::Backend& backend_of(std::int64_t block) const;
  /// "cuda:0", or all devices in their order, with commas.
  std::string device_names() const;
  /// Bytes of a batch (compute::Backend) on the device that has the least: each has the intermediate results
  /// of its blocks.
  std::uint64_t memory() const;
  /// Tokens that may run through the blocks together where `num_kept` of their residual states are kept:
  /// those and a block's intermediate results take `memory` bytes; at least 1.
  std::int64_t tokens_at_once(std::int64_t num_kept, double memory) const;
  at::ScalarType dtype() const;
  bool streams_layers() const;
  std::int64_t num_parameters() const;

  /// Runs the windows through all blocks. Ids must lie in the vocabulary and lengths within `max_positions`;
  /// the result for a window does not depend on the others. The same as `embed`, then `run_blocks` from 0,
  /// where the latter can be called. Throws an input error for a token of which the model has nothing to tell
  /// its blocks (`block_embedding_size`): a table that is shorter than the vocabulary.
  void forward(const PackedWindows& windows, const ResidualTap& tap) const;

  /// The states of layer 0: float32 [T, d], on the model's device.
  at::Tensor embed(const PackedWindows& windows) const;

  /// Goes on from `states`, float32 [T, d] of layer `first_block` on the model's device, through the blocks
  /// `first_block` … L − 1; the tap is called with layers `first_block` + 1 … L. The states may be those of
  /// another run, changed at will: only the lengths of `windows` matter here, not the tokens. `states` itself
  /// is not changed. Only for models of which `spec().states_are_all()`; see `require_states_are_all`.
  ///
  /// Where gradients are enabled and `states` requires one, every state shown to the tap can be
  /// differentiated with respect to `states` and to the states shown before. Its values then differ from
  /// those of `forward` in the last bits. Otherwise they are the same bits, and are tensors of inference
  /// mode, from which no gradient can be taken until they are cloned.
  void run_blocks(std::int64_t first_block, const at::Tensor& states, const PackedWindows& windows,
                  const ResidualTap& tap) const;

  /// Throws a usage error where a run cannot go on from states alone: later blocks also read what the tokens
  /// were, or keys and values that an earlier block made. `what` needs that, as "activation patching".
  void require_states_are_all(const std::string& what) const;

 private:
  struct Parts;
  explicit Model(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

/// The first tensor of the model's checkpoint that holds NaN or an infinity, as "FILE: NAME";
/// nothing where all are finite. Reads all weights: for the message when results are not finite.
std::optional<std::string> non_finite_tensor(const Model& model);

}  // namespace depthlens::model
