// Whole products by microkernels: tiles of columns, and rows in groups, are dealt out to threads.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "compute/cpu/cpu_backend.hpp"
#include "compute/cpu/packed_gemm.hpp"
#include "compute/parallel.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::compute {

using util::ceil_div;

at::Tensor pack_for_product(const CpuKernel& kernel, Precision precision, const at::Tensor& x) {
  // How rows are packed does not depend on the weights but for their width.
  const at::Tensor any_weights = at::empty({0, x.size(1)}, at::kFloat);
  return pack_blocks(PackedGemm(kernel, precision, any_weights), x.contiguous());
}

at::Tensor packed_product(const CpuKernel& kernel, Precision precision, const at::Tensor& packed,
                          std::int64_t num_rows, const at::Tensor& weight, Way way,
                          const ShouldStop& should_stop) {
  const PackedGemm gemm(kernel, precision, weight.contiguous(), way);
  const std::int64_t T = num_rows, n = gemm.num_columns(), block_rows = gemm.block_rows();
  const auto* blocks = packed.const_data_ptr<std::uint8_t>();
  const std::int64_t num_blocks = ceil_div(T, block_rows);
  DEPTHLENS_ASSERT(packed.numel() >= num_blocks * gemm.block_bytes());
  at::Tensor out = at::empty({num_blocks * block_rows, n}, at::kFloat);
  float* to = out.mutable_data_ptr<float>();

  constexpr std::int64_t kMaxWidth = 256;  // columns
  const std::int64_t width = gemm.tile_columns(kMaxWidth), num_tiles = ceil_div(n, width);
  const std::int64_t whole = n / gemm.panel_columns() * gemm.panel_columns();
  // So many groups that all threads have work; each packs the weights anew, which its rows must be worth.
  constexpr std::int64_t kMinBlocks = 8;
  const std::int64_t wanted = ceil_div(4 * at::get_num_threads(), num_tiles);
  const std::int64_t blocks_of_group = std::max(kMinBlocks, ceil_div(num_blocks, wanted));
  const std::int64_t num_groups = ceil_div(num_blocks, blocks_of_group);

  struct Workspace {
    at::Tensor panels;
    std::vector<float> edge;  // [block_rows, panel] of the columns that fill no panel
  };
  parallel_for_dynamic(
      num_tiles * num_groups, should_stop,
      [&] {
        return Workspace{aligned_bytes(gemm.columns_bytes(width)),
                         std::vector<float>(static_cast<std::size_t>(block_rows * gemm.panel_columns()))};
      },
      [&](std::int64_t item, Workspace& workspace) {
        const std::int64_t first = item / num_groups * width, end = std::min(n, first + width);
        auto* panels = workspace.panels.mutable_data_ptr<std::uint8_t>();
        gemm.pack_neighbours(first, end - first, panels);
        const std::int64_t first_block = item % num_groups * blocks_of_group;
        const std::int64_t whole_end = std::min(end, whole);
        for (std::int64_t b = first_block; b < std::min(num_blocks, first_block + blocks_of_group); ++b) {
          const std::int64_t count = std::min(block_rows, T - b * block_rows);
          const std::uint8_t* block = blocks + b * gemm.block_bytes();
          float* rows = to + b * block_rows * n;
          gemm.multiply(block, count, panels, whole_end - first, rows + first, n);
          if (whole_end == end) continue;
          const std::int64_t stride = gemm.panel_columns();
          gemm.multiply(block, count, panels + gemm.columns_bytes(whole_end - first), end - whole_end,
                        workspace.edge.data(), stride);
          for (std::int64_t i = 0; i < count; ++i)
            std::copy_n(workspace.edge.data() + i * stride, end - whole_end, rows + i * n + whole_end);
        }
      });
  return out.narrow(0, 0, T);
}

}  // namespace depthlens::compute
