// The one decoder block, at work in a pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "depthlens/compute/backend.hpp"
#include "depthlens/model/arch_spec.hpp"
#include "positions.hpp"
#include "weights.hpp"

namespace depthlens::model {

/// What a pass hands to later blocks beside the states.
struct Carried {
  at::Tensor told;  // [T, L · p], what each block is told of its tokens; undefined where nothing
  std::map<std::int64_t, std::array<at::Tensor, 2>> keys_values;  // by block, where later ones read them
};

/// A block in a pass: what its parts read beside the states.
struct Block {
  const ArchSpec& arch;
  std::int64_t index;
  const Weights& weights;
  const Positions& positions;
  Carried& carried;
  at::ScalarType dtype;  ///< of the products
  compute::Precision products;
  /// Of an expert whose weights are read when it is chosen.
  std::function<MlpWeights(std::int64_t expert)> load_expert;

  const BlockSpec& spec() const { return arch.blocks[static_cast<std::size_t>(index)]; }
  const at::Tensor& operator[](Slot slot) const { return weights[slot]; }
  const compute::Backend& backend() const { return *weights.backend; }

  /// Rows [T, in], for products.
  compute::PackedRows packed(const at::Tensor& rows) const;
  /// Rows by a matrix of the block, [T, out], in float32.
  at::Tensor linear(const compute::PackedRows& rows, Slot weight, std::optional<Slot> bias = {}) const;
  at::Tensor linear(const at::Tensor& rows, Slot weight, std::optional<Slot> bias = {}) const {
    return linear(packed(rows), weight, bias);
  }
  /// A norm of the model's kind. `weight` and `bias` may be undefined.
  at::Tensor norm(const at::Tensor& input, const at::Tensor& weight = {}, const at::Tensor& bias = {}) const;
};

/// The stream [T, d] behind the block.
at::Tensor run_block(const Block& block, const at::Tensor& states);

/// What mixers make of what they read, [T, d] both.
at::Tensor attention(const Block& block, const at::Tensor& input);
at::Tensor delta_net(const Block& block, const at::Tensor& input);
at::Tensor convolution(const Block& block, const at::Tensor& input);
at::Tensor state_space(const Block& block, const at::Tensor& input);
at::Tensor selective_scan(const Block& block, const at::Tensor& input);

/// The MLP of a block, and the experts in its place or beside it; both read `input`, or the stream `middle`
/// through norms of their own.
at::Tensor feed_forward(const Block& block, const at::Tensor& input, const at::Tensor& middle);

}  // namespace depthlens::model
