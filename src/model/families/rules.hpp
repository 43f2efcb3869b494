// Tensors of common shapes and names.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// A matrix with its bias, STEM.weight and STEM.bias (or a norm's two vectors); of both these rows.
void add_linear(ArchSpec& spec, const std::string& stem, Slot weight, Slot bias,
                std::vector<std::int64_t> shape, bool with_bias, const BlockFilter& blocks = {},
                const TensorRule::Rows& rows = {});

/// Also takes tensors of blocks by names that have "theirs" for each "ours" of these pairs.
void add_other_names(ArchSpec& spec, const std::vector<std::pair<std::string, std::string>>& ours_and_theirs);

/// One stored tensor whose rows, as they are used, are those of several slots in turn.
void add_rows_of(ArchSpec& spec, const TensorRule& whole,
                 const std::vector<std::pair<Slot, std::int64_t>>& parts);

/// Projections of queries, keys and values, and of what goes out: "layers.{i}.STEM.{q,k,v}_proj" and
/// "layers.{i}.STEM.OUT"; and norms of each head of queries and keys. Keys and values are of blocks that have
/// their own.
struct AttentionParts {
  std::string stem = "self_attn", out = "o_proj";
  std::string query_norm = {}, key_norm = {};  ///< "": none
  bool norms_less_one = false;
  bool qkv = true;     ///< no: what goes out, and norms, alone
  bool values = true;  ///< no: those are made by the projection of keys
  bool qkv_bias = false, out_bias = false;
  std::optional<Mixer> mixer = {};      ///< of blocks with this one alone
  std::optional<HeadSizes> heads = {};  ///< none: the spec's
};
void add_attention(ArchSpec& spec, const AttentionParts& parts);

/// q_norm and k_norm over the whole projections (OLMo 2 and 3, OLMoE), of all blocks or of those with this
/// mixer.
void add_norms_of_projections(ArchSpec& spec, std::optional<Mixer> mixer = {});

/// The MLP "layers.{i}.STEM.{GATE,UP,DOWN}".
struct GatedMlp {
  std::string stem = "mlp";
  std::array<std::string, 3> names = {"gate_proj", "up_proj", "down_proj"};
  bool bias = false;
  BlockFilter blocks = {};
  std::int64_t size = 0;  ///< 0: the spec's
};
void add_gated_mlp(ArchSpec& spec, const GatedMlp& mlp = {});

/// The MLP down(act(up x)) "layers.{i}.mlp.{UP,DOWN}" of all blocks, in place of a gated one.
struct PlainMlpNames {
  std::string up, down;
};
void add_plain_mlp(ArchSpec& spec, const PlainMlpNames& names, bool bias);

}  // namespace depthlens::model
