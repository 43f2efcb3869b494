// Gemma 4 as texts, with all that its sizes differ in. Full blocks have heads of their own size and rotary
// settings, in the dense large ones without values of their own. The small ones have an embedding for each
// block, and their last blocks read keys and values of an earlier one, with MLPs that may be twice as wide.
// 26B-A4B has experts beside the MLP. "Unified" has neither of the latter two. Odd: norms are used as they
// are stored, scores are not scaled, the last block is always a full one, and each block's output has a
// factor.
#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

using util::Json;
using util::JsonView;

constexpr const char* kSliding = "sliding_attention";
constexpr const char* kFull = "full_attention";
constexpr std::int64_t kGlobalHeadSize = 512;  // of the class

const Json& text_defaults() {
  static const Json all = {{"vocab_size", 262144},      {"hidden_size", 2304},
                           {"intermediate_size", 9216}, {"num_hidden_layers", 30},
                           {"num_attention_heads", 8},  {"num_key_value_heads", 4},
                           {"head_dim", 256},           {"hidden_activation", "gelu_pytorch_tanh"}};
  return all;
}

/// Every sixth block is full, or `layer_types` says which; the last one is, whatever it says.
std::vector<bool> read_slides(const JsonView& config, std::int64_t num_layers) {
  constexpr std::int64_t kPattern = 6;
  std::vector<bool> slides =
      sliding_blocks(config, num_layers, [](std::int64_t i) { return (i + 1) % kPattern != 0; });
  if (slides.back() && config.has("layer_types")) {
    util::log_warning(
        util::cat(config.at("layer_types").where(),
                  ": the last block has full attention, whatever is said of it, as transformers "
                  "does"));
  }
  slides.back() = false;
  return slides;
}

/// The sizes of heads of sliding blocks, and of full ones: `per_layer_config`, as transformers 5.24 writes
/// it, or `global_head_dim` and what goes with it, as published.
std::pair<HeadSizes, HeadSizes> read_heads(const JsonView& config, const std::vector<bool>& slides,
                                           bool keys_are_values) {
  const HeadSizes common = {.num_kv_heads = read_size(config, "num_key_value_heads"),
                            .head_size = read_size(config, "head_dim")};
  HeadSizes of_sliding = common, of_full = common;
  const std::string key = "per_layer_config";
  if (!config.raw().contains(key)) {
    of_full.head_size = read_size(config, "global_head_dim", kGlobalHeadSize);
    const auto kv_heads = read_optional_size(config, "num_global_key_value_heads", {});
    if (keys_are_values) {
      of_full.num_kv_heads = kv_heads.value_or(common.num_kv_heads);
    } else {
      tell_unused(config, "num_global_key_value_heads", common.num_kv_heads, "attention_k_eq_v is not set");
    }
    return {of_sliding, of_full};
  }
  for (const char* unused : {"global_head_dim", "num_global_key_value_heads"})
    tell_unused(config, unused, nullptr, key + " says how heads differ");
  std::vector<HeadSizes> of_blocks(slides.size(), common);
  if (config.has(key)) {
    const JsonView given = config.at(key);
    if (!given.is_object()) given.fail("an object, by index of the block");
    for (const std::string& index : given.keys()) {
      std::int64_t i = -1;
      if (!util::parse_int(index, i) || i < 0 || i >= static_cast<std::int64_t>(slides.size()))
        given.at(index).fail(util::cat("the index of one of ", slides.size(), " blocks"));
      const JsonView block = given.at(index);
      if (!block.is_object()) block.fail("an object");
      for (const std::string& setting : block.keys()) {
        if (setting != "head_dim" && setting != "num_key_value_heads")
          throw util::format_error({.what = "unsupported setting " + util::in_quotes(setting) + " of a block",
                                    .where = block.where(),
                                    .expected = "only head_dim and num_key_value_heads",
                                    .found = util::summary(block.raw().at(setting))});
      }
      HeadSizes& heads = of_blocks[static_cast<std::size_t>(i)];
      heads.head_size = read_size(block, "head_dim", heads.head_size);
      heads.num_kv_heads = read_size(block, "num_key_value_heads", heads.num_kv_heads);
    }
  }
  const auto of_kind = [&](bool sliding) {
    std::optional<HeadSizes> first;
    for (std::size_t i = 0; i < slides.size(); ++i) {
      if (slides[i] != sliding) continue;
      if (!first) first = of_blocks[i];
      if (*first != of_blocks[i])
        config.at(key).fail(util::cat("the same heads in all blocks of ", sliding ? kSliding : kFull));
    }
    return first.value_or(common);
  };
  return {of_kind(true), of_kind(false)};
}

/// Rotary settings of one kind of block, whose heads have this size.
RopeSpec read_kind_of_rope(const JsonView& config, const ArchSpec& spec, const std::string& kind,
                           std::int64_t head_size) {
  static const Json class_settings = {
      {kSliding, {{"rope_type", "default"}, {"rope_theta", 1e4}}},
      {kFull, {{"rope_type", "proportional"}, {"partial_rotary_factor", 0.25}, {"rope_theta", 1e6}}}};
  const std::string key = "rope_parameters";
  const JsonView all =
      config.has(key) ? config.at(key) : JsonView(class_settings, config.where() + ": " + key);
  if (!all.is_object()) all.fail("an object");
  const JsonView given = all.at(kind);
  if (!given.is_object()) given.fail("an object");
  given.at("rope_theta");
  Json settings = given.raw();
  std::int64_t still = 0;
  const std::string share = "partial_rotary_factor", type = given.get_string("rope_type", "default");
  if (type == "proportional") {
    // The pairs of a whole head turn by what they would turn by, but only the first of them do.
    const double turning = read_number(given, share, config.has(share) ? config.at(share).as_number() : 1);
    if (!(turning >= 0 && turning <= 1)) given.at(share).fail("a number from 0 to 1");
    still =
        head_size / 2 - static_cast<std::int64_t>(std::floor(turning * static_cast<double>(head_size) / 2));
    settings["rope_type"] = settings.contains("factor") ? "linear" : "default";
    settings.erase(share);
  } else if (type == "default") {
    tell_unused(given, share, 1.0, "rope_type 'default' rotates heads whole");
    settings.erase(share);
  } else if (type != "linear") {
    given.at("rope_type").fail("default, linear or proportional");
  } else if (config.has(share)) {
    require_value(config, share, 1.0);
  }
  RopeSpec rope = read_rope_block(config, JsonView(settings, given.where()), spec,
                                  {.theta = "", .class_theta = 1e4, .share = "", .head_size = head_size});
  rope.still_pairs = still;
  return rope;
}

void set_ropes(ArchSpec& spec, const JsonView& config, const std::vector<bool>& slides) {
  if (config.has("rope_parameters")) {
    for (const std::string& kind : config.at("rope_parameters").keys()) {
      if (kind != kSliding && kind != kFull)
        config.at("rope_parameters").at(kind).fail("only full_attention and sliding_attention");
    }
  }
  require_value(config, "rope_scaling", nullptr);
  tell_unused(config, "rope_theta", nullptr, "rope_parameters has the base for each kind of block");
  for (std::size_t i = 0; i < slides.size(); ++i) {
    RopeSpec rope = read_kind_of_rope(config, spec, slides[i] ? kSliding : kFull,
                                      slides[i] ? spec.head_size : spec.wide.head_size);
    const auto found = std::find(spec.ropes.begin(), spec.ropes.end(), rope);
    spec.blocks[i].rope = static_cast<int>(found - spec.ropes.begin());
    if (found == spec.ropes.end()) spec.ropes.push_back(std::move(rope));
  }
}

/// The last `num_kv_shared_layers` blocks read keys and values of the last block of their kind before them.
void set_readers(ArchSpec& spec, const JsonView& config, const std::vector<bool>& slides) {
  const std::int64_t L = spec.num_layers,
                     readers = read_size(config, "num_kv_shared_layers", 0, /*lowest=*/0);
  if (readers == 0) return;
  if (readers >= L) config.at("num_kv_shared_layers").fail(util::cat("fewer than the ", L, " blocks"));
  for (std::int64_t i = L - readers; i < L; ++i) {
    BlockSpec& block = spec.blocks[static_cast<std::size_t>(i)];
    std::int64_t made_by = L - readers - 1;
    while (made_by >= 0 && slides[static_cast<std::size_t>(made_by)] != slides[static_cast<std::size_t>(i)])
      --made_by;
    if (made_by < 0) {
      config.at("num_kv_shared_layers")
          .fail(util::cat("a block of ", slides[static_cast<std::size_t>(i)] ? kSliding : kFull,
                          " before those that share keys and values"));
    }
    block.keys_of = made_by;
  }
  // What transformers before 5 saved for them; it drops it too.
  for (std::int64_t i = L - readers; i < L; ++i) {
    for (const char* name : {"k_proj", "v_proj", "k_norm", "v_norm"})
      spec.ignorable.push_back(util::cat("layers.", i, ".self_attn.", name, ".*"));
  }
}

void add_attention_of(ArchSpec& spec, Mixer mixer, const HeadSizes& heads, bool values, bool bias) {
  add_attention(spec, {.query_norm = "q_norm",
                       .key_norm = "k_norm",
                       .values = values,
                       .qkv_bias = bias,
                       .out_bias = bias,
                       .mixer = mixer,
                       .heads = heads});
}

void add_block_embeddings(ArchSpec& spec, const JsonView& config) {
  const std::string key = "hidden_size_per_layer_input";
  constexpr std::int64_t kClassSize = 256, kClassVocabulary = 262144;
  const bool none = config.raw().contains(key) && !config.has(key);
  const std::int64_t p = none ? 0 : read_size(config, key, kClassSize, /*lowest=*/0);
  if (p == 0) return;
  const std::int64_t d = spec.hidden_size, L = spec.num_layers;
  spec.block_embedding_size = p;
  spec.model_tensors.push_back({Slot::kBlockEmbedding,
                                "embed_tokens_per_layer.weight",
                                {read_size(config, "vocab_size_per_layer_input", kClassVocabulary), L * p}});
  spec.model_tensors.push_back(
      {Slot::kBlockEmbeddingProjection, "per_layer_model_projection.weight", {L * p, d}});
  spec.model_tensors.push_back({Slot::kBlockEmbeddingNormWeight, "per_layer_projection_norm.weight", {p}});
  spec.block_tensors.push_back(
      {Slot::kBlockInputGateWeight, "layers.{i}.per_layer_input_gate.weight", {p, d}});
  spec.block_tensors.push_back(
      {Slot::kBlockInputOutWeight, "layers.{i}.per_layer_projection.weight", {d, p}});
  spec.block_tensors.push_back(
      {Slot::kBlockInputNormWeight, "layers.{i}.post_per_layer_input_norm.weight", {d}});
}

void add_experts_beside(ArchSpec& spec, const JsonView& config) {
  if (!read_flag(config, "enable_moe_block", false)) {
    for (const char* unused : {"num_experts", "top_k_experts", "moe_intermediate_size"})
      tell_unused(config, unused, nullptr, "enable_moe_block is not set");
    return;
  }
  const std::int64_t d = spec.hidden_size, E = read_size(config, "num_experts"),
                     m = read_size(config, "moe_intermediate_size");
  spec.experts = {.count = E,
                  .chosen = read_size(config, "top_k_experts"),
                  .mlp_size = m,
                  .weighting = ExpertSpec::Weighting::kShares,
                  .beside_mlp = true};
  check_experts(config, spec);
  set_first_dense(spec, 0);
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape,
                       TensorRule::Rows rows = {}) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = "layers.{i}." + name,
                                  .shape = std::move(shape),
                                  .blocks = {.experts = true},
                                  .rows = rows,
                                  .of_all_experts = is_of_expert(slot)});
  };
  add(Slot::kRouterWeight, "router.proj.weight", {E, d});
  add(Slot::kRouterScale, "router.scale", {d});
  add(Slot::kExpertScale, "router.per_expert_scale", {E});
  add(Slot::kExpertGateWeight, "experts.gate_up_proj", {E, 2 * m, d}, {.first = 0, .count = m});
  add(Slot::kExpertUpWeight, "experts.gate_up_proj", {E, 2 * m, d}, {.first = m, .count = m});
  add(Slot::kExpertDownWeight, "experts.down_proj", {E, d, m});
  add(Slot::kDenseOutNormWeight, "post_feedforward_layernorm_1.weight", {d});
  add(Slot::kExpertsOutNormWeight, "post_feedforward_layernorm_2.weight", {d});
  add(Slot::kExpertsNormWeight, "pre_feedforward_layernorm_2.weight", {d});
}

/// What Gemma 4 has in all its sizes.
ArchSpec read_common(const JsonView& given, std::int64_t max_positions, std::int64_t window) {
  const Json whole = with_class_defaults(given, text_defaults());
  const JsonView config(whole, given.where());
  // "vision": pictures see all of themselves, which a text has none of.
  if (config.has("use_bidirectional_attention") && config.at("use_bidirectional_attention").raw() != "vision")
    require_value(config, "use_bidirectional_attention", nullptr);

  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec =
      read_llama_like(config, {.max_positions = max_positions,
                               .head_size = 256,
                               .tied_unembedding = true,
                               .norms = {{Slot::kAttentionNormWeight, "input_layernorm"},
                                         {Slot::kAttentionOutNormWeight, "post_attention_layernorm"},
                                         {Slot::kMlpNormWeight, "pre_feedforward_layernorm"},
                                         {Slot::kMlpOutNormWeight, "post_feedforward_layernorm"}},
                               .activation_key = "hidden_activation",
                               .own_rope = true,
                               .attention = false,
                               .dense_mlp = false});
  spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden_size));
  spec.rounds_embedding_scale = true;
  spec.norm_place = NormPlace::kBeforeAndAfter;
  spec.attention.scale = 1;
  spec.attention.value_norm = true;
  spec.logit_transform.soft_cap = read_optional_number(config, "final_logit_softcapping", {}).value_or(0);

  const std::vector<bool> slides = read_slides(config, spec.num_layers);
  const bool keys_are_values = read_flag(config, "attention_k_eq_v", false);
  const auto [of_sliding, of_full] = read_heads(config, slides, keys_are_values);
  for (const HeadSizes& heads : {of_sliding, of_full}) {
    if (spec.num_heads % heads.num_kv_heads != 0)
      config.fail(util::cat("numbers of key-value heads that divide the ", spec.num_heads, " heads, not ",
                            heads.num_kv_heads));
  }
  spec.num_kv_heads = of_sliding.num_kv_heads;
  spec.head_size = of_sliding.head_size;
  spec.wide = {of_full, keys_are_values};
  for (std::size_t i = 0; i < slides.size(); ++i)
    spec.blocks[i].mixer = slides[i] ? Mixer::kAttention : Mixer::kWideAttention;
  set_windows(spec, config, slides, window);
  set_ropes(spec, config, slides);
  set_readers(spec, config, slides);
  add_attention_of(spec, Mixer::kAttention, of_sliding, /*values=*/true, bias);
  add_attention_of(spec, Mixer::kWideAttention, of_full, /*values=*/!keys_are_values, bias);
  if (read_flag(config, "use_double_wide_mlp", false)) spec.mlp_size_of_readers = 2 * spec.mlp_size;
  add_gated_mlp(spec, {.blocks = {.own_keys = true}});
  add_gated_mlp(spec, {.blocks = {.own_keys = false}, .size = spec.mlp_size_of_readers});
  spec.block_tensors.push_back({Slot::kBlockScale, "layers.{i}.layer_scalar", {1}});
  return spec;
}

}  // namespace

ArchSpec read_gemma4(const JsonView& config) {
  ArchSpec spec = read_common(config, 131072, 512);
  add_block_embeddings(spec, config);
  add_experts_beside(spec, config);
  return spec;
}

ArchSpec read_gemma4_unified(const JsonView& config) {
  // Not its class's settings.
  for (const auto& [key, value] : {std::pair<std::string, Json>{"hidden_size_per_layer_input", 0},
                                   {"enable_moe_block", false},
                                   {"num_experts", nullptr}})
    tell_unused(config, key, value, "Gemma 4 Unified has no embeddings for each block and no experts");
  return read_common(config, 262144, 1024);
}

}  // namespace depthlens::model
