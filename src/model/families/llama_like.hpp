// What most families have in common: tensors named as Llama's, RMS norms, rotary positions, grouped queries,
// gated MLP.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/model/arch_spec.hpp"
#include "rope.hpp"

namespace depthlens::model {

/// What the config cannot say, with what most classes have.
struct LlamaLike {
  std::int64_t max_positions = 0;              ///< where the config does not say
  std::optional<std::int64_t> kv_heads = {};   ///< likewise; none: one for each head
  std::optional<std::int64_t> head_size = {};  ///< likewise, null is refused; none: hidden_size over heads
  bool tied_unembedding = false;               ///< likewise
  NormKind norm = NormKind::kRmsNorm;
  std::string mlp_size_key = "intermediate_size";  ///< "": it has none
  std::string epsilon_key = "rms_norm_eps";
  double epsilon = 1e-6;
  /// The norms of a block with a weight, as "layers.{i}.NAME.weight", and the model's last one.
  std::vector<std::pair<Slot, std::string>> norms = {{Slot::kAttentionNormWeight, "input_layernorm"},
                                                     {Slot::kMlpNormWeight, "post_attention_layernorm"}};
  bool final_norm_weight = true;
  bool norm_bias = false;
  bool norms_less_one = false;  ///< stored as w, used as 1 + w
  std::string activation_key = "hidden_act";
  std::string activation = "silu";
  RopeKeys rope = {};
  bool own_rope = false;        ///< rotary settings are read by the family itself
  bool partial_rotary = false;  ///< no: a head is rotated whole or the config is refused
  bool attention = true;        ///< no: all tensors of attention are the family's affair
  bool qkv = true;              ///< projections of their own; no: likewise
  bool qkv_bias = false;
  std::string attention_out = "o_proj";
  bool attention_out_bias = false;
  std::optional<Mixer> mixer = {};  ///< of the blocks that attend, where others do not
  std::string mlp_stem = "mlp";
  bool mlp_bias = false;
  bool query_key_norm = false;  ///< of each head, q_norm and k_norm
  bool dense_mlp = true;        ///< no: the MLPs are the family's affair
};
ArchSpec read_llama_like(const util::JsonView& config, const LlamaLike& parts);

}  // namespace depthlens::model
