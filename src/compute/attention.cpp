// By libtorch's fused attention where it has what the rule asks for, else one block of rows after another.
#include "depthlens/compute/attention.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_efficient_attention_forward.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/runtime.hpp"

namespace depthlens::compute {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

/// Whether libtorch's fused attention has what the rule asks for.
bool is_fused(const AttentionRule& rule) {
  return rule.soft_cap == 0 && !rule.sinks.defined();
}

/// Some rows of a window with the keys that any of them sees.
struct Block {
  std::int64_t first_row, rows, first_key, keys;
};

std::vector<Block> blocks_of(std::int64_t T, std::int64_t window, std::int64_t rows_at_once) {
  std::vector<Block> blocks;
  for (std::int64_t first = 0; first < T; first += rows_at_once) {
    const std::int64_t rows = std::min(rows_at_once, T - first);
    const std::int64_t first_key = window == 0 ? 0 : std::max<std::int64_t>(0, first - window + 1);
    blocks.push_back({first, rows, first_key, first + rows - first_key});
  }
  return blocks;
}

/// Which keys of a block each of its rows sees, [rows, keys].
at::Tensor visible_keys(const Block& block, std::int64_t window, const at::TensorOptions& options) {
  const at::Tensor row =
      at::arange(block.first_row, block.first_row + block.rows, options.dtype(at::kLong)).unsqueeze(1);
  const at::Tensor key = at::arange(block.first_key, block.first_key + block.keys, options.dtype(at::kLong));
  const at::Tensor before = key.le(row);
  return window == 0 ? before : before.logical_and_(key.gt(row - window));
}

/// What is added to the scores of a block, [1, H, rows, keys] float32, with the bias of the row's own
/// position taken away: it changes no weight, and keeps the numbers small where the weights are large.
at::Tensor relative_bias(const at::Tensor& bias, const Block& block) {
  const at::Tensor of_keys = bias.narrow(1, block.first_key, block.keys);
  const at::Tensor of_rows = bias.narrow(1, block.first_row, block.rows);
  return (of_keys.unsqueeze(1) - of_rows.unsqueeze(2)).unsqueeze(0);
}

/// Scores, softmax and sum in float32 (float64 stays).
at::Tensor attend_block(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                        const AttentionRule& rule, const Block& block) {
  const at::ScalarType dtype = queries.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor scores = at::matmul(queries.to(dtype), keys.to(dtype).transpose(-1, -2)) * rule.scale;
  if (rule.soft_cap > 0) scores = at::tanh(scores / rule.soft_cap) * rule.soft_cap;
  if (rule.position_bias.defined()) scores = scores + relative_bias(rule.position_bias, block);
  scores = scores.masked_fill(visible_keys(block, rule.window, queries.options()).logical_not(), kHidden);
  if (rule.sinks.defined()) {
    at::Tensor sink =
        rule.sinks.to(dtype).view({1, -1, 1, 1}).expand({scores.size(0), scores.size(1), scores.size(2), 1});
    if (rule.position_bias.defined())
      sink = sink - rule.position_bias.narrow(1, block.first_row, block.rows).view({1, -1, block.rows, 1});
    scores = at::cat({scores, sink}, -1);
  }
  const at::Tensor weights = at::softmax(scores, -1).narrow(-1, 0, block.keys);
  return at::matmul(weights, values.to(dtype)).to(queries.scalar_type());
}

/// Rows in blocks, each with the keys that its rows see: neither the mask nor the work grows with T².
at::Tensor attend_by_blocks(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                            const AttentionRule& rule) {
  constexpr std::int64_t kRows = 512, kMinRows = 16, kScores = std::int64_t{1} << 24;
  const std::int64_t B = queries.size(0), H = queries.size(1), T = queries.size(2);
  const bool fused = is_fused(rule), small_mask = fused && !rule.position_bias.defined();
  const std::int64_t rows = small_mask ? kRows : std::clamp(kScores / (B * H * T), kMinRows, kRows);
  std::vector<at::Tensor> outputs;
  for (const Block& block : blocks_of(T, rule.window, rows)) {
    const at::Tensor q = queries.narrow(2, block.first_row, block.rows);
    const at::Tensor k = keys.narrow(2, block.first_key, block.keys);
    const at::Tensor v = values.narrow(2, block.first_key, block.keys);
    if (!fused) {
      outputs.push_back(attend_block(q, k, v, rule, block));
      continue;
    }
    at::Tensor mask = visible_keys(block, rule.window, queries.options());
    if (rule.position_bias.defined()) {
      mask = relative_bias(rule.position_bias, block).masked_fill(mask.logical_not(), kHidden);
      mask = mask.to(queries.scalar_type());
    }
    outputs.push_back(at::scaled_dot_product_attention(q, k, v, mask, 0.0, /*is_causal=*/false, rule.scale));
  }
  return at::cat(outputs, 2);
}

at::Tensor attend_to_windows(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                             const AttentionRule& rule);

/// Each chunk as a window of its own.
at::Tensor attend_by_chunks(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                            const AttentionRule& rule) {
  std::vector<at::Tensor> chunks;
  for (std::int64_t first = 0; first < queries.size(2); first += rule.chunk) {
    const std::int64_t rows = std::min(rule.chunk, queries.size(2) - first);
    AttentionRule of_chunk = rule;
    of_chunk.chunk = 0;
    if (rule.position_bias.defined()) of_chunk.position_bias = rule.position_bias.narrow(1, first, rows);
    chunks.push_back(attend_to_windows(queries.narrow(2, first, rows), keys.narrow(2, first, rows),
                                       values.narrow(2, first, rows), of_chunk));
  }
  return at::cat(chunks, 2);
}

/// Of windows [B, H, T, dh] together.
at::Tensor attend_to_windows(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                             const AttentionRule& rule) {
  const std::int64_t B = queries.size(0), T = queries.size(2);
  if (rule.chunk > 0 && rule.chunk < T) return attend_by_chunks(queries, keys, values, rule);
  AttentionRule used = rule;
  if (rule.window >= T) used.window = 0;
  const bool small_mask = is_fused(rule) && !rule.position_bias.defined();
  if (small_mask && used.window == 0) {
    return at::scaled_dot_product_attention(queries, keys, values, {}, 0.0, /*is_causal=*/true, rule.scale);
  }
  if (B == 1 || small_mask || !queries.is_cpu()) return attend_by_blocks(queries, keys, values, used);
  // How many windows there are decides how large the blocks are, and on some processors which of its products
  // libtorch takes: alone, a window has the same bits whatever its neighbours are.
  std::vector<at::Tensor> windows;
  for (std::int64_t b = 0; b < B; ++b) {
    windows.push_back(
        attend_by_blocks(queries.narrow(0, b, 1), keys.narrow(0, b, 1), values.narrow(0, b, 1), used));
  }
  return at::cat(windows);
}

/// Whether what libtorch's fused attention makes of a window depends, in the last bits, on its neighbours,
/// its place in memory and the number of threads: seen with heads of fewer than 16 numbers, with a single
/// one, and where rows of all heads do not begin at multiples of 16 bytes.
bool depends_on_company(const at::Tensor& queries, const AttentionRule& rule) {
  constexpr std::int64_t kNumbers = 16;
  const std::int64_t heads = queries.size(1), size = queries.size(3);
  return queries.is_cpu() && is_fused(rule) &&
         (heads == 1 || size < kNumbers || heads * size % kNumbers != 0) && !records_gradient(queries);
}

/// Each window and head by one thread, from memory of its own.
at::Tensor attend_apart(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                        const AttentionRule& rule) {
  const std::int64_t H = queries.size(1), tasks = queries.size(0) * H;
  at::Tensor out = at::empty(queries.sizes(), queries.options());
  for_each_by_one_thread(tasks, [&](std::int64_t task) {
    const std::int64_t window = task / H, head = task % H;
    const auto of_task = [&](const at::Tensor& x) {  // [1, 1, T, dh]
      return x.select(0, window).narrow(0, head, 1).clone(at::MemoryFormat::Contiguous).unsqueeze(0);
    };
    AttentionRule of_head = rule;
    if (rule.position_bias.defined()) of_head.position_bias = rule.position_bias.narrow(0, head, 1);
    out.select(0, window).select(0, head).copy_(
        attend_to_windows(of_task(queries), of_task(keys), of_task(values), of_head).flatten(0, 2));
  });
  return out;
}

}  // namespace

at::Tensor attend(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                  const AttentionRule& rule) {
  return depends_on_company(queries, rule) ? attend_apart(queries, keys, values, rule)
                                           : attend_to_windows(queries, keys, values, rule);
}

bool attends_adjoining(const at::Tensor& queries, const AdjoiningWindows& windows,
                       const AttentionRule& rule) {
  constexpr std::int64_t kAligned = 8;  // numbers of a head
  return queries.is_cuda() && is_fused(rule) && !rule.position_bias.defined() &&
         (rule.window == 0 || rule.window >= windows.longest) &&
         (rule.chunk == 0 || rule.chunk >= windows.longest) && queries.size(2) % kAligned == 0 &&
         !records_gradient(queries);
}

at::Tensor attend_adjoining(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                            const AdjoiningWindows& windows, const AttentionRule& rule) {
  constexpr std::int64_t kCausal = 1;
  const at::Tensor out = std::get<0>(at::_efficient_attention_forward(
      queries.unsqueeze(0), keys.unsqueeze(0), values.unsqueeze(0), /*bias=*/std::nullopt, windows.begins,
      windows.begins, windows.longest, windows.longest, /*dropout_p=*/0.0, kCausal,
      /*compute_log_sumexp=*/false, rule.scale));
  return out.squeeze(0);
}

}  // namespace depthlens::compute
