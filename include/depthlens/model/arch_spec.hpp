// What a decoder-only model is made of, as data: the one decoder block reads this and never asks for a
// family's name. A family is a function from `config.json` to an ArchSpec; the registry is
// src/model/families/registry.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/compute/logit_transform.hpp"
#include "depthlens/io/scale_form.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::model {

/// All norms work along the last dimension and may have a weight and a bias.
enum class NormKind {
  kNone,
  kLayerNorm,
  kRmsNorm,
};

/// Where the norms of a block stand; f is attention or MLP, h the residual stream.
enum class NormPlace {
  kBefore,          ///< h + f(N(h))
  kAfter,           ///< h + N(f(h))
  kBeforeAndAfter,  ///< h + N'(f(N(h)))
  kOfSum,           ///< N(h + f(h))
};

enum class Activation {
  kGelu,
  kGeluTanh,
  kRelu,
  kReluSquared,
  kSilu,
  kXielu,  ///< with numbers of each block's own (Slot::kXieluAbove and the next three); of plain MLPs only
};

/// Rotary position embedding of the first `dims` values of a head: pairs (x_n, x_{n + dims/2}) turn by
/// position · f_n, where f_n = theta^(−2n/dims) as the scaling changes it.
struct RopeSpec {
  enum class Scaling { kNone, kLinear, kDynamic, kLlama3, kYarn, kLongRope };
  std::int64_t dims = 0;
  double theta = 10000;
  bool interleaved = false;  ///< pairs are (x_2n, x_{2n+1})
  Scaling scaling = Scaling::kNone;
  double factor = 1;
  double low_frequency_factor = 1;  ///< kLlama3 only, as the next
  double high_frequency_factor = 4;
  /// kLlama3, kYarn and kLongRope: the length that the model was first trained for. kDynamic: the longest
  /// text whose frequencies are unchanged.
  double original_max_positions = 8192;
  double beta_fast = 32;  ///< kYarn only, as the next two
  double beta_slow = 1;
  bool truncate = true;
  std::vector<double> short_factors = {};  ///< kLongRope only: of each frequency, dims / 2
  std::vector<double> long_factors = {};   ///< of windows longer than `original_max_positions`
  double amplitude = 1;                    ///< of cosines and sines
  double long_amplitude = 0;               ///< kLongRope: of windows as above, where it is not the same
  std::int64_t still_pairs = 0;            ///< so many of the last pairs do not turn (Gemma 4)
  bool backwards = false;                  ///< pairs turn by minus the angles (nanochat)

  /// Whether the angles of a position depend on how long its window is.
  bool depends_on_length() const { return scaling == Scaling::kDynamic || scaling == Scaling::kLongRope; }
  bool operator==(const RopeSpec&) const = default;
};

/// Positions as an addition to scores that grows with the distance (ALiBi), by head.
enum class PositionBias {
  kNone,
  kSlopes,        ///< score + slope · position
  kRoundedSlopes  ///< (q · k + bias) · scale, where slope, position and their product are bfloat16 (Falcon)
};

struct AttentionSpec {
  double scale = 1;                           ///< of q · k
  double input_scale = 1;                     ///< of what the projections read
  double output_scale = 1;                    ///< of what goes out
  double soft_cap = 0;                        ///< scores are cap · tanh(score / cap); 0: none
  double clip_projections = 0;                ///< queries, keys, values are clamped to ±this; 0: not
  std::int64_t value_size = 0;                ///< of a head's values; 0: that of the head
  bool query_key_norm_of_projection = false;  ///< over all heads at once; else over each head
  bool query_key_norm_behind_rope = false;    ///< else before it
  PositionBias position_bias = PositionBias::kNone;
  double position_bias_max = 8;  ///< slopes go down to 2 to the minus this
  bool value_norm = false;       ///< values are normed by head, without a weight
  bool output_gate = false;  ///< what the heads make is multiplied by sigmoid of a projection of the input
  bool norm_of_rotated = false;  ///< in blocks that rotate them, queries and keys are then normed by head,
                                 ///< without a weight
  /// Queries are multiplied by 1 + this · ln(1 + floor((position + `query_growth_first`) /
  /// `query_growth_length`)), in all blocks or in those that rotate nothing.
  double query_growth = 0;
  double query_growth_length = 1;
  std::int64_t query_growth_first = 0;
  bool query_growth_unrotated = false;

  bool operator==(const AttentionSpec&) const = default;
};

/// Attention whose queries, keys and values are made of narrow vectors (DeepSeek). A head of queries and keys
/// has a part that is not rotated and, behind it, the one that is, of the size of the block's rotary
/// embedding; the latter is the same in all heads of keys.
struct LatentSpec {
  std::int64_t query_rank = 0;      ///< 0: queries are projected from the input at once
  std::int64_t key_value_rank = 0;  ///< 0: the model's attention is not of this kind
  std::int64_t value_size = 0;      ///< of a head
  double norm_epsilon = 1e-6;       ///< of the narrow vectors

  bool operator==(const LatentSpec&) const = default;
};

/// How many heads of keys and values there are, and how large all heads are.
struct HeadSizes {
  std::int64_t num_kv_heads = 0, head_size = 0;
  bool operator==(const HeadSizes&) const = default;
};

/// Attention with heads of other sizes than most blocks have (Gemma 4's full blocks).
struct WideHeadsSpec : HeadSizes {  // 0 heads: no block has such
  bool keys_are_values = false;     ///< values are the projection of keys, before its norm

  bool operator==(const WideHeadsSpec&) const = default;
};

/// Positions that a mixer with a state computes at once.
inline constexpr std::int64_t kStateChunk = 64;

/// What a gated delta rule (Qwen 3.5) mixes positions with: a state of [key_size, value_size] for each head
/// of values, which a position reads, corrects and lets fade. A head of queries and keys serves value_heads /
/// key_heads neighbouring heads of values.
struct DeltaNetSpec {
  std::int64_t key_heads = 0;  ///< 0: no block has such
  std::int64_t value_heads = 0;
  std::int64_t key_size = 0;  ///< of a head, of queries too
  std::int64_t value_size = 0;
  std::int64_t kernel = 0;  ///< positions that the convolution before it sees, its own included
  double update_scale = 1;  ///< of the logistic numbers that say how much of a correction is written
  double norm_epsilon = 0;  ///< of the norm of a head; 0: that of the model's norms

  /// Numbers of one position: of queries or keys, and of values.
  std::int64_t keys() const { return key_heads * key_size; }
  std::int64_t values() const { return value_heads * value_size; }
  bool operator==(const DeltaNetSpec&) const = default;
};

/// What a state space (Mamba 2) mixes positions with: a state of [state_size, head_size] for each head, which
/// at each position fades, is written to and read. Neighbouring heads, as many as a group has, have what
/// writes and what reads in common.
struct StateSpaceSpec {
  static constexpr double kNoLimit = std::numeric_limits<double>::infinity();
  /// Root mean square norm of what the heads of a group show.
  enum class Norm {
    kNone,
    kBehindGate,
    kBeforeGate,
  };
  std::int64_t heads = 0;  ///< 0: no block has such
  std::int64_t head_size = 0;
  std::int64_t groups = 0;
  std::int64_t state_size = 0;
  std::int64_t kernel = 0;  ///< positions that the convolution before it sees, its own included
  double least_step = 0;    ///< steps are clamped to these
  double largest_step = kNoLimit;
  Norm norm = Norm::kBehindGate;
  Activation activation = Activation::kSilu;  ///< behind the convolution
  double input_scale = 1, output_scale = 1;   ///< of what the projections read, and of what goes out
  /// Of projections: gates, values, writers, readers, steps.
  std::array<double, 5> part_scales = {1, 1, 1, 1, 1};

  /// Numbers of one position: of values; of writers or readers; of all that goes through the convolution; of
  /// all that the input is projected to.
  std::int64_t values() const { return heads * head_size; }
  std::int64_t keys() const { return groups * state_size; }
  std::int64_t channels() const { return values() + 2 * keys(); }
  std::int64_t projected() const { return values() + channels() + heads; }
  bool operator==(const StateSpaceSpec&) const = default;
};

/// What a selective scan (Mamba) mixes positions with: a state of `state_size` numbers for each channel, each
/// of which fades at its own rate.
struct SelectiveScanSpec {
  std::int64_t channels = 0;  ///< 0: no block has such
  std::int64_t state_size = 0;
  std::int64_t kernel = 0;     ///< positions that the convolution before it sees, its own included
  std::int64_t step_rank = 0;  ///< of the narrow vectors that steps are made of
  /// Of the root mean square norms of these vectors, of writers and of readers, with weights (Jamba) or
  /// without (Falcon Mamba); 0: there are none.
  double norm_epsilon = 0;
  Activation activation = Activation::kSilu;  ///< behind the convolution

  bool operator==(const SelectiveScanSpec&) const = default;
};

/// A mixture of experts: of each token, a router's scores choose some of the MLPs.
struct ExpertSpec {
  enum class Weighting {
    kSoftmaxOfAll,     ///< probabilities over all experts, of which the chosen ones keep theirs
    kShares,           ///< the same, divided by their sum
    kSoftmaxOfChosen,  ///< a softmax over the scores of those chosen
    /// One is chosen after the other, the best of those left, weighed by a softmax over those left whose
    /// scores are less than it by no more than `nearness` times the larger of the two (SparseMixer).
    kNearBest,
    kLogistic,        ///< 1 / (1 + exp(−score)); the choice goes by that plus the router's bias, if any
    kLogisticShares,  ///< the same, divided by their sum
    kBiasedShares,    ///< as kShares; the choice goes by the probability plus the router's bias
  };
  std::int64_t count = 0;   ///< E; 0: the model has none
  std::int64_t chosen = 0;  ///< of each token
  std::int64_t mlp_size = 0;
  std::int64_t shared_mlp_size = 0;  ///< of an MLP that sees every token, beside those chosen; 0: none
  std::int64_t latent_size = 0;      ///< of narrow vectors that those chosen read and put out; 0: the model's
  Weighting weighting = Weighting::kSoftmaxOfAll;
  double scale = 1;           ///< of the weights of those chosen
  double nearness = 0;        ///< kNearBest only
  double shares_epsilon = 0;  ///< added to the sum that shares are of,
  double least_sum = 0;       ///< which is taken for this where it is less
  std::int64_t groups = 1;    ///< of experts in order: only those of the `chosen_groups` best can be chosen,
  std::int64_t chosen_groups = 1;  ///< a group being as good as the sum of its two best,
  bool groups_by_best = false;     ///< or as its best
  bool weighs_input = false;       ///< what an expert reads is multiplied by its weight, not what it makes
  double output_scale = 1;         ///< of what those chosen and the shared one make together
  /// The experts stand beside the block's MLP and read the same residual stream, each branch between norms of
  /// its own; the router reads the stream normed without a weight, times its scale / sqrt(d) (Gemma 4).
  bool beside_mlp = false;

  bool is_logistic() const {
    return weighting == Weighting::kLogistic || weighting == Weighting::kLogisticShares;
  }
  /// Whether the router's bias decides only who is chosen.
  bool ranks_by_bias() const { return is_logistic() || weighting == Weighting::kBiasedShares; }
  bool shares() const {
    return weighting == Weighting::kShares || weighting == Weighting::kLogisticShares ||
           weighting == Weighting::kBiasedShares;
  }
  bool operator==(const ExpertSpec&) const = default;
};

/// What brings the positions of a window together.
enum class Mixer {
  kAttention,
  kWideAttention,  ///< with the heads of `ArchSpec::wide`
  kDeltaNet,
  /// A short convolution between two gates (LFM2): c · conv(b · x), where b, c and x are projections.
  kConvolution,
  kStateSpace,
  kAttentionAndStateSpace,  ///< side by side
  kSelectiveScan,
  kNone,  ///< the block is an MLP, or experts
};

inline bool attends(Mixer mixer) {
  return mixer == Mixer::kAttention || mixer == Mixer::kWideAttention ||
         mixer == Mixer::kAttentionAndStateSpace;
}
inline bool has_state_space(Mixer mixer) {
  return mixer == Mixer::kStateSpace || mixer == Mixer::kAttentionAndStateSpace;
}

/// What one block has of its own.
struct BlockSpec {
  static constexpr int kNoRope = -1;
  static constexpr std::int64_t kOwnKeys = -1;
  std::int64_t window = 0;  ///< how many positions attention sees, its own included; 0: all before it
  std::int64_t chunk = 0;   ///< so many positions see only each other, then the next; 0: all before it
  int rope = kNoRope;       ///< which of the model's
  double score_scale = 1;   ///< of q · k, beside the model's
  bool experts = false;     ///< the MLP is the mixture of experts
  Mixer mixer = Mixer::kAttention;
  bool feed_forward = true;  ///< no: it mixes positions, and that is all
  /// The block before it whose keys and values it reads in place of its own.
  std::int64_t keys_of = kOwnKeys;
  std::optional<NormPlace> norm_place = {};  ///< where it is not the model's

  bool operator==(const BlockSpec&) const = default;
};

/// The places in the computation that a tensor of a checkpoint can fill.
enum class Slot {
  // of the model
  kTokenEmbedding,
  kPositionEmbedding,
  kBlockEmbedding,            ///< [V', L · p]: what each block is told of a token
  kBlockEmbeddingProjection,  ///< [L · p, d], of the state of layer 0
  kBlockEmbeddingNormWeight,  ///< [p], of the latter
  kEmbeddingProjection,
  kEmbeddingNormWeight,
  kEmbeddingNormBias,
  kFinalNormWeight,
  kFinalNormBias,
  kOutputProjection,
  kUnembedding,
  kUnembeddingBias,
  // of a block
  kAttentionNormWeight,
  kAttentionNormBias,
  kAttentionOutNormWeight,
  kMlpNormWeight,
  kMlpNormBias,
  kMlpOutNormWeight,
  kQkvWeight,  ///< rows by group of heads: those of H / G queries, a key, a value
  kQkvBias,
  kQueryWeight,
  kQueryBias,
  kKeyWeight,
  kKeyBias,
  kValueWeight,
  kValueBias,
  kQueryNormWeight,  ///< [dh], [H, dh], or [H · dh] where the norm is of the projection; of keys [G, …]
  kQueryNormBias,
  kKeyNormWeight,
  kKeyNormBias,
  kAttentionSinks,  ///< [H]: a score more in each softmax, of nothing
  kAttentionGateWeight,
  kAttentionGateBias,
  kLatentQueryWeight,  ///< [query_rank, d]; kQueryWeight then reads these
  kLatentQueryBias,
  kLatentQueryNormWeight,
  kLatentWeight,  ///< [key_value_rank, d]; kKeyWeight (parts that are not rotated) and kValueWeight read
                  ///< these
  kLatentBias,
  kLatentNormWeight,
  kRotatedKeyWeight,  ///< [dims of the rope, d]
  kRotatedKeyBias,
  kDeltaQueryWeight,  ///< [heads · size, d], as the next three
  kDeltaKeyWeight,
  kDeltaValueWeight,
  kDeltaGateWeight,
  kDeltaUpdateWeight,  ///< [value_heads, d], as the next one
  kDeltaDecayWeight,
  kDeltaQueryConvolution,  ///< [heads · size, 1, kernel], as the next two
  kDeltaKeyConvolution,
  kDeltaValueConvolution,
  kDeltaDecayBias,  ///< [value_heads], as the next one
  kDeltaLogDecay,
  kDeltaNormWeight,  ///< [value_size]
  kDeltaOutWeight,
  // of a convolution, of a state space, of a selective scan
  kMixerInWeight,  ///< [3 · d, d], rows of b, c, x; of gates, values, writers, readers, steps; of values,
                   ///< gates
  kMixerInBias,
  kMixerConvolution,  ///< [d, 1, kernel], or [channels, 1, kernel]
  kMixerConvolutionBias,
  kMixerOutWeight,
  kMixerOutBias,
  kStateStepBias,  ///< [heads], as the next two; or [channels], [channels, state_size], [channels]
  kStateLogDecay,
  kStateSkip,
  kScanWeight,            ///< [step_rank + 2 · state_size, channels], rows of narrow steps, writers, readers
  kScanStepWeight,        ///< [channels, step_rank]
  kScanStepNormWeight,    ///< [step_rank], of the narrow steps,
  kScanWriterNormWeight,  ///< [state_size], of writers,
  kScanReaderNormWeight,  ///< [state_size], and of readers
  kStateNormWeight,       ///< [values]
  kAttentionOutWeight,
  kAttentionOutBias,
  kMlpGateWeight,
  kMlpGateBias,
  kMlpUpWeight,
  kMlpUpBias,
  kMlpDownWeight,
  kMlpDownBias,
  kXieluAbove,    ///< [1]: behind softplus, of the square of what is positive,
  kXieluBelow,    ///< [1]: and, more than the next, of exp(x) − 1 − x of the rest
  kXieluSlope,    ///< []: of what is added everywhere, in proportion to x
  kXieluLimit,    ///< []: the largest x in the exponent
  kRouterWeight,  ///< [E, d]
  kRouterBias,
  kRouterScale,        ///< [d], of what the router reads
  kExpertScale,        ///< [E]: of the weights of those chosen
  kExpertsNormWeight,  ///< where experts stand beside the MLP: before them, behind them, behind the MLP
  kExpertsOutNormWeight,
  kDenseOutNormWeight,
  kExpertsInWeight,  ///< [latent_size, d], and back
  kExpertsOutWeight,
  kSharedGateWeight,
  kSharedUpWeight,
  kSharedDownWeight,
  kSharedShareWeight,  ///< [1, d]: the shared MLP's output is multiplied by sigmoid of this product
  kExpertGateWeight,   ///< of each expert, as the rest
  kExpertGateBias,
  kExpertUpWeight,
  kExpertUpBias,
  kExpertDownWeight,
  kExpertDownBias,
  kBlockInputGateWeight,  ///< [p, d]: act of it, times what the block is told of the token,
  kBlockInputOutWeight,   ///< [d, p], through this and the next is added at the block's end
  kBlockInputNormWeight,
  kBlockScale,  ///< [1]: of the block's output
  kNumSlots,
};

inline bool is_of_expert(Slot slot) {
  return slot >= Slot::kExpertGateWeight && slot <= Slot::kExpertDownBias;
}

/// Some of the blocks: those that are so in all that is said here.
struct BlockFilter {
  std::optional<bool> experts = {};
  std::optional<Mixer> mixer = {};
  std::optional<bool> own_keys = {};
  std::optional<std::int64_t> index = {};

  bool admits(const BlockSpec& block, std::int64_t i) const {
    return (!experts || *experts == block.experts) && (!mixer || *mixer == block.mixer) &&
           (!own_keys || *own_keys == (block.keys_of == BlockSpec::kOwnKeys)) && (!index || *index == i);
  }
  bool operator==(const BlockFilter&) const = default;
};

/// One required tensor. In `name` the text "{i}" stands for the block's index, "{n}" for that of an expert or
/// of a head; `shape` is that of each tensor as stored. A tensor that has the values of several slots has a
/// rule for each.
struct TensorRule {
  enum class Storage {
    kPlain,
    kMxfp4,  ///< as NAME_blocks and NAME_scales, 32 numbers of 4 bits to a scale; `shape` is without them
  };
  /// Which rows of the stored tensor, after transposing it: `count` of them, in runs of `run`, each of which
  /// begins `step` rows behind the one before, from `first` on.
  struct Rows {
    std::int64_t first = 0, count = 0;  ///< count 0: all
    std::int64_t step = 1, run = 1;
    bool operator==(const Rows&) const = default;
  };

  Slot slot;
  std::string name;
  std::vector<std::int64_t> shape;
  bool transposed = false;                    ///< stored as [in, out] (GPT-2's Conv1D), used as [out, in]
  std::vector<std::string> other_names = {};  ///< of a tensor of the model, where checkpoints have others
  BlockFilter blocks = {};                    ///< which have it
  Rows rows = {};
  bool of_all_experts = false;   ///< one tensor whose first dimension is the expert's,
  bool experts_in_rows = false;  ///< or whose rows are those of one expert behind the other
  Storage storage = Storage::kPlain;
  std::int64_t stacked = 0;  ///< so many tensors "{n}" are the rows of one
  bool less_one = false;     ///< stored as w, used as 1 + w

  bool operator==(const TensorRule&) const = default;
};

/// The whole description of a model. Dimension letters: L blocks, d hidden size, V vocabulary, H heads, G
/// heads of keys and values, dh head size.
struct ArchSpec {
  std::string architecture;        ///< as in config.json, such as "LlamaForCausalLM"
  std::int64_t num_layers = 0;     // L
  std::int64_t hidden_size = 0;    // d
  std::int64_t vocab_size = 0;     // V
  std::int64_t num_heads = 0;      // H
  std::int64_t num_kv_heads = 0;   // G
  std::int64_t head_size = 0;      // dh
  std::int64_t mlp_size = 0;       ///< of the blocks without experts, or beside them
  std::int64_t max_positions = 0;  ///< the longest window the model allows
  /// Of the MLPs of blocks that read another's keys and values, where it is not `mlp_size`; 0: it is.
  std::int64_t mlp_size_of_readers = 0;

  double embedding_scale = 1;
  bool rounds_embedding_scale = false;  ///< to the type of the products (Gemma)
  bool embedding_norm = false;          ///< the states of layer 0 are normed
  std::int64_t position_offset = 0;     ///< row of the position embedding that position 0 has
  /// Instead of learned rows: sines, then cosines, of row · 10000^(−n / (d / 2 − 1)), n < d / 2 (XGLM).
  bool sinusoidal_positions = false;
  NormKind norm = NormKind::kLayerNorm;
  NormPlace norm_place = NormPlace::kBefore;  ///< of blocks that have no other
  double norm_epsilon = 1e-5;
  bool final_norm = true;
  bool parallel_residual = false;  ///< attention and MLP both read the block's input
  bool shared_norm = false;        ///< and they read it through attention's norm
  double residual_scale = 1;       ///< of what attention and MLP add
  AttentionSpec attention;
  LatentSpec latent;
  WideHeadsSpec wide;
  DeltaNetSpec delta_net;
  StateSpaceSpec state_space;
  SelectiveScanSpec selective_scan;
  std::int64_t convolution_kernel = 0;    ///< positions that a convolution sees, its own included
  std::int64_t block_embedding_size = 0;  ///< p, of what each block is told of a token; 0: nothing
  std::vector<RopeSpec> ropes;            ///< the different ones; none: the model has no rotary positions
  std::vector<BlockSpec> blocks;          ///< L
  bool gated_mlp = false;                 ///< down(act(gate x) · up x), else down(act(up x))
  double mlp_gate_scale = 1;              ///< of gate x
  double mlp_out_scale = 1;               ///< of what goes out
  Activation activation = Activation::kGelu;
  /// 0, or GPT-OSS' form of a gated MLP: down((u + 1) · g · sigmoid(alpha · g)), g = min(gate x, limit), u =
  /// up x clamped to ±limit.
  double clamped_gate_limit = 0, clamped_gate_alpha = 0;
  ExpertSpec experts;
  compute::LogitTransform logit_transform;
  /// The unembedding is the token embedding. As `read_arch_spec` returns it, this is what the config says;
  /// `settled` (model/stored_weights.hpp) asks the weights too.
  bool tied_unembedding = false;

  /// What the names of all tensors but the unembedding's may begin with; a checkpoint may also have none.
  std::vector<std::string> prefixes;
  std::vector<TensorRule> model_tensors;  ///< the unembedding too, tied or not
  std::vector<TensorRule> block_tensors;
  /// Other ways in which a checkpoint may store what fills a slot of a block: where it has a rule's tensor,
  /// `settled` (model/stored_weights.hpp) puts the rule in place of those of the same slot above.
  std::vector<TensorRule> other_block_tensors;
  /// Names (with "{i}", or "*" at the end) of tensors that carry no weight of the model: masks, cached
  /// tables, parts that see pictures.
  std::vector<std::string> ignorable;
  io::ScaleForm scales;  ///< of matrices in 8 bits (FP8)

  /// Whether block `i` has the tensor of this rule.
  bool has(const TensorRule& rule, std::int64_t i) const {
    return rule.blocks.admits(blocks[static_cast<std::size_t>(i)], i);
  }
  /// Whether a block reads nothing but the state before it, at all positions: not what the tokens were, nor
  /// keys and values of an earlier block.
  bool states_are_all() const;
  /// The last block that reads the keys and values which block `i` makes; `i` where it alone does.
  std::int64_t last_reader_of(std::int64_t i) const;
  /// Of the attention of a block.
  HeadSizes heads_of(const BlockSpec& block) const {
    if (block.mixer == Mixer::kWideAttention) return wide;
    return {.num_kv_heads = num_kv_heads, .head_size = head_size};
  }
  /// Numbers of a token that a pass keeps for later blocks, beside the states.
  std::int64_t carried_size() const;
  /// Whether what comes after a position in a window of at most `longest` tokens may change its state: rotary
  /// angles of some models go by how long a window is, where that is longer than those of their training.
  bool angles_go_by_length(std::int64_t longest) const;
  /// The widest MLP that a token passes through, that of experts being the sum over those chosen.
  std::int64_t widest_mlp() const;
  /// How many blocks have this mixer.
  std::int64_t num_blocks(Mixer mixer) const;
  /// How many blocks have a mixer of which this is so.
  std::int64_t num_blocks(bool (*is_so)(Mixer)) const;

  /// Of queries, or of values where they are wider, over all heads.
  std::int64_t width_of_heads() const;

  bool operator==(const ArchSpec&) const = default;
};

/// Reads `config.json` of a Hugging Face folder. Where a key is absent, the default of the family's class in
/// transformers 5 holds, or the key is required. Throws a format error for an architecture that depthlens
/// does not know, for settings that contradict each other, and for a setting that changes the mathematics and
/// is not supported; all are named. Settings that transformers does not read either are reported in a
/// warning.
ArchSpec read_arch_spec(const util::JsonView& config);

/// The architectures that `read_arch_spec` knows, for messages and `info`.
std::vector<std::string> known_architectures();

}  // namespace depthlens::model
