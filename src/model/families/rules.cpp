#include "rules.hpp"

namespace depthlens::model {

void add_linear(ArchSpec& spec, const std::string& stem, Slot weight, Slot bias,
                std::vector<std::int64_t> shape, bool with_bias, const BlockFilter& blocks,
                const TensorRule::Rows& rows) {
  const auto add = [&](Slot slot, const char* part, std::vector<std::int64_t> of_part) {
    spec.block_tensors.push_back(
        {.slot = slot, .name = stem + part, .shape = std::move(of_part), .blocks = blocks, .rows = rows});
  };
  const std::int64_t out = shape.front();
  add(weight, ".weight", std::move(shape));
  if (with_bias) add(bias, ".bias", {out});
}

void add_other_names(ArchSpec& spec,
                     const std::vector<std::pair<std::string, std::string>>& ours_and_theirs) {
  const auto renamed = [&](std::string name) {
    for (const auto& [ours, theirs] : ours_and_theirs) {
      if (const std::size_t place = name.find(ours); place != std::string::npos)
        name.replace(place, ours.size(), theirs);
    }
    return name;
  };
  for (const TensorRule& rule : spec.block_tensors) {
    TensorRule other = rule;
    other.name = renamed(rule.name);
    if (other.name != rule.name) spec.other_block_tensors.push_back(std::move(other));
  }
  for (const std::string& pattern : std::vector(spec.ignorable)) {
    if (const std::string other = renamed(pattern); other != pattern) spec.ignorable.push_back(other);
  }
}

void add_rows_of(ArchSpec& spec, const TensorRule& whole,
                 const std::vector<std::pair<Slot, std::int64_t>>& parts) {
  std::int64_t first = 0;
  for (const auto& [slot, count] : parts) {
    TensorRule rule = whole;
    rule.slot = slot;
    rule.rows = {.first = first, .count = count};
    spec.block_tensors.push_back(std::move(rule));
    first += count;
  }
}

void add_attention(ArchSpec& spec, const AttentionParts& parts) {
  const HeadSizes heads =
      parts.heads.value_or(HeadSizes{.num_kv_heads = spec.num_kv_heads, .head_size = spec.head_size});
  const std::int64_t d = spec.hidden_size, q = spec.num_heads * heads.head_size,
                     kv = heads.num_kv_heads * heads.head_size;
  const BlockFilter all = {.mixer = parts.mixer}, makers = {.mixer = parts.mixer, .own_keys = true};
  const std::string stem = "layers.{i}." + parts.stem + ".";
  const auto add_projection = [&](Slot weight, Slot bias, const std::string& name, std::int64_t out,
                                  std::int64_t in, bool with_bias, const BlockFilter& blocks) {
    add_linear(spec, stem + name, weight, bias, {out, in}, with_bias, blocks);
  };
  const auto add_norm = [&](Slot slot, const std::string& name, const BlockFilter& blocks) {
    if (name.empty()) return;
    spec.block_tensors.push_back({.slot = slot,
                                  .name = stem + name + ".weight",
                                  .shape = {heads.head_size},
                                  .blocks = blocks,
                                  .less_one = parts.norms_less_one});
  };
  if (parts.qkv) {
    add_projection(Slot::kQueryWeight, Slot::kQueryBias, "q_proj", q, d, parts.qkv_bias, all);
    add_projection(Slot::kKeyWeight, Slot::kKeyBias, "k_proj", kv, d, parts.qkv_bias, makers);
    if (parts.values)
      add_projection(Slot::kValueWeight, Slot::kValueBias, "v_proj", kv, d, parts.qkv_bias, makers);
  }
  add_projection(Slot::kAttentionOutWeight, Slot::kAttentionOutBias, parts.out, d, q, parts.out_bias, all);
  add_norm(Slot::kQueryNormWeight, parts.query_norm, all);
  add_norm(Slot::kKeyNormWeight, parts.key_norm, makers);
}

void add_norms_of_projections(ArchSpec& spec, std::optional<Mixer> mixer) {
  spec.attention.query_key_norm_of_projection = true;
  const auto add = [&](Slot slot, const char* name, std::int64_t heads) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = std::string("layers.{i}.self_attn.") + name + ".weight",
                                  .shape = {heads * spec.head_size},
                                  .blocks = {.mixer = mixer}});
  };
  add(Slot::kQueryNormWeight, "q_norm", spec.num_heads);
  add(Slot::kKeyNormWeight, "k_norm", spec.num_kv_heads);
}

void add_gated_mlp(ArchSpec& spec, const GatedMlp& mlp) {
  const std::int64_t d = spec.hidden_size, m = mlp.size > 0 ? mlp.size : spec.mlp_size;
  const auto add = [&](Slot weight, Slot bias, const std::string& name, std::int64_t out, std::int64_t in) {
    add_linear(spec, "layers.{i}." + mlp.stem + "." + name, weight, bias, {out, in}, mlp.bias, mlp.blocks);
  };
  add(Slot::kMlpGateWeight, Slot::kMlpGateBias, mlp.names[0], m, d);
  add(Slot::kMlpUpWeight, Slot::kMlpUpBias, mlp.names[1], m, d);
  add(Slot::kMlpDownWeight, Slot::kMlpDownBias, mlp.names[2], d, m);
}

void add_plain_mlp(ArchSpec& spec, const PlainMlpNames& names, bool bias) {
  const std::int64_t d = spec.hidden_size, m = spec.mlp_size;
  spec.gated_mlp = false;
  add_linear(spec, "layers.{i}.mlp." + names.up, Slot::kMlpUpWeight, Slot::kMlpUpBias, {m, d}, bias);
  add_linear(spec, "layers.{i}.mlp." + names.down, Slot::kMlpDownWeight, Slot::kMlpDownBias, {d, m}, bias);
}

}  // namespace depthlens::model
