// Llama 4 (Scout, Maverick): blocks with rotary positions by pairs of neighbours see the chunk of the text
// that a token is in, and every fourth sees all, without positions; experts beside a shared one in all blocks
// or every second. Odd: queries and keys are normed behind the rotation, without weights; in blocks without
// positions queries grow with theirs, counted from 1; a chosen expert's weight multiplies what it reads.
#include "family.hpp"

namespace depthlens::model {
namespace {

void set_positions(ArchSpec& spec, const util::JsonView& config) {
  util::Json whole = config.raw();
  if (!has_settings(config, "no_rope_layers")) whole.erase("no_rope_layers");  // an empty list says nothing
  const std::vector<bool> rotates = rotating_blocks({whole, config.where()}, spec.num_layers);
  rotate_only(spec, rotates);
  const auto chunk = read_optional_size(config, "attention_chunk_size", 8192);
  const auto chunked =
      read_kinds_of_blocks(config, "layer_types", spec.num_layers, "full_attention", "chunked_attention");
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
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
  std::vector<bool> by_step;
  for (std::int64_t i = 0; i < spec.num_layers; ++i) by_step.push_back((i + 1) % step == 0);
  const std::vector<bool> experts =
      read_listed_blocks(config, "moe_layers", spec.num_layers).value_or(by_step);
  for (std::size_t i = 0; i < experts.size(); ++i) spec.blocks[i].experts = experts[i];
  if (experts != by_step)
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
  add_gated_mlp(spec, {.stem = "feed_forward", .blocks = {.experts = false}});
  add_router(spec, "feed_forward.router");
  for (const TensorRule& rule : stacked_experts(spec, /*transposed=*/true, "feed_forward.experts"))
    spec.block_tensors.push_back(rule);
  add_shared_expert(spec, "feed_forward.shared_expert", spec.experts.mlp_size);
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
