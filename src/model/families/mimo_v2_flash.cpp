// MiMo V2 Flash: blocks that slide have sinks, twice the heads of keys and values, and a rotary base of their
// own; values are narrower than queries and keys, and scaled; experts by logistic scores and a bias, without
// a shared one. Odd: transformers knows the kinds of blocks by lists, the published configs by other ones and
// by settings that begin with "swa"; where they say something else than the class, a warning tells.
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

constexpr double kRotatedShare = 0.334;

/// Rotary settings of blocks of this kind; what stands beside the kinds is not read.
RopeSpec read_rope_of(const util::JsonView& config, const std::string& kind, double class_theta,
                      const ArchSpec& spec) {
  static const util::Json kNothing = util::Json::object();
  RopeKeys keys = {.theta = "", .class_theta = class_theta, .class_share = kRotatedShare};
  const util::JsonView beside(kNothing, config.where());
  if (!config.has("rope_parameters")) return read_rope_block(beside, std::nullopt, spec, keys);
  require_value(config.at("rope_parameters"), "truncate", nullptr);
  const util::JsonView block = config.at("rope_parameters").at(kind);
  block.at("rope_theta");  // must be there
  tell_truncate_of_kind(block);
  // The class's share is that of unscaled positions: the scalings have none of their own.
  if (block.get_string("rope_type", block.get_string("type", "default")) != "default") keys.class_share = 1;
  return read_rope_block(beside, block, spec, keys);
}

void set_mimo_ropes(ArchSpec& spec, const util::JsonView& config, const std::vector<bool>& slides) {
  constexpr double kFullTheta = 5e6, kSlidingTheta = 1e4;
  for (const bool sliding : {false, true}) {
    int rope = BlockSpec::kNoRope;
    for (std::size_t i = 0; i < slides.size(); ++i) {
      if (slides[i] != sliding) continue;
      if (rope == BlockSpec::kNoRope) {
        rope = static_cast<int>(spec.ropes.size());
        spec.ropes.push_back(sliding ? read_rope_of(config, "sliding_attention", kSlidingTheta, spec)
                                     : read_rope_of(config, "full_attention", kFullTheta, spec));
      }
      spec.blocks[i].rope = rope;
    }
    if (rope == BlockSpec::kNoRope || config.has("rope_parameters")) continue;
    tell_unused(config, sliding ? "swa_rope_theta" : "rope_theta", sliding ? kSlidingTheta : kFullTheta,
                "the class's base holds where rope_parameters are not given");
  }
  require_value(config, "rope_scaling", nullptr);
  if (!config.has("rope_parameters"))
    tell_unused(config, "partial_rotary_factor", kRotatedShare, "the class's share of a head is rotated");
}

void set_mimo_windows(ArchSpec& spec, const util::JsonView& config, const std::vector<bool>& slides) {
  util::Json whole = config.raw();
  // So many before a position, and itself.
  if (config.has("sliding_window_size"))
    whole["sliding_window"] = read_size(config, "sliding_window_size") + 1;
  set_windows(spec, {whole, config.where()}, slides, 129);
}

/// Attention of the blocks with this mixer.
void add_mimo_attention(ArchSpec& spec, Mixer mixer, bool bias) {
  const HeadSizes heads = mixer == Mixer::kWideAttention
                              ? spec.wide
                              : HeadSizes{.num_kv_heads = spec.num_kv_heads, .head_size = spec.head_size};
  const std::int64_t d = spec.hidden_size, q = spec.num_heads * heads.head_size,
                     k = heads.num_kv_heads * heads.head_size,
                     v = heads.num_kv_heads * spec.attention.value_size,
                     out = spec.num_heads * spec.attention.value_size;
  const BlockFilter blocks = {.mixer = mixer};
  const std::string stem = "layers.{i}.self_attn.";
  add_linear(spec, stem + "q_proj", Slot::kQueryWeight, Slot::kQueryBias, {q, d}, bias, blocks);
  add_linear(spec, stem + "k_proj", Slot::kKeyWeight, Slot::kKeyBias, {k, d}, bias, blocks);
  add_linear(spec, stem + "v_proj", Slot::kValueWeight, Slot::kValueBias, {v, d}, bias, blocks);
  add_linear(spec, stem + "o_proj", Slot::kAttentionOutWeight, Slot::kAttentionOutBias, {d, out},
             /*with_bias=*/false, blocks);
}

/// Warns where a list of numbers, one a block, does not say the same as the kinds of blocks.
void tell_other_list(const util::JsonView& config, const std::string& key, const std::vector<bool>& kinds) {
  util::Json used = util::Json::array();
  for (const bool kind : kinds) used.push_back(kind ? 1 : 0);
  tell_unused(config, key, used, "layer_types and mlp_layer_types, or the class, say what blocks are");
}

}  // namespace

ArchSpec read_mimo_v2_flash(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  require_value(config, "add_swa_attention_sink_bias", true);
  require_value(config, "add_full_attention_sink_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 131072,
                                           .kv_heads = 4,
                                           .head_size = 192,
                                           .epsilon = 1e-5,
                                           .own_rope = true,
                                           .attention = false,
                                           .dense_mlp = false});
  tell_unused(config, "layernorm_epsilon", spec.norm_epsilon, "the epsilon of the norms is rms_norm_eps");
  spec.attention.value_size = read_size(config, "v_head_dim", 128);
  // Of values, which nothing but what goes out reads.
  spec.attention.output_scale = read_optional_number(config, "attention_value_scale", 0.707).value_or(1);
  spec.wide.num_kv_heads = 2 * spec.num_kv_heads;
  spec.wide.head_size = spec.head_size;
  const std::string reason = "blocks that slide have the other blocks' heads, with twice the keys and values";
  tell_unused(config, "swa_num_key_value_heads", spec.wide.num_kv_heads, reason);
  tell_unused(config, "swa_num_attention_heads", spec.num_heads, reason);
  tell_unused(config, "swa_head_dim", spec.head_size, reason);
  tell_unused(config, "swa_v_head_dim", spec.attention.value_size, reason);
  if (config.has("sliding_window_size"))
    tell_unused(config, "attention_chunk_size", config.at("sliding_window_size").raw(),
                "blocks that slide see a window");

  const auto slides =
      sliding_blocks(config, spec.num_layers, [](std::int64_t i) { return i != 0 && (i + 1) % 6 != 0; });
  set_mimo_windows(spec, config, slides);
  set_mimo_ropes(spec, config, slides);
  for (std::size_t i = 0; i < slides.size(); ++i) {
    if (slides[i]) spec.blocks[i].mixer = Mixer::kWideAttention;
  }
  if (spec.num_blocks(Mixer::kWideAttention) > 0 && spec.num_heads % spec.wide.num_kv_heads != 0) {
    throw util::format_error(
        {.what = "twice num_key_value_heads, as blocks that slide have, does not divide num_attention_heads",
         .where = config.where(),
         .expected = util::cat("a divisor of ", spec.num_heads),
         .found = util::cat(spec.wide.num_kv_heads)});
  }
  tell_other_list(config, "hybrid_layer_pattern", slides);
  add_mimo_attention(spec, Mixer::kAttention, bias);
  add_mimo_attention(spec, Mixer::kWideAttention, bias);
  for (const char* name : {"attention_sink_bias", "sinks"}) {
    auto& rules = std::string(name) == "sinks" ? spec.other_block_tensors : spec.block_tensors;
    rules.push_back({.slot = Slot::kAttentionSinks,
                     .name = std::string("layers.{i}.self_attn.") + name,
                     .shape = {spec.num_heads},
                     .blocks = {.mixer = Mixer::kWideAttention}});
  }

  set_mlp_kinds(spec, config);
  std::vector<bool> sparse;
  for (const BlockSpec& block : spec.blocks) sparse.push_back(block.experts);
  tell_other_list(config, "moe_layer_freq", sparse);
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  util::Json whole = config.raw();
  if (config.raw().contains("routed_scaling_factor") && !config.has("routed_scaling_factor"))
    whole["routed_scaling_factor"] = 1.0;
  spec.experts = read_logistic_experts(
      {whole, config.where()},
      {.count = 256, .chosen = 8, .mlp_size = 2048, .weighting = ExpertSpec::Weighting::kLogisticShares});
  check_experts(config, spec);
  tell_unused(config, "n_shared_experts", nullptr, "experts have no shared one beside them");
  tell_unused(config, "scoring_func", "sigmoid", "scores of the router are sigmoid");
  tell_unused(config, "topk_method", "noaux_tc", "the router is of the kind noaux_tc");
  add_experts(spec, {.router_bias = "mlp.gate.e_score_correction_bias"});
  spec.ignorable.emplace_back("mtp.*");
  return spec;
}

}  // namespace depthlens::model
