// A decoder-only language model: weights from a checkpoint, and a forward pass that shows every residual
// state.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/compute/attention.hpp"
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
};

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
  /// Loads `config.json` and the weights of `folder`. Throws input and format errors that name the file and
  /// the key or tensor: an unknown architecture, a missing or misshapen tensor, a tensor that nothing claims.
  static std::shared_ptr<const Model> load(const std::filesystem::path& folder, const LoadOptions& options);

  const ArchSpec& spec() const { return spec_; }
  const OutputHead& head() const { return head_; }
  const std::filesystem::path& folder() const { return folder_; }
  /// What multiplies for the head and for all that goes by the states which the tap gets. Where the model is
  /// on several devices, that of the last.
  const compute::Backend& backend() const { return *options_.backends.back(); }
  at::Device device() const { return backend().device(); }
  /// What multiplies for a block, on the device where its weights are.
  const compute::Backend& backend_of(std::int64_t block) const {
    return *options_.backends[device_of_block_[static_cast<std::size_t>(block)]];
  }
  /// "cuda:0", or all devices in their order, with commas.
  std::string device_names() const;
  /// Bytes of a batch (compute::Backend) on the device that has the least: each has the intermediate results
  /// of its blocks.
  std::uint64_t memory() const;
  /// Tokens that may run through the blocks together where `num_kept` of their residual states are kept:
  /// those and a block's intermediate results take `memory` bytes; at least 1.
  std::int64_t tokens_at_once(std::int64_t num_kept, double memory) const;
  at::ScalarType dtype() const { return options_.dtype; }
  bool streams_layers() const { return options_.stream_layers; }
  std::int64_t num_parameters() const { return num_parameters_; }

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
  /// A matrix [out, in], or its MXFP4 form: bytes [out, in / 32, 16] with scales [out, in / 32].
  struct Matrix {
    at::Tensor values = {}, scales = {};
    at::Tensor unfolded() const;
  };
  struct MlpWeights {
    Matrix gate = {}, up = {}, down = {};
    at::Tensor gate_bias = {}, up_bias = {}, down_bias = {};
    std::array<at::Tensor, 4> xielu = {};  ///< of the activation, where it has such
    MlpWeights on(at::Device device) const;
  };
  /// The tensors of one block or of the model, by slot; undefined where the architecture has none.
  struct Weights {
    std::array<at::Tensor, static_cast<std::size_t>(Slot::kNumSlots)> slots;
    std::vector<MlpWeights> experts;            // of a block; none where they are read when they are chosen
    const compute::Backend* backend = nullptr;  // of a block: what multiplies by them
    /// With the experts where they are: of these, some are moved when they are chosen.
    Weights on(at::Device device) const;
    const at::Tensor& operator[](Slot slot) const { return slots[static_cast<std::size_t>(slot)]; }
    at::Tensor& operator[](Slot slot) { return slots[static_cast<std::size_t>(slot)]; }
  };
  /// Neighbouring windows whose attention is one call, on a card with rows behind the shorter ones, which no
  /// other row sees.
  struct WindowGroup {
    std::int64_t rows, windows, longest;
    at::Tensor padded;  ///< [windows · longest] rows of the group; undefined where all are equally long
    at::Tensor kept;    ///< [rows] of these

    /// [rows, …] as [windows, longest, …], and back.
    at::Tensor by_window(const at::Tensor& of_rows) const;
    at::Tensor by_row(const at::Tensor& of_windows) const;
  };
  /// What the positions of some windows mean to attention, for all blocks of a device.
  struct Positions {
    compute::AdjoiningWindows windows;  // on a card
    std::vector<std::int64_t> lengths;  // of the windows
    std::vector<WindowGroup> groups;
    std::vector<std::array<at::Tensor, 2>> rotations;  // of each of the model's ropes
    at::Tensor bias;                                   // [H, longest window], or undefined
    at::Tensor query_scale;                            // [T, 1, 1], or undefined
  };

  /// What a pass hands to later blocks beside the states.
  struct Carried {
    at::Tensor told;  // [T, L · p], what each block is told of its tokens; undefined where nothing
    std::map<std::int64_t, std::array<at::Tensor, 2>> keys_values;  // by block, where later ones read them
  };

  /// What is done to each tensor of the host's memory as it has been loaded.
  using Placing = std::function<at::Tensor(const at::Tensor& loaded)>;

  class WeightFiles;
  class StreamedBlocks;

  Model() = default;
  void load_weights();
  /// Says on which device each block is.
  void place_blocks(const std::vector<std::int64_t>& bytes, std::int64_t bytes_before,
                    std::int64_t bytes_after);
  Weights load_block(std::int64_t block, bool experts, const Placing& place) const;
  MlpWeights load_expert(std::int64_t block, std::int64_t expert, const Placing& place) const;
  /// The position of each token in its window; lengths are checked.
  std::vector<std::int64_t> positions_of(const PackedWindows& windows) const;
  static std::vector<WindowGroup> groups_of(const PackedWindows& windows, const compute::Backend& backend);
  Positions prepared(const PackedWindows& windows, const compute::Backend& backend) const;

  /// The states of layer 0, on the first device.
  at::Tensor embed_on_first(const PackedWindows& windows) const;
  /// What the blocks are told of the tokens, of which these are the states of layer 0.
  at::Tensor told_of(const PackedWindows& windows, const at::Tensor& embedded) const;
  void run_from(std::int64_t first_block, const at::Tensor& states, const PackedWindows& windows,
                Carried carried, const ResidualTap& tap) const;

  /// One block's part of the stream; `i` is its index.
  at::Tensor run_block(std::int64_t i, const Weights& block, const at::Tensor& states,
                       const Positions& positions, Carried& carried) const;
  at::Tensor attention(std::int64_t i, const Weights& block, const at::Tensor& input,
                       const Positions& positions, Carried& carried) const;
  /// Queries [T, H, dh], keys and values [T, G, dh], before positions come in. The latter are undefined where
  /// the block reads those of another.
  std::array<at::Tensor, 3> projections(const BlockSpec& spec, const Weights& block,
                                        const compute::PackedRows& rows) const;
  /// The same of latent attention, rotated, and of one width: what is narrower has zeros behind it.
  std::array<at::Tensor, 3> latent_projections(const BlockSpec& spec, const Weights& block,
                                               const compute::PackedRows& rows,
                                               const Positions& positions) const;
  /// By head or over all heads, where the architecture has such norms; keys may be undefined.
  void norm_queries_and_keys(const Weights& block, at::Tensor& q, at::Tensor& k) const;
  /// Makes [W, T, …] of several [W, T, …], of W windows.
  using MixWindows = std::function<at::Tensor(const std::vector<at::Tensor>& rows)>;
  /// What `mix` makes of the windows of each group; all are [rows of all windows, …].
  static at::Tensor over_groups(const Positions& positions, const std::vector<at::Tensor>& rows,
                                const MixWindows& mix);
  at::Tensor delta_net(const Weights& block, const at::Tensor& input, const Positions& positions) const;
  at::Tensor convolution(const Weights& block, const at::Tensor& input, const Positions& positions) const;
  at::Tensor state_space(const Weights& block, const at::Tensor& input, const Positions& positions) const;
  at::Tensor selective_scan(const Weights& block, const at::Tensor& input, const Positions& positions) const;
  /// What the block's mixer, whichever it is, makes of `input`.
  at::Tensor mixed(std::int64_t i, const Weights& block, const at::Tensor& input, const Positions& positions,
                   Carried& carried) const;
  at::Tensor mlp(const compute::Backend& backend, const MlpWeights& weights,
                 const compute::PackedRows& rows) const;
  /// Which experts each token chooses, int64 [T, k], and with what weights.
  std::array<at::Tensor, 2> choice(const Weights& block, const compute::PackedRows& rows) const;
  /// The router reads `routed`, the experts `input`.
  at::Tensor mixture(std::int64_t i, const Weights& block, const at::Tensor& input,
                     const at::Tensor& routed) const;
  /// The MLP of a block, and the experts in its place or beside it; both read `input`, or the stream `middle`
  /// through norms of their own.
  at::Tensor feed_forward(std::int64_t i, const Weights& block, const at::Tensor& input,
                          const at::Tensor& middle) const;
  at::Tensor norm(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) const;
  compute::PackedRows packed(const compute::Backend& backend, const at::Tensor& input) const;

  std::filesystem::path folder_;
  ArchSpec spec_;
  LoadOptions options_;
  Weights weights_;
  std::vector<std::size_t> device_of_block_;  // rising; which of the backends
  std::vector<Weights> blocks_;               // none where they are streamed
  std::shared_ptr<const WeightFiles> files_;  // where they are
  OutputHead head_;
  std::int64_t num_parameters_ = 0;
};

/// The first tensor of the model's checkpoint that holds NaN or an infinity, as "FILE: NAME";
/// nothing where all are finite. Reads all weights: for the message when results are not finite.
std::optional<std::string> non_finite_tensor(const Model& model);

}  // namespace depthlens::model
