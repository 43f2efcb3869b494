// Granite with windows (Granite SWA), dense and with experts: sinks in all blocks, and a rotary base for each
// block, of which 0 means no positions.
#include <algorithm>

#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

/// Gives each block the model's rotary embedding with a base of its own, where the config says so.
void set_bases(ArchSpec& spec, const util::JsonView& config) {
  if (!config.has("layer_rope_theta")) return;
  const util::JsonView list = config.at("layer_rope_theta");
  if (!list.is_array() || list.size() != spec.blocks.size())
    list.fail(util::cat("an array of ", spec.num_layers, " values, one a block"));
  if (spec.ropes.empty()) return;
  const RopeSpec common = spec.ropes.front();
  spec.ropes.clear();
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
    RopeSpec rope = common;
    rope.theta = list.at(i).as_number();
    if (!(rope.theta >= 0)) list.at(i).fail("a positive rotary base, or 0 for no positions");
    spec.blocks[i].rope = BlockSpec::kNoRope;
    if (rope.theta == 0) continue;
    const auto found = std::find(spec.ropes.begin(), spec.ropes.end(), rope);
    spec.blocks[i].rope = static_cast<int>(found - spec.ropes.begin());
    if (found == spec.ropes.end()) spec.ropes.push_back(rope);
  }
}

void set_windows_and_sinks(ArchSpec& spec, const util::JsonView& config) {
  set_bases(spec, config);
  set_windows(spec, config,
              sliding_blocks(config, spec.num_layers, [](std::int64_t i) { return i % 4 != 0; }), 128);
  spec.block_tensors.push_back({Slot::kAttentionSinks, "layers.{i}.self_attn.sinks", {spec.num_heads}});
}

}  // namespace

ArchSpec read_granite_swa(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  const bool mlp_bias = read_flag(config, "mlp_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 8192,
                                           .kv_heads = 4,
                                           .tied_unembedding = true,
                                           .epsilon = 1e-5,
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .mlp_bias = mlp_bias});
  set_granite_factors(spec, config);
  set_windows_and_sinks(spec, config);
  return spec;
}

ArchSpec read_granite_moe_swa(const util::JsonView& config) {
  ArchSpec spec = read_granite_moe_shared(config);
  set_windows_and_sinks(spec, config);
  return spec;
}

}  // namespace depthlens::model
