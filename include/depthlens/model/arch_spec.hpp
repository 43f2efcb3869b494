// What a decoder-only model is made of, as data: the one decoder block reads this and never asks for a
// family's name. A family is a function from `config.json` to an ArchSpec; the registry is
// src/model/families/registry.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "depthlens/util/json.hpp"

namespace depthlens::model {

enum class NormKind { kLayerNorm, kRmsNorm };
enum class Activation { kGelu, kGeluTanh, kRelu, kSilu };

/// How queries, keys and values leave their projection, per token: three projections of their own, one whose
/// rows are [3, H, dh] (GPT-2), or one whose rows are [H, 3, dh] (GPT-NeoX).
enum class QkvLayout { kSeparate, kFusedByKind, kFusedByHead };

/// Rotary position embedding of the first `dims` values of a head, in the half-split ("rotate_half")
/// arrangement.
struct RopeSpec {
  enum class Scaling { kNone, kLinear, kLlama3 };
  std::int64_t dims = 0;  ///< 0: the model has none
  double theta = 10000;
  Scaling scaling = Scaling::kNone;
  double factor = 1;
  double low_frequency_factor = 1;  ///< kLlama3 only, as the next two
  double high_frequency_factor = 4;
  double original_max_positions = 8192;

  bool operator==(const RopeSpec&) const = default;
};

/// The places in the computation that a tensor of a checkpoint can fill.
enum class Slot {
  // of the model
  kTokenEmbedding,
  kPositionEmbedding,
  kFinalNormWeight,
  kFinalNormBias,
  kUnembedding,
  kUnembeddingBias,
  // of a block
  kAttentionNormWeight,
  kAttentionNormBias,
  kMlpNormWeight,
  kMlpNormBias,
  kQkvWeight,
  kQkvBias,
  kQueryWeight,
  kQueryBias,
  kKeyWeight,
  kKeyBias,
  kValueWeight,
  kValueBias,
  kQueryNormWeight,
  kKeyNormWeight,
  kAttentionOutWeight,
  kAttentionOutBias,
  kMlpGateWeight,
  kMlpGateBias,
  kMlpUpWeight,
  kMlpUpBias,
  kMlpDownWeight,
  kMlpDownBias,
  kNumSlots,
};

/// One required tensor. In `name` the text "{i}" stands for the block's index; `shape` is as stored.
struct TensorRule {
  Slot slot;
  std::string name;
  std::vector<std::int64_t> shape;
  bool transposed = false;      ///< stored as [in, out] (GPT-2's Conv1D), used as [out, in]
  std::string other_name = {};  ///< of the unembedding, where checkpoints have two

  bool operator==(const TensorRule&) const = default;
};

/// The whole description of a model. Dimension letters: L blocks, d hidden size, V vocabulary, H heads, dh
/// head size.
struct ArchSpec {
  std::string architecture;      ///< as in config.json, such as "LlamaForCausalLM"
  std::int64_t num_layers = 0;   // L
  std::int64_t hidden_size = 0;  // d
  std::int64_t vocab_size = 0;   // V
  std::int64_t num_heads = 0;    // H
  std::int64_t num_kv_heads = 0;
  std::int64_t head_size = 0;  // dh
  std::int64_t mlp_size = 0;
  std::int64_t max_positions = 0;  ///< the longest window the model allows

  NormKind norm = NormKind::kLayerNorm;
  double norm_epsilon = 1e-5;
  bool parallel_residual = false;  ///< attention and MLP both read the block's input
  QkvLayout qkv = QkvLayout::kSeparate;
  RopeSpec rope;
  bool gated_mlp = false;  ///< down(act(gate x) · up x), else down(act(up x))
  Activation activation = Activation::kGelu;
  /// The unembedding is the token embedding. As `read_arch_spec` returns it, this is what the config says;
  /// `settled` (model/stored_weights.hpp) asks the weights too.
  bool tied_unembedding = false;
  /// Of each block, how many positions attention sees, its own included; 0: all before it. Empty where no
  /// block has such a window.
  std::vector<std::int64_t> attention_windows;

  std::string prefix;  ///< of all names but the unembedding's; a checkpoint may have it or not
  std::vector<TensorRule> model_tensors;  ///< the unembedding too, tied or not
  std::vector<TensorRule> block_tensors;
  /// Names (with "{i}") of tensors that carry no weight of the model: masks, cached tables.
  std::vector<std::string> ignorable;

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
