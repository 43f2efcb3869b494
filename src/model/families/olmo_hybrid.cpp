// OLMo Hybrid: of four blocks three mix positions by a gated delta rule, one by attention. Odd: norms stand
// before the branches of the former and behind those of the latter; published models have no positions, which
// a rotary base of null says; a correction may be written twice; in files the two norms of a block with the
// delta rule have names of their own, and its convolutions are apart.
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

/// Whether the blocks that attend rotate: not where the base is null.
bool rotates(const util::JsonView& config) {
  std::int64_t blocks = 0, without = 0;
  const auto beside = find_key(config, "rope_theta");
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!has_settings(config, key)) continue;
    const auto inside = find_key(config.at(key), "rope_theta");
    const auto& theta = inside ? inside : beside;
    ++blocks;
    if (theta && theta->is_null()) ++without;
  }
  if (blocks > 0) return without < blocks;  // one of two: refused where settings are read
  if (const auto none = find_key(config, "rope_parameters"); none && none->is_null() && !beside) {
    util::log_warning(util::cat(none->where(),
                                ": null means the base 10000, as transformers 5.24 has it; a model without "
                                "positions has rope_theta: null"));
  }
  return !(beside && beside->is_null());
}

/// Of each block, whether it attends.
std::vector<bool> attending_blocks(const util::JsonView& config, std::int64_t num_layers) {
  if (const auto given =
          read_kinds_of_blocks(config, "layer_types", num_layers, "linear_attention", "full_attention"))
    return *given;
  constexpr std::int64_t kClassInterval = 4;
  std::vector<bool> attends;
  for (std::int64_t i = 0; i < num_layers; ++i) attends.push_back((i + 1) % kClassInterval == 0);
  if (num_layers < kClassInterval) attends.back() = true;
  return attends;
}

void read_olmo_delta_net(ArchSpec& spec, const util::JsonView& config) {
  DeltaNetSpec& delta = spec.delta_net;
  constexpr std::int64_t kShare = 4;  // of the stream's three fourths are keys
  constexpr double kNormEpsilon = 1e-5;
  delta.key_heads = read_optional_size(config, "linear_num_key_heads", {}).value_or(spec.num_heads);
  delta.value_heads = read_optional_size(config, "linear_num_value_heads", {}).value_or(spec.num_heads);
  const std::int64_t class_size = (kShare - 1) * spec.hidden_size / (kShare * delta.key_heads);
  delta.key_size = read_optional_size(config, "linear_key_head_dim", {}).value_or(class_size);
  if (delta.key_size < 1) config.at("linear_num_key_heads").fail("heads that have values");
  delta.value_size = read_optional_size(config, "linear_value_head_dim", {}).value_or(2 * delta.key_size);
  delta.kernel = read_size(config, "linear_conv_kernel_dim", 4);
  delta.update_scale = read_flag(config, "linear_allow_neg_eigval", true) ? 2 : 1;
  delta.norm_epsilon = kNormEpsilon;
  require_divides(config, "linear_num_key_heads", delta.key_heads, "linear_num_value_heads",
                  delta.value_heads);
}

void add_olmo_delta_net(ArchSpec& spec) {
  const DeltaNetSpec& delta = spec.delta_net;
  const std::int64_t d = spec.hidden_size, keys = delta.keys(), values = delta.values();
  const auto rule = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape,
                        const TensorRule::Rows& rows = {}) {
    return TensorRule{.slot = slot,
                      .name = "layers.{i}.linear_attn." + name,
                      .shape = std::move(shape),
                      .blocks = {.mixer = Mixer::kDeltaNet},
                      .rows = rows};
  };
  const std::vector<TensorRule> all = {
      rule(Slot::kDeltaQueryWeight, "q_proj.weight", {keys, d}),
      rule(Slot::kDeltaKeyWeight, "k_proj.weight", {keys, d}),
      rule(Slot::kDeltaValueWeight, "v_proj.weight", {values, d}),
      rule(Slot::kDeltaGateWeight, "g_proj.weight", {values, d}),
      rule(Slot::kDeltaUpdateWeight, "b_proj.weight", {delta.value_heads, d}),
      rule(Slot::kDeltaDecayWeight, "a_proj.weight", {delta.value_heads, d}),
      rule(Slot::kDeltaQueryConvolution, "q_conv1d.weight", {keys, 1, delta.kernel}),
      rule(Slot::kDeltaKeyConvolution, "k_conv1d.weight", {keys, 1, delta.kernel}),
      rule(Slot::kDeltaValueConvolution, "v_conv1d.weight", {values, 1, delta.kernel}),
      rule(Slot::kDeltaDecayBias, "dt_bias", {delta.value_heads}),
      rule(Slot::kDeltaLogDecay, "A_log", {delta.value_heads}),
      rule(Slot::kDeltaNormWeight, "o_norm.weight", {delta.value_size}),
      rule(Slot::kDeltaOutWeight, "o_proj.weight", {d, values})};
  spec.block_tensors.insert(spec.block_tensors.end(), all.begin(), all.end());
  // As transformers has them in memory.
  const std::vector<std::int64_t> together = {2 * keys + values, 1, delta.kernel};
  spec.other_block_tensors.push_back(
      rule(Slot::kDeltaQueryConvolution, "conv1d.weight", together, {.first = 0, .count = keys}));
  spec.other_block_tensors.push_back(
      rule(Slot::kDeltaKeyConvolution, "conv1d.weight", together, {.first = keys, .count = keys}));
  spec.other_block_tensors.push_back(
      rule(Slot::kDeltaValueConvolution, "conv1d.weight", together, {.first = 2 * keys, .count = values}));
}

/// Before the branches of blocks with the delta rule, behind those of the others.
void add_norms(ArchSpec& spec) {
  const auto rule = [&](Slot slot, const std::string& name, Mixer mixer) {
    return TensorRule{.slot = slot,
                      .name = "layers.{i}." + name + ".weight",
                      .shape = {spec.hidden_size},
                      .blocks = {.mixer = mixer}};
  };
  constexpr Mixer kAttends = Mixer::kAttention, kDelta = Mixer::kDeltaNet;
  spec.norm_place = NormPlace::kAfter;
  for (BlockSpec& block : spec.blocks) {
    if (block.mixer == kDelta) block.norm_place = NormPlace::kBefore;
  }
  for (const TensorRule& norm : {rule(Slot::kAttentionOutNormWeight, "post_attention_layernorm", kAttends),
                                 rule(Slot::kMlpOutNormWeight, "post_feedforward_layernorm", kAttends),
                                 rule(Slot::kAttentionNormWeight, "attention_layer_norm", kDelta),
                                 rule(Slot::kMlpNormWeight, "feedforward_layer_norm", kDelta)})
    spec.block_tensors.push_back(norm);
  // As transformers has them in memory; saving, it renames that of the blocks that attend, too.
  spec.other_block_tensors.push_back(rule(Slot::kAttentionNormWeight, "input_layernorm", kDelta));
  spec.other_block_tensors.push_back(rule(Slot::kMlpNormWeight, "post_attention_layernorm", kDelta));
  spec.other_block_tensors.push_back(rule(Slot::kAttentionOutNormWeight, "feedforward_layer_norm", kAttends));
}

}  // namespace

ArchSpec read_olmo_hybrid(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  const bool positions = rotates(config);
  ArchSpec spec = read_llama_like(config, {.max_positions = 65536,
                                           .norms = {},
                                           .own_rope = !positions,
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .mixer = Mixer::kAttention});
  set_other_mixer(spec, attending_blocks(config, spec.num_layers), Mixer::kDeltaNet);
  read_olmo_delta_net(spec, config);
  add_olmo_delta_net(spec);
  add_norms(spec);
  add_norms_of_projections(spec, Mixer::kAttention);
  spec.ignorable.emplace_back("mtp.*");
  return spec;
}

}  // namespace depthlens::model
