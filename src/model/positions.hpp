// What the positions of some windows mean to the blocks.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "depthlens/compute/attention.hpp"
#include "depthlens/compute/backend.hpp"
#include "depthlens/model/arch_spec.hpp"
#include "depthlens/model/model.hpp"

namespace depthlens::model {

/// Neighbouring windows that are mixed in one call, on a card with rows behind the shorter ones, which no
/// other row sees.
struct WindowGroup {
  std::int64_t rows = 0, windows = 0, longest = 0;
  at::Tensor padded = {};  ///< [windows · longest] rows of the group; undefined where all are equally long
  at::Tensor kept = {};    ///< [rows] of these

  /// [rows, …] as [windows, longest, …], and back.
  at::Tensor by_window(const at::Tensor& of_rows) const;
  at::Tensor by_row(const at::Tensor& of_windows) const;
};

/// For all blocks of a device.
struct Positions {
  compute::AdjoiningWindows windows;  // on a card
  std::vector<std::int64_t> lengths;  // of the windows
  std::vector<WindowGroup> groups;
  std::vector<std::array<at::Tensor, 2>> rotations;  // of each of the model's ropes
  at::Tensor bias;                                   // [H, longest window], or undefined
  at::Tensor query_scale;                            // [T, 1, 1], or undefined

  Positions(const ArchSpec& spec, const PackedWindows& windows, const compute::Backend& backend);
};

/// The position of each token in its window; lengths are checked.
std::vector<std::int64_t> positions_of(const ArchSpec& spec, const PackedWindows& windows);

/// Makes one tensor of several, which are [T, …] of all windows, or [W, T, …] of W windows.
using MixRows = std::function<at::Tensor(const std::vector<at::Tensor>& rows)>;

/// What `mix` makes of the windows of each group; all are [rows of all windows, …].
at::Tensor over_groups(const Positions& positions, const std::vector<at::Tensor>& rows, const MixRows& mix);

/// What `mix_all` makes of all windows where nothing is recorded on the processor, else `mix` of each group.
at::Tensor over_windows(const Positions& positions, const std::vector<at::Tensor>& rows,
                        const MixRows& mix_all, const MixRows& mix);

}  // namespace depthlens::model
