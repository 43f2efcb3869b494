// Llama 4 (Scout, Maverick): blocks with rotary positions by pairs of neighbours see the chunk of the text
// that a token is in, and every fourth sees all, without positions; experts beside a shared one in all blocks
// or every second. Odd: queries and keys are normed behind the rotation, without weights; in blocks without
// positions queries grow with theirs, counted from 1; a chosen expert's weight multiplies what it reads.
#include <algorithm>

#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

/// Of each block, whether it rotates: 1 in `no_rope_layers`, or all but every `no_rope_layer_interval`th; an
/// empty list says nothing.
std::vector<bool> rotating_blocks(const util::JsonView& config, std::int64_t num_layers) {
  const std::int64_t interval = read_size(config, "no_rope_layer_interval", 4);
  std::vector<bool> rotates;
  for (std::int64_t i = 0; i < num_layers; ++i) rotates.push_back((i + 1) % interval != 0);
  if (!has_settings(config, "no_rope_layers")) return rotates;
  const util::JsonView list = config.at("no_rope_layers");
  if (!list.is_array() || static_cast<std::int64_t>(list.size()) != num_layers)
    list.fail(util::cat("an array of ", num_layers, " values, one a block"));
  for (std::size_t i = 0; i < list.size(); ++i) rotates[i] = list.at(i).as_integer(0, 1) == 1;
  return rotates;
}

void set_positions(ArchSpec& spec, const util::JsonView& config) {
  const std::vector<bool> rotates = rotating_blocks(config, spec.num_layers);
  const auto chunk = read_optional_size(config, "attention_chunk_size", 8192);
  const auto chunked =
      read_kinds_of_blocks(config, "layer_types", spec.num_layers, "full_attention", "chunked_attention");
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
    if (!rotates[i]) spec.blocks[i].rope = BlockSpec::kNoRope;
    if (!(chunked ? (*chunked)[i] : chunk && rotates[i])) continue;
    if (!chunk) config.at("layer_types").at(i).fail("full_attention, since attention_chunk_size is null");
    spec.blocks[i].chunk = *chunk;
  }
  spec.attention.norm_of_rotated = read_flag(config, "use_qk_norm", true);
  if (!read_flag(config, "attn_temperature_tuning", true)) return;
  spec.attention.query_growth = read_number(config, "attn_scale", 0.1);
  spec.attention.query_growth_length = static_cast<double>(read_size(config, "floor_scale", 8192));
  spec.attention.query_growth_first = 1;
  spec.attention.query_growth_unrotated = true;
}

/// Those in `moe_layers`, or every `interleave_moe_layer_step`th.
void set_expert_blocks(ArchSpec& spec, const util::JsonView& config) {
  const std::int64_t step = read_size(config, "interleave_moe_layer_step", 1);
  for (std::int64_t i = 0; i < spec.num_layers; ++i)
    spec.blocks[static_cast<std::size_t>(i)].experts = (i + 1) % step == 0;
  if (!config.has("moe_layers")) return;
  const util::JsonView list = config.at("moe_layers");
  if (!list.is_array()) list.fail("an array of the blocks with experts");
  const std::vector<BlockSpec> by_step = spec.blocks;
  for (BlockSpec& block : spec.blocks) block.experts = false;
  for (std::size_t i = 0; i < list.size(); ++i)
    spec.blocks[static_cast<std::size_t>(list.at(i).as_integer(0, spec.num_layers - 1))].experts = true;
  if (spec.blocks != by_step)
    tell_unused(config, "interleave_moe_layer_step", nullptr, "moe_layers says which blocks have experts");
}

void add_feed_forward(ArchSpec& spec, const util::JsonView& config) {
  spec.experts = {.count = read_size(config, "num_local_experts", 16),
                  .chosen = read_size(config, "num_experts_per_tok", 1),
                  .mlp_size = spec.mlp_size,
                  .weighting = ExpertSpec::Weighting::kLogistic,
                  .weighs_input = true};
  check_experts(config, spec);
  spec.mlp_size = read_size(config, "intermediate_size_mlp", 16384);
  add_gated_mlp(spec, /*bias=*/false, {.experts = false});
  spec.block_tensors.push_back({.slot = Slot::kRouterWeight,
                                .name = "layers.{i}.mlp.router.weight",
                                .shape = {spec.experts.count, spec.hidden_size},
                                .blocks = {.experts = true}});
  for (const TensorRule& rule : stacked_experts(spec, /*transposed=*/true))
    spec.block_tensors.push_back(rule);
  add_shared_expert(spec, "shared_expert", spec.experts.mlp_size);
  const std::string common = "layers.{i}.mlp.";
  for (TensorRule& rule : spec.block_tensors) {
    if (rule.name.starts_with(common))
      rule.name = "layers.{i}.feed_forward." + rule.name.substr(common.size());
  }
}

}  // namespace

ArchSpec read_llama4(const util::JsonView& config) {
  const util::Json whole = with_class_defaults(config, {{"vocab_size", 202048},
                                                        {"hidden_size", 5120},
                                                        {"intermediate_size", 8192},
                                                        {"num_hidden_layers", 48},
                                                        {"num_attention_heads", 40}});
  const bool bias = read_flag(config, "attention_bias", false);
  read_size(config, "num_key_value_heads", 8);  // null is refused
  ArchSpec spec = read_llama_like({whole, config.where()}, {.max_positions = 131072,
                                                            .kv_heads = 8,
                                                            .head_size = 128,
                                                            .epsilon = 1e-5,
                                                            .rope = {.class_theta = 5e5, .interleaved = true},
                                                            .qkv_bias = bias,
                                                            .attention_out_bias = bias,
                                                            .dense_mlp = false});
  set_positions(spec, config);
  set_expert_blocks(spec, config);
  add_feed_forward(spec, config);
  return spec;
}

}  // namespace depthlens::model
