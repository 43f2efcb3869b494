#include "rules.hpp"

namespace depthlens::model {

void add_linear(ArchSpec& spec, const std::string& stem, Slot weight, Slot bias,
                std::vector<std::int64_t> shape, bool with_bias) {
  const std::int64_t out = shape.front();
  spec.block_tensors.push_back({weight, stem + ".weight", std::move(shape)});
  if (with_bias) spec.block_tensors.push_back({bias, stem + ".bias", {out}});
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

void add_norms_of_projections(ArchSpec& spec) {
  spec.attention.query_key_norm_of_projection = true;
  spec.block_tensors.push_back(
      {Slot::kQueryNormWeight, "layers.{i}.self_attn.q_norm.weight", {spec.num_heads * spec.head_size}});
  spec.block_tensors.push_back(
      {Slot::kKeyNormWeight, "layers.{i}.self_attn.k_norm.weight", {spec.num_kv_heads * spec.head_size}});
}

void add_gated_mlp(ArchSpec& spec, bool bias, const BlockFilter& blocks, std::int64_t size) {
  const std::int64_t d = spec.hidden_size, m = size > 0 ? size : spec.mlp_size;
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
    spec.block_tensors.push_back(
        {.slot = slot, .name = "layers.{i}.mlp." + name, .shape = std::move(shape), .blocks = blocks});
  };
  add(Slot::kMlpGateWeight, "gate_proj.weight", {m, d});
  add(Slot::kMlpUpWeight, "up_proj.weight", {m, d});
  add(Slot::kMlpDownWeight, "down_proj.weight", {d, m});
  if (!bias) return;
  add(Slot::kMlpGateBias, "gate_proj.bias", {m});
  add(Slot::kMlpUpBias, "up_proj.bias", {m});
  add(Slot::kMlpDownBias, "down_proj.bias", {d});
}

void add_plain_mlp(ArchSpec& spec, const PlainMlpNames& names, bool bias) {
  const std::int64_t d = spec.hidden_size, m = spec.mlp_size;
  spec.gated_mlp = false;
  add_linear(spec, "layers.{i}.mlp." + names.up, Slot::kMlpUpWeight, Slot::kMlpUpBias, {m, d}, bias);
  add_linear(spec, "layers.{i}.mlp." + names.down, Slot::kMlpDownWeight, Slot::kMlpDownBias, {d, m}, bias);
}

}  // namespace depthlens::model
