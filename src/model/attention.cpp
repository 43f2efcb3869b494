// Attention of a block: queries, keys and values of each kind, and what becomes of them.
#include "depthlens/compute/attention.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "block.hpp"
#include "layers.hpp"

namespace depthlens::model {
namespace {

/// Queries [T, H, dh], keys and values [T, G, dh]; the latter two are undefined where the block reads those
/// of another.
struct Heads {
  at::Tensor q, k, v;
};

/// Which rows of windows have no attention, [T, 1] bool: the query, or a key that may be seen from there, is
/// not finite, of which libtorch's attention on the processor makes 0. Undefined where there are none.
at::Tensor rows_without_attention(const at::Tensor& queries, const at::Tensor& keys,
                                  const std::vector<std::int64_t>& lengths) {
  const auto broken = [](const at::Tensor& x) {
    const auto [least, most] = x.detach().flatten(1).aminmax(1, /*keepdim=*/true);  // NaN where there is one
    return at::isfinite(least).logical_and(at::isfinite(most)).logical_not();
  };
  const at::Tensor of_queries = broken(queries), of_keys = broken(keys);
  if (!of_queries.logical_or(of_keys).any().item<bool>()) return {};
  std::vector<at::Tensor> seen;
  for (const at::Tensor& window : of_keys.split_with_sizes(lengths)) seen.push_back(window.cumsum(0).gt(0));
  return of_queries.logical_or(at::cat(seen));
}

/// By head or over all heads, where the architecture has such norms.
void norm_queries_and_keys(const Block& block, Heads& heads) {
  if (!block[Slot::kQueryNormWeight].defined()) return;
  const auto normed = [&](const at::Tensor& x, Slot weight, Slot bias) {
    if (!block.arch.attention.query_key_norm_of_projection) return block.norm(x, block[weight], block[bias]);
    return block.norm(x.flatten(1), block[weight], block[bias]).view(x.sizes());
  };
  heads.q = normed(heads.q, Slot::kQueryNormWeight, Slot::kQueryNormBias);
  if (heads.k.defined()) heads.k = normed(heads.k, Slot::kKeyNormWeight, Slot::kKeyNormBias);
}

/// Before positions come in.
Heads projections(const Block& block, const compute::PackedRows& rows) {
  const ArchSpec& arch = block.arch;
  const HeadSizes sizes = arch.heads_of(block.spec());
  const std::int64_t H = arch.num_heads, G = sizes.num_kv_heads, dh = sizes.head_size;
  const std::int64_t dv = arch.attention.value_size > 0 ? arch.attention.value_size : dh;
  const std::int64_t T = rows.values.size(0);
  Heads heads;
  auto& [q, k, v] = heads;
  if (block[Slot::kQkvWeight].defined()) {
    const std::int64_t queries = H / G;
    const at::Tensor fused =
        block.linear(rows, Slot::kQkvWeight, Slot::kQkvBias).view({T, G, queries + 2, dh});
    q = fused.narrow(2, 0, queries).reshape({T, H, dh});
    k = fused.select(2, queries);
    v = fused.select(2, queries + 1);
  } else {
    q = block.linear(rows, Slot::kQueryWeight, Slot::kQueryBias).view({T, H, dh});
    if (block.spec().keys_of == BlockSpec::kOwnKeys) {
      k = block.linear(rows, Slot::kKeyWeight, Slot::kKeyBias).view({T, G, dh});
      const bool keys_are_values = block.spec().mixer == Mixer::kWideAttention && arch.wide.keys_are_values;
      v = keys_are_values ? k : block.linear(rows, Slot::kValueWeight, Slot::kValueBias).view({T, G, dv});
    }
  }
  if (!arch.attention.query_key_norm_behind_rope) norm_queries_and_keys(block, heads);
  if (arch.attention.value_norm && v.defined()) v = block.norm(v);
  if (const double clip = arch.attention.clip_projections; clip > 0)
    return {q.clamp(-clip, clip), k.clamp(-clip, clip), v.clamp(-clip, clip)};
  return heads;
}

/// The same of latent attention, rotated.
Heads latent_heads(const Block& block, const compute::PackedRows& rows) {
  const ArchSpec& arch = block.arch;
  const LatentSpec& latent = arch.latent;
  const auto rope = static_cast<std::size_t>(block.spec().rope);
  const std::int64_t T = rows.values.size(0), H = arch.num_heads, dh = arch.head_size;
  const std::int64_t rotated = arch.ropes[rope].dims, plain = dh - rotated;
  const auto narrow = [&](Slot weight, Slot bias, Slot norm_weight) {
    const at::Tensor made = block.linear(rows, weight, bias);
    return block.packed(apply_norm(arch.norm, made, block[norm_weight], {}, latent.norm_epsilon));
  };
  const auto turned = [&](const at::Tensor& x) {
    return rotate(x, arch.ropes[rope], block.positions.rotations[rope]);
  };

  const compute::PackedRows of_queries =
      latent.query_rank > 0
          ? narrow(Slot::kLatentQueryWeight, Slot::kLatentQueryBias, Slot::kLatentQueryNormWeight)
          : rows;
  const at::Tensor q = block.linear(of_queries, Slot::kQueryWeight, Slot::kQueryBias).view({T, H, dh});
  const compute::PackedRows of_keys = narrow(Slot::kLatentWeight, Slot::kLatentBias, Slot::kLatentNormWeight);
  const at::Tensor k = block.linear(of_keys, Slot::kKeyWeight).view({T, H, plain});
  const at::Tensor v = block.linear(of_keys, Slot::kValueWeight).view({T, H, latent.value_size});
  const at::Tensor of_all = block.linear(rows, Slot::kRotatedKeyWeight, Slot::kRotatedKeyBias).unsqueeze(1);
  return {at::cat({q.narrow(2, 0, plain), turned(q.narrow(2, plain, rotated))}, 2),
          at::cat({k, turned(of_all).expand({T, H, rotated})}, 2), v};
}

/// With positions, where the block rotates.
Heads rotated_heads(const Block& block, const compute::PackedRows& rows) {
  const ArchSpec& arch = block.arch;
  Heads heads = projections(block, rows);
  if (block.spec().rope != BlockSpec::kNoRope) {
    const auto rope = static_cast<std::size_t>(block.spec().rope);
    for (at::Tensor* x : {&heads.q, &heads.k}) {
      if (!x->defined()) continue;
      *x = rotate(*x, arch.ropes[rope], block.positions.rotations[rope]);
      if (arch.attention.norm_of_rotated) *x = block.norm(*x);
    }
  }
  if (arch.attention.query_key_norm_behind_rope) norm_queries_and_keys(block, heads);
  return heads;
}

/// Takes keys and values of the block that makes them, or leaves them to those that read them.
void share_keys_and_values(const Block& block, Heads& heads) {
  const std::int64_t made_by = block.spec().keys_of;
  auto& carried = block.carried.keys_values;
  if (made_by != BlockSpec::kOwnKeys) {
    auto& kept = carried.at(made_by);
    for (at::Tensor& tensor : kept) tensor = moved_to(heads.q.device())(tensor);
    heads.k = kept[0];
    heads.v = kept[1];
  } else if (block.arch.last_reader_of(block.index) > block.index) {
    carried[block.index] = {heads.k, heads.v};
  }
}

/// Gives queries, keys and values one width: what is narrower has zeros behind it.
void widen(Heads& heads) {
  const std::int64_t width = std::max(heads.k.size(2), heads.v.size(2));
  for (at::Tensor* x : {&heads.q, &heads.k, &heads.v}) {
    if (x->size(2) < width) *x = at::constant_pad_nd(*x, {0, width - x->size(2)});
  }
}

/// What the heads make of all windows, [T, H, …]; there is a head of keys and values for each of queries.
at::Tensor attended(const Block& block, const Heads& heads) {
  const AttentionSpec& attention = block.arch.attention;
  const Positions& positions = block.positions;
  const at::ScalarType dtype = block.dtype;
  const auto& [q, k, v] = heads;
  const compute::AttentionRule rule{.scale = attention.scale * block.spec().score_scale,
                                    .soft_cap = attention.soft_cap,
                                    .position_bias = positions.bias,
                                    .window = block.spec().window,
                                    .chunk = block.spec().chunk,
                                    .sinks = block[Slot::kAttentionSinks]};
  // Cards that have no products of bfloat16 have none in this kernel.
  const bool has_kernel = dtype != at::kBFloat16 || block.backend().multiplies_stored(dtype);
  if (has_kernel && compute::attends_adjoining(q, positions.windows, rule)) {
    return compute::attend_adjoining(q.to(dtype), k.to(dtype), v.to(dtype), positions.windows, rule)
        .to(at::kFloat);
  }
  // Splitting and joining, not views and copies: the derivative of a view is as large as the whole batch.
  std::vector<std::int64_t> rows;
  for (const WindowGroup& group : positions.groups) rows.push_back(group.rows);
  const std::vector<at::Tensor> queries = q.split_with_sizes(rows), keys = k.split_with_sizes(rows),
                                values = v.split_with_sizes(rows);
  std::vector<at::Tensor> mixed;
  for (std::size_t g = 0; g < rows.size(); ++g) {
    const WindowGroup& group = positions.groups[g];
    const auto by_head = [&](const at::Tensor& x) {  // [windows, H, longest, dh]
      return group.by_window(x).transpose(1, 2).to(dtype);
    };
    mixed.push_back(
        group.by_row(compute::attend(by_head(queries[g]), by_head(keys[g]), by_head(values[g]), rule)
                         .transpose(1, 2)
                         .to(at::kFloat)));
  }
  return at::cat(mixed);
}

}  // namespace

at::Tensor attention(const Block& block, const at::Tensor& input) {
  const ArchSpec& arch = block.arch;
  const AttentionSpec& attention = arch.attention;
  const bool latent = arch.latent.key_value_rank > 0;
  const compute::PackedRows packed = block.packed(scaled(input, attention.input_scale));
  Heads heads = latent ? latent_heads(block, packed) : rotated_heads(block, packed);
  share_keys_and_values(block, heads);
  const std::int64_t value_size = heads.v.size(2);
  widen(heads);
  const bool grows = block.spec().rope == BlockSpec::kNoRope || !attention.query_growth_unrotated;
  if (block.positions.query_scale.defined() && grows) heads.q = heads.q * block.positions.query_scale;
  at::Tensor broken;
  if (heads.q.is_cpu()) {
    broken =
        rows_without_attention(heads.q.to(block.dtype), heads.k.to(block.dtype), block.positions.lengths);
  }
  const std::int64_t H = arch.num_heads, G = arch.heads_of(block.spec()).num_kv_heads;
  if (G != H) {  // each key-value head serves H / G query heads
    heads.k = heads.k.repeat_interleave(H / G, 1);
    heads.v = heads.v.repeat_interleave(H / G, 1);
  }
  at::Tensor gate;  // [T, H · dh]
  if (attention.output_gate)
    gate = logistic(block.linear(packed, Slot::kAttentionGateWeight, Slot::kAttentionGateBias));

  at::Tensor flat = attended(block, heads).narrow(2, 0, value_size).flatten(1);
  if (broken.defined()) flat = flat.masked_fill(broken, std::numeric_limits<double>::quiet_NaN());
  if (gate.defined()) flat = flat * gate;
  return scaled(block.linear(flat, Slot::kAttentionOutWeight, Slot::kAttentionOutBias),
                attention.output_scale);
}

}  // namespace depthlens::model
