#include "positions.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "depthlens/compute/transfer.hpp"
#include "depthlens/util/error.hpp"
#include "layers.hpp"

namespace depthlens::model {
namespace {

std::vector<WindowGroup> groups_of(const PackedWindows& windows, const compute::Backend& backend) {
  const std::int64_t padding = backend.work_sizes().attention_padding;
  std::vector<WindowGroup> groups;
  for (std::size_t first = 0, end = 0; first < windows.lengths.size(); first = end) {
    WindowGroup group;
    for (; end < windows.lengths.size(); ++end, ++group.windows) {
      const std::int64_t length = windows.lengths[end], longest = std::max(group.longest, length);
      if ((group.windows + 1) * longest > padding * (group.rows + length)) break;
      group.rows += length;
      group.longest = longest;
    }
    if (group.windows * group.longest > group.rows) {
      std::vector<std::int64_t> padded, kept;
      std::int64_t row = 0;
      for (std::size_t i = first; i < end; ++i) {
        for (std::int64_t t = 0; t < group.longest; ++t) {
          const bool present = t < windows.lengths[i];
          if (present) kept.push_back(static_cast<std::int64_t>(padded.size()));
          padded.push_back(present ? row++ : row - 1);
        }
      }
      group.padded = index_tensor(padded, backend.device());
      group.kept = index_tensor(kept, backend.device());
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace

at::Tensor WindowGroup::by_window(const at::Tensor& of_rows) const {
  const at::Tensor whole = padded.defined() ? of_rows.index_select(0, padded) : of_rows;
  return whole.unflatten(0, {windows, longest});
}

at::Tensor WindowGroup::by_row(const at::Tensor& of_windows) const {
  const at::Tensor rows_of_all = of_windows.flatten(0, 1);
  return kept.defined() ? rows_of_all.index_select(0, kept) : rows_of_all;
}

std::vector<std::int64_t> positions_of(const ArchSpec& spec, const PackedWindows& windows) {
  std::vector<std::int64_t> positions;
  for (const std::int64_t length : windows.lengths) {
    DEPTHLENS_ASSERT(length >= 1 && length <= spec.max_positions);
    for (std::int64_t p = 0; p < length; ++p) positions.push_back(p);
  }
  return positions;
}

Positions::Positions(const ArchSpec& spec, const PackedWindows& packed, const compute::Backend& backend)
    : lengths(packed.lengths), groups(groups_of(packed, backend)) {
  const at::Device device = backend.device();
  for (const RopeSpec& rope : spec.ropes) rotations.push_back(rotary_tables(rope, lengths, device));
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  if (device.is_cuda()) {
    std::vector<std::int32_t> begins = {0};
    for (const std::int64_t length : lengths)
      begins.push_back(begins.back() + static_cast<std::int32_t>(length));
    const auto count = static_cast<std::int64_t>(begins.size());
    windows = {.begins = compute::copied_to(device, at::from_blob(begins.data(), {count}, at::kInt)),
               .longest = longest};
  }
  bias = position_bias(spec, longest, device);
  if (const AttentionSpec& attention = spec.attention; attention.query_growth != 0) {
    std::vector<float> scales;
    for (const std::int64_t position : positions_of(spec, packed)) {
      const auto grown = static_cast<double>(position + attention.query_growth_first);
      const double steps = std::floor(grown / attention.query_growth_length);
      scales.push_back(static_cast<float>(1 + attention.query_growth * std::log1p(steps)));
    }
    const auto T = static_cast<std::int64_t>(scales.size());
    query_scale = compute::copied_to(device, at::from_blob(scales.data(), {T, 1, 1}, at::kFloat));
  }
}

at::Tensor over_groups(const Positions& positions, const std::vector<at::Tensor>& rows, const MixRows& mix) {
  std::vector<at::Tensor> mixed;
  std::int64_t first = 0;
  for (const WindowGroup& group : positions.groups) {
    std::vector<at::Tensor> of_group;
    for (const at::Tensor& x : rows) of_group.push_back(group.by_window(x.narrow(0, first, group.rows)));
    mixed.push_back(group.by_row(mix(of_group)));
    first += group.rows;
  }
  return at::cat(mixed);
}

at::Tensor over_windows(const Positions& positions, const std::vector<at::Tensor>& rows,
                        const MixRows& mix_all, const MixRows& mix) {
  const bool records = std::any_of(rows.begin(), rows.end(), compute::records_gradient);
  if (rows.front().is_cpu() && !records) return mix_all(rows);
  return over_groups(positions, rows, mix);
}

}  // namespace depthlens::model
