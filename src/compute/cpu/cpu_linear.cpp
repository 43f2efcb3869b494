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
  at::Tensor out = at::empty({T, n}, at::kFloat);
  float* to = out.mutable_data_ptr<float>();

  constexpr std::int64_t kMaxWidth = 256;  // columns
  const PackedGemm::Tiling tiling = gemm.tiling(kMaxWidth, num_blocks);
  const std::int64_t width = tiling.columns, num_tiles = ceil_div(n, width);
  // So many groups that all threads have work; each packs the weights anew, which its rows must be worth.
  constexpr std::int64_t kMinBlocks = 8;
  const std::int64_t wanted = ceil_div(4 * at::get_num_threads(), num_tiles);
  const std::int64_t blocks_of_group = std::max(kMinBlocks, ceil_div(num_blocks, wanted));
  const std::int64_t num_groups = ceil_div(num_blocks, blocks_of_group);

  struct Workspace {
    at::Tensor panels;
    std::vector<float> products;  // [blocks at once, block_rows, width]
  };
  parallel_for_dynamic(
      num_tiles * num_groups, should_stop,
      [&] {
        return Workspace{aligned_bytes(gemm.columns_bytes(width)),
                         std::vector<float>(static_cast<std::size_t>(tiling.blocks * block_rows * width))};
      },
      [&](std::int64_t item, Workspace& workspace) {
        const std::int64_t first = item / num_groups * width, count = std::min(n - first, width);
        auto* panels = workspace.panels.mutable_data_ptr<std::uint8_t>();
        gemm.pack_neighbours(first, count, panels);
        const std::int64_t first_block = item % num_groups * blocks_of_group,
                           end_block = std::min(num_blocks, first_block + blocks_of_group);
        for (std::int64_t b = first_block; b < end_block; b += tiling.blocks) {
          const std::int64_t num = std::min(tiling.blocks, end_block - b), row = b * block_rows,
                             num_rows_here = std::min(T - row, num * block_rows);
          gemm.multiply({.first = blocks + b * gemm.block_bytes(),
                         .num_blocks = num,
                         .count = block_rows,
                         .last_count = num_rows_here - (num - 1) * block_rows},
                        tiling.depth, panels, count, workspace.products.data(), width);
          for (std::int64_t i = 0; i < num_rows_here; ++i)
            std::copy_n(workspace.products.data() + i * width, count, to + (row + i) * n + first);
        }
      });
  return out;
}

}  // namespace depthlens::compute
