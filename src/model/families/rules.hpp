// Tensors of common shapes and names.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// A matrix with its bias, STEM.weight and STEM.bias (or a norm's two vectors).
void add_linear(ArchSpec& spec, const std::string& stem, Slot weight, Slot bias,
                std::vector<std::int64_t> shape, bool with_bias);

/// One stored tensor whose rows, as they are used, are those of several slots in turn.
void add_rows_of(ArchSpec& spec, const TensorRule& whole,
                 const std::vector<std::pair<Slot, std::int64_t>>& parts);

/// q_norm and k_norm over the whole projections (OLMo 2 and 3, OLMoE).
void add_norms_of_projections(ArchSpec& spec);

/// The MLP "layers.{i}.mlp.{gate,up,down}_proj" of these blocks; of `mlp_size` where `size` is 0.
void add_gated_mlp(ArchSpec& spec, bool bias, const BlockFilter& blocks = {}, std::int64_t size = 0);

/// The MLP down(act(up x)) "layers.{i}.mlp.{UP,DOWN}" of all blocks, in place of a gated one.
struct PlainMlpNames {
  std::string up, down;
};
void add_plain_mlp(ArchSpec& spec, const PlainMlpNames& names, bool bias);

}  // namespace depthlens::model
