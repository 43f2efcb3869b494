// Config keys that several families share.
#include "family.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::model {
namespace {

using util::Json;
using util::JsonView;

// Settings of various families that change the mathematics, each with the value that leaves it unchanged.
// They are asked for before the family reads its config, but for those that its line in the registry says it
// reads.
const std::vector<std::pair<std::string, Json>>& neutral_values() {
  static const std::vector<std::pair<std::string, Json>> all = {
      {"quantization_config", nullptr},
      {"compression_config", nullptr},
      {"per_layer_config", nullptr},
      {"attn_logit_softcapping", nullptr},
      {"final_logit_softcapping", nullptr},
      {"query_pre_attn_scalar", nullptr},
      {"logit_scale", 1.0},
      {"logits_scaling", 1.0},
      {"embedding_multiplier", 1.0},
      {"residual_multiplier", 1.0},
      {"attention_multiplier", nullptr},
      {"clip_qkv", nullptr},
      {"alibi", false},
      {"use_alibi", false},
      {"use_qk_norm", false},
      {"qk_layernorm", false},
      {"rope_interleave", false},
      {"num_local_experts", nullptr},
      {"num_experts", nullptr},
      {"is_encoder_decoder", false},
      {"add_cross_attention", false},
      {"is_causal", true},
      {"use_bidirectional_attention", false},
      {"no_rope_layers", nullptr},
      {"attention_chunk_size", nullptr},
      {"num_kv_shared_layers", nullptr},
      {"kv_lora_rank", nullptr},
      {"swiglu_limit", nullptr},
      {"layer_norm_elementwise_affine", true},
      {"apply_residual_connection_post_layernorm", false},
  };
  return all;
}

/// The value of a key that is there, null or not.
std::optional<JsonView> find(const JsonView& config, const std::string& key) {
  const auto found = config.raw().find(key);
  if (found == config.raw().end()) return std::nullopt;
  return JsonView(*found, config.where() + ": " + key);
}

bool holds(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::int64_t kLargestSize = std::int64_t{1} << 24;

}  // namespace

Json with_class_defaults(const JsonView& config, const Json& defaults) {
  Json whole = defaults;
  whole.update(config.raw());
  return whole;
}

bool has_settings(const JsonView& config, const std::string& key) {
  return config.has(key) && !config.at(key).raw().empty();
}

Json with_rope_parameters(const JsonView& config, const Json& defaults) {
  Json whole = config.raw();
  // An empty rope_scaling is none in Python; empty rope_parameters are settings.
  if (!config.has("rope_parameters") && !has_settings(config, "rope_scaling"))
    whole["rope_parameters"] = defaults;
  return whole;
}

std::int64_t read_size(const JsonView& config, const std::string& key) {
  return config.at(key).as_integer(1, kLargestSize);
}

std::int64_t read_size(const JsonView& config, const std::string& key, std::int64_t class_default,
                       std::int64_t lowest) {
  const auto value = find(config, key);
  return value ? value->as_integer(lowest, kLargestSize) : class_default;
}

std::optional<std::int64_t> read_optional_size(const JsonView& config, const std::string& key,
                                               std::optional<std::int64_t> class_default) {
  const auto value = find(config, key);
  if (!value) return class_default;
  if (value->is_null()) return std::nullopt;
  return value->as_integer(1, kLargestSize);
}

double read_number(const JsonView& config, const std::string& key, double class_default) {
  const auto value = find(config, key);
  return value ? value->as_number() : class_default;
}

std::optional<double> read_optional_number(const JsonView& config, const std::string& key,
                                           std::optional<double> class_default) {
  const auto value = find(config, key);
  if (!value) return class_default;
  if (value->is_null()) return std::nullopt;
  const double number = value->as_number();
  if (!(number > 0)) value->fail("a positive number or null");
  return number;
}

std::string name_of_size(const JsonView& config, const std::string& own, const std::string& common) {
  if (!config.has(common)) return own;
  if (config.has(own) && config.at(own).raw() != config.at(common).raw())
    config.at(common).fail(
        util::cat("the same as ", own, ", which is ", util::summary(config.at(own).raw())));
  return common;
}

bool read_flag(const JsonView& config, const std::string& key, bool class_default) {
  const auto value = find(config, key);
  if (!value) return class_default;
  return !value->is_null() && value->as_bool();
}

double read_epsilon(const JsonView& config, const std::string& key, double class_default) {
  const double epsilon = read_number(config, key, class_default);
  for (const std::string other : {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps"})
    tell_unused(config, other, epsilon, util::cat("the epsilon of the norms is ", epsilon));
  return epsilon;
}

void tell_unused(const JsonView& config, const std::string& key, const Json& used,
                 const std::string& reason) {
  if (!config.has(key) || config.at(key).raw() == used) return;
  const JsonView found = config.at(key);
  util::log_warning(util::cat(found.where(), " (", util::summary(found.raw()),
                              ") is ignored, as transformers does: ", reason));
}

void require_value(const JsonView& config, const std::string& key, const Json& value) {
  const auto found = find(config, key);
  if (!found || found->raw() == value || (found->is_null() && value != true)) return;
  throw util::format_error({.what = "unsupported setting '" + key + "' of the model",
                            .where = found->where(),
                            .expected = value.is_null() ? "none" : util::summary(value),
                            .found = util::summary(found->raw()),
                            .hint = key == "quantization_config"
                                        ? "the weights are quantized: take a conversion to bfloat16, float16 "
                                          "or float32, whose config.json has no such setting"
                                        : "it changes the mathematics, and depthlens does not implement it"});
}

Activation read_activation(const JsonView& config, const std::string& key, const std::string& class_default) {
  static const std::map<std::string, Activation> known = {
      {"gelu", Activation::kGelu},          {"gelu_new", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"relu", Activation::kRelu},          {"relu2", Activation::kReluSquared},
      {"silu", Activation::kSilu},          {"swish", Activation::kSilu},
      {"xielu", Activation::kXielu},
  };
  const auto value = find(config, key);
  const std::string name = value ? value->as_string() : class_default;
  for (const std::string other : {"hidden_act", "hidden_activation", "activation_function"})
    tell_unused(config, other, name, util::cat("the activation is ", name));
  const auto found = known.find(name);
  if (found != known.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known_name, kind] : known) names.push_back(known_name);
  throw util::format_error({.what = "unsupported activation",
                            .where = config.where() + ": " + key,
                            .expected = "one of " + util::join(names, ", "),
                            .found = util::in_quotes(name)});
}

namespace {

using Scaling = RopeSpec::Scaling;

struct ScalingType {
  Scaling scaling;
  std::vector<std::string> keys;  ///< of a block of rotary settings, beside those of every scaling
};

const std::map<std::string, ScalingType>& scaling_types() {
  static const std::map<std::string, ScalingType> all = {
      {"default", {Scaling::kNone, {}}},
      {"linear", {Scaling::kLinear, {"factor"}}},
      {"dynamic", {Scaling::kDynamic, {"factor"}}},
      {"llama3",
       {Scaling::kLlama3,
        {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}}},
      {"yarn",
       {Scaling::kYarn,
        // "finetuned" stands in the first models with YaRN, and nothing reads it.
        {"factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
         "truncate", "mscale", "mscale_all_dim", "finetuned"}}},
      {"longrope",
       {Scaling::kLongRope,
        {"factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"}}},
  };
  return all;
}

std::string scaling_type(const JsonView& block) {
  const auto type = find(block, "rope_type"), older = find(block, "type");
  if (type && older && type->raw() != older->raw())
    older->fail("the same as rope_type, which is " + util::summary(type->raw()));
  return type ? type->as_string() : older ? older->as_string() : "default";
}

/// Throws for a setting in the block that neither its scaling nor the family uses.
const ScalingType& checked_scaling(const JsonView& block, const std::string& type,
                                   const std::vector<std::string>& others) {
  const auto found = scaling_types().find(type);
  if (found == scaling_types().end()) {
    std::vector<std::string> names;
    for (const auto& [name, known] : scaling_types()) names.push_back(name);
    throw util::format_error({.what = "unsupported rotary scaling",
                              .where = block.where(),
                              .expected = "one of " + util::join(names, ", "),
                              .found = util::in_quotes(type)});
  }
  std::vector<std::string> used = {"rope_type", "type", "rope_theta", "partial_rotary_factor"};
  used.insert(used.end(), found->second.keys.begin(), found->second.keys.end());
  used.insert(used.end(), others.begin(), others.end());
  for (const std::string& key : block.keys()) {
    if (!block.has(key) || holds(used, key)) continue;
    throw util::format_error({.what = "unsupported rotary setting " + util::in_quotes(key),
                              .where = block.where(),
                              .expected = util::cat("of scaling '", type, "' only ", util::join(used, ", ")),
                              .found = util::summary(block.at(key).raw())});
  }
  return found->second;
}

double positive(const JsonView& block, const std::string& key) {
  const double value = block.at(key).as_number();
  if (!(value > 0)) block.at(key).fail("a positive number");
  return value;
}

std::vector<double> factors_of(const JsonView& block, const std::string& key, std::int64_t count) {
  const JsonView list = block.at(key);
  if (!list.is_array() || static_cast<std::int64_t>(list.size()) != count)
    list.fail(util::cat("an array of ", count, " numbers, one for each rotated pair"));
  std::vector<double> factors;
  for (std::size_t i = 0; i < list.size(); ++i) {
    factors.push_back(list.at(i).as_number());
    if (!(factors.back() > 0)) list.at(i).fail("a positive number");
  }
  return factors;
}

bool has_original_length(const RopeSpec& rope) {
  return rope.scaling == Scaling::kLlama3 || rope.scaling == Scaling::kYarn ||
         rope.scaling == Scaling::kLongRope;
}

/// YaRN's growth of attention with the factor of the scaling.
double growth(double factor, double scale) {
  constexpr double kSlope = 0.1;
  return factor <= 1 ? 1 : kSlope * scale * std::log(factor) + 1;
}

/// What the scaling of a block says; `rope` has the rest.
void read_scaling(const JsonView& block, const std::string& type, std::int64_t max_positions,
                  const RopeKeys& keys, RopeSpec& rope) {
  rope.scaling = checked_scaling(block, type, keys.others).scaling;
  if (rope.scaling == Scaling::kNone) return;
  const auto positions = static_cast<double>(max_positions);
  const bool stretches = rope.scaling == Scaling::kYarn || rope.scaling == Scaling::kLongRope;
  if (has_original_length(rope)) {
    rope.original_max_positions = keys.original_max_positions
                                      ? static_cast<double>(*keys.original_max_positions)
                                      : read_number(block, "original_max_position_embeddings", positions);
    if (!(rope.original_max_positions > 0)) block.fail("positive original_max_position_embeddings");
  }
  rope.factor =
      !stretches || block.has("factor") ? positive(block, "factor") : positions / rope.original_max_positions;
  const auto given = read_optional_number(block, "attention_factor", {});
  switch (rope.scaling) {
    case Scaling::kNone:
    case Scaling::kLinear:
      break;
    case Scaling::kDynamic:
      rope.original_max_positions = positions;
      if (rope.factor < 1) block.at("factor").fail("at least 1");
      if (rope.dims <= 2) block.fail("more than one rotated pair");
      break;
    case Scaling::kLlama3:
      rope.low_frequency_factor = positive(block, "low_freq_factor");
      rope.high_frequency_factor = positive(block, "high_freq_factor");
      if (rope.high_frequency_factor < rope.low_frequency_factor)
        block.fail("0 < low_freq_factor <= high_freq_factor");
      break;
    case Scaling::kYarn: {
      // Python takes 0 for absent here.
      const auto unless_zero = [&](const std::string& key, double otherwise) {
        const double value = block.get_number(key, 0);
        return value == 0 ? otherwise : value;
      };
      rope.beta_fast = unless_zero("beta_fast", rope.beta_fast);
      rope.beta_slow = unless_zero("beta_slow", rope.beta_slow);
      rope.truncate = read_flag(block, "truncate", true);
      const double scale = unless_zero("mscale", 0), of_all = unless_zero("mscale_all_dim", 0);
      const double computed = scale != 0 && of_all != 0
                                  ? growth(rope.factor, scale) / growth(rope.factor, of_all)
                                  : growth(rope.factor, 1);
      rope.amplitude = given.value_or(computed);
      break;
    }
    case Scaling::kLongRope: {
      rope.short_factors = factors_of(block, "short_factor", rope.dims / 2);
      rope.long_factors = factors_of(block, "long_factor", rope.dims / 2);
      const double computed =
          rope.factor <= 1 ? 1 : std::sqrt(1 + std::log(rope.factor) / std::log(rope.original_max_positions));
      rope.amplitude = given.value_or(computed);
    }
  }
}

}  // namespace

RopeSpec read_rope_block(const JsonView& config, const std::optional<JsonView>& block, const ArchSpec& spec,
                         const RopeKeys& keys) {
  if (block && !block->is_object()) block->fail("an object");
  // What the block says is not asked for beside it, where null may then stand.
  const auto given = [&](const std::string& in_block, const std::string& beside, double class_default) {
    if (const auto value = block ? find(*block, in_block) : std::nullopt) return value->as_number();
    return beside.empty() ? class_default : read_number(config, beside, class_default);
  };
  RopeSpec rope;
  rope.theta = given("rope_theta", keys.theta, keys.class_theta);
  double share = 1;
  if (keys.share.empty()) {
    if (block) require_value(*block, "partial_rotary_factor", 1.0);
  } else if (const auto beside = find(config, keys.share); beside && beside->is_null() && keys.null_share) {
    share = given("partial_rotary_factor", "", *keys.null_share);
  } else {
    share = given("partial_rotary_factor", keys.share, keys.class_share);
  }
  if (!(rope.theta > 0)) config.fail("a positive rotary base");
  rope.interleaved = keys.interleaved;
  rope.dims =
      share >= 0 && share <= 1 ? static_cast<std::int64_t>(static_cast<double>(spec.head_size) * share) : -1;
  if (rope.dims < 0 || rope.dims % 2 != 0) {
    throw util::format_error({.what = "unsupported rotary share",
                              .where = config.where(),
                              .expected = "an even number of rotary values, at most the head size",
                              .found = util::cat(share, " of ", spec.head_size)});
  }
  if (block) read_scaling(*block, scaling_type(*block), spec.max_positions, keys, rope);
  return rope;
}

namespace {

/// Warns of rotary settings outside of the block that it overrules.
void tell_unused_rope(const JsonView& config, const RopeSpec& rope, std::int64_t head_size) {
  const double share = static_cast<double>(rope.dims) / static_cast<double>(head_size);
  for (const std::string key : {"rope_theta", "rotary_emb_base"})
    tell_unused(config, key, rope.theta, util::cat("the rotary base is ", rope.theta));
  for (const std::string key : {"partial_rotary_factor", "rotary_pct"}) {
    if (config.has(key) && config.at(key).is_number() &&
        static_cast<std::int64_t>(static_cast<double>(head_size) * config.at(key).as_number()) == rope.dims)
      continue;
    tell_unused(config, key, share, util::cat("the rotated part of a head is ", share));
  }
}

}  // namespace

RopeSpec read_rope(const JsonView& config, const ArchSpec& spec, const RopeKeys& given) {
  RopeKeys keys = given;
  const std::string original = "original_max_position_embeddings";
  // It beats the one in the block, but not in blocks by kind of attention.
  if (config.has(original)) keys.original_max_positions = read_size(config, original);
  std::vector<JsonView> blocks;
  for (const std::string key : {"rope_scaling", "rope_parameters"}) {
    if (has_settings(config, key)) blocks.push_back(config.at(key));
  }
  const auto read = [&](const std::optional<JsonView>& block) {
    RopeSpec rope = read_rope_block(config, block, spec, keys);
    tell_unused_rope(config, rope, spec.head_size);
    if (block && has_original_length(rope)) {
      tell_unused(*block, original, rope.original_max_positions,
                  util::cat(original, " beside the block is ", rope.original_max_positions));
    }
    return rope;
  };
  if (blocks.empty()) return read(std::nullopt);
  const RopeSpec rope = read(blocks.front());
  if (blocks.size() < 2 || rope == read_rope_block(config, blocks.back(), spec, keys)) return rope;
  throw util::format_error(
      {.what = "two blocks of rotary settings that differ",
       .where = config.where(),
       .expected = "rope_scaling and rope_parameters that mean the same, or one of them",
       .found =
           util::cat("rope_scaling ", util::cut_utf8(config.at("rope_scaling").raw().dump(), 200),
                     ", rope_parameters ", util::cut_utf8(config.at("rope_parameters").raw().dump(), 200)),
       .hint = "transformers takes rope_scaling where both are: remove the other"});
}

double yarn_growth_of_scores(const JsonView& config, const RopeSpec& rope) {
  if (rope.scaling != Scaling::kYarn) return 1;
  const JsonView block = config.at(has_settings(config, "rope_scaling") ? "rope_scaling" : "rope_parameters");
  const double scale = block.get_number("mscale_all_dim", 0);
  return scale == 0 ? 1 : std::pow(growth(rope.factor, scale), 2);
}

void set_ropes_by_kind(ArchSpec& spec, const JsonView& config, const std::vector<bool>& slides,
                       const RopeKeys& full, const RopeKeys& sliding) {
  Json of_full = Json::object(), of_sliding = Json::object();
  if (config.has("rope_parameters")) {
    const JsonView given = config.at("rope_parameters");
    if (!given.is_object()) given.fail("an object");
    const bool nested = given.has("full_attention") || given.has("sliding_attention");
    for (const std::string& key : given.keys()) {
      if (nested && given.has(key) && key != "full_attention" && key != "sliding_attention")
        given.at(key).fail("only full_attention and sliding_attention beside each other");
    }
    if (!nested && !given.raw().empty()) {
      util::log_warning(util::cat(given.where(),
                                  ": settings that name no kind of block are taken for those with full "
                                  "attention; transformers 5.24 ignores them"));
      of_full = given.raw();
    }
    if (given.has("full_attention")) of_full = given.at("full_attention").raw();
    if (given.has("sliding_attention")) of_sliding = given.at("sliding_attention").raw();
  }
  if (config.has("rope_scaling")) {
    if (!config.at("rope_scaling").is_object()) config.at("rope_scaling").fail("an object");
    of_full.update(config.at("rope_scaling").raw());
  }
  // transformers takes a share for some scalings and not for others.
  require_value(config, "partial_rotary_factor", 1.0);
  const auto read = [&](const Json& block, const std::string& kind, RopeKeys keys) {
    const JsonView settings(block, config.where() + ": rope_parameters." + kind);
    if (settings.has("truncate") && !read_flag(settings, "truncate", true)) {
      util::log_warning(util::cat(
          settings.at("truncate").where(),
          ": the ends of YaRN's ramp are not rounded, as the settings say; transformers 5.24 looks for "
          "this key beside the kinds of block, and rounds them"));
    }
    keys.share = "";  // of a head all is rotated
    return read_rope_block(config, settings, spec, keys);
  };
  spec.ropes = {read(of_full, "full_attention", full), read(of_sliding, "sliding_attention", sliding)};
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) spec.blocks[i].rope = slides[i] ? 1 : 0;
}

void set_rope(ArchSpec& spec, const RopeSpec& rope) {
  if (rope.dims == 0) return;
  spec.ropes = {rope};
  for (BlockSpec& block : spec.blocks) block.rope = 0;
  // What is beyond this length is what the scaling is for.
  if (rope.scaling == Scaling::kDynamic)
    spec.max_positions = static_cast<std::int64_t>(rope.factor * rope.original_max_positions);
}

namespace {

/// A kind of block by the name that transformers 5 has for it.
std::string present_kind(const std::string& kind) {
  return kind == "attention" ? "full_attention" : kind == "mamba" ? "linear_attention" : kind;
}

}  // namespace

std::optional<std::vector<std::string>> read_kinds_of_blocks(const JsonView& config, const std::string& key,
                                                             std::int64_t num_layers,
                                                             const std::vector<std::string>& kinds) {
  if (!config.has(key)) return std::nullopt;
  const JsonView given = config.at(key);
  if (!given.is_array() || static_cast<std::int64_t>(given.size()) != num_layers)
    given.fail(util::cat("an array of ", num_layers, " values, one a block"));
  std::vector<std::string> found;
  for (std::size_t i = 0; i < given.size(); ++i) {
    found.push_back(present_kind(given.at(i).as_string()));
    if (!holds(kinds, found.back())) given.at(i).fail(util::join(kinds, " or "));
  }
  return found;
}

std::optional<std::vector<bool>> read_kinds_of_blocks(const JsonView& config, const std::string& key,
                                                      std::int64_t num_layers, const std::string& one,
                                                      const std::string& other) {
  const auto found = read_kinds_of_blocks(config, key, num_layers, {one, other});
  if (!found) return std::nullopt;
  std::vector<bool> kinds;
  for (const std::string& kind : *found) kinds.push_back(kind == other);
  return kinds;
}

std::optional<std::vector<bool>> read_listed_blocks(const JsonView& config, const std::string& key,
                                                    std::int64_t num_layers) {
  if (!config.has(key)) return std::nullopt;
  const JsonView given = config.at(key);
  if (!given.is_array()) given.fail("an array of blocks");
  std::vector<bool> listed(static_cast<std::size_t>(num_layers), false);
  for (std::size_t n = 0; n < given.size(); ++n)
    listed[static_cast<std::size_t>(given.at(n).as_integer(0, num_layers - 1))] = true;
  return listed;
}

std::vector<bool> sliding_blocks(const JsonView& config, std::int64_t num_layers,
                                 const std::function<bool(std::int64_t)>& class_rule) {
  if (const auto given =
          read_kinds_of_blocks(config, "layer_types", num_layers, "full_attention", "sliding_attention"))
    return *given;
  std::vector<bool> slides;
  for (std::int64_t i = 0; i < num_layers; ++i) slides.push_back(class_rule(i));
  return slides;
}

std::optional<std::int64_t> read_window(const JsonView& config, std::optional<std::int64_t> class_default) {
  const auto value = find(config, "sliding_window");
  if (value && value->raw().is_number() && value->raw().get<double>() <= 0) {
    throw util::format_error({.what = "a window of attention in which no position sees anything",
                              .where = value->where(),
                              .expected = "a positive number of positions, or null for no window",
                              .found = util::summary(value->raw())});
  }
  return read_optional_size(config, "sliding_window", class_default);
}

void set_windows(ArchSpec& spec, const JsonView& config, const std::vector<bool>& slides,
                 std::optional<std::int64_t> class_default, bool in_use) {
  const auto first = std::find(slides.begin(), slides.end(), true);
  if (first == slides.end()) return;
  const auto window = in_use ? read_window(config, class_default) : std::nullopt;
  if (!window && config.has("layer_types")) {
    config.at("layer_types")
        .at(static_cast<std::size_t>(first - slides.begin()))
        .fail("full_attention, since the config has no sliding window (sliding_window, use_sliding_window)");
  }
  if (!window) {
    throw util::format_error(
        {.what = "no sliding window",
         .where = config.where() + ": sliding_window",
         .expected = "a number of positions: the family has blocks whose attention slides",
         .found = "null",
         .hint = "layer_types says which blocks do; transformers refuses null, too"});
  }
  for (std::size_t i = 0; i < slides.size(); ++i) {
    if (slides[i]) spec.blocks[i].window = *window;
  }
}

void check_experts(const JsonView& config, const ArchSpec& spec) {
  const ExpertSpec& experts = spec.experts;
  const auto fail = [&](const std::string& what, const std::string& expected, std::int64_t found) {
    throw util::format_error(
        {.what = what, .where = config.where(), .expected = expected, .found = std::to_string(found)});
  };
  if (experts.chosen > experts.count) {
    fail("more experts are chosen than there are",
         util::cat("num_experts_per_tok of at most ", experts.count), experts.chosen);
  }
  if (experts.groups == 1) return;
  const std::int64_t least = experts.groups_by_best ? 1 : 2;
  if (experts.count % experts.groups != 0 || experts.count / experts.groups < least)
    fail("groups that do not divide the experts",
         util::cat("groups of ", least, " or more of ", experts.count), experts.groups);
  if (experts.chosen_groups > experts.groups ||
      experts.chosen > experts.chosen_groups * (experts.count / experts.groups)) {
    fail("too few or too many groups of experts",
         util::cat("topk_group of at most ", experts.groups, ", with room for ", experts.chosen, " experts"),
         experts.chosen_groups);
  }
}

ArchSpec read_stack(const JsonView& config, const StackNames& names) {
  const auto read = [&](const std::array<std::string, 2>& name) {
    return read_size(config, name_of_size(config, name[0], name[1]));
  };
  ArchSpec spec;
  spec.num_layers = read(names.layers);
  spec.hidden_size = read(names.hidden);
  spec.vocab_size = read_size(config, "vocab_size");
  spec.num_heads = spec.num_kv_heads = read(names.heads);
  spec.blocks.resize(static_cast<std::size_t>(spec.num_layers));
  return spec;
}

void set_head_size(ArchSpec& spec, std::int64_t size) {
  spec.head_size = size;
  spec.attention.scale = 1 / std::sqrt(static_cast<double>(size));
}

void set_one_window(ArchSpec& spec, std::optional<std::int64_t> window) {
  for (BlockSpec& block : spec.blocks) block.window = window.value_or(0);
}

ExpertSpec::Weighting read_softmax_weighting(const JsonView& config, ExpertSpec::Weighting class_default) {
  using Weighting = ExpertSpec::Weighting;
  const bool shares = read_flag(config, "norm_topk_prob", class_default == Weighting::kShares);
  return shares ? Weighting::kShares : Weighting::kSoftmaxOfAll;
}

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

std::int64_t head_size_of(const JsonView& config, const ArchSpec& spec, const std::string& heads_key) {
  if (spec.hidden_size % spec.num_heads == 0) return spec.hidden_size / spec.num_heads;
  config.at(heads_key).fail("a divisor of the hidden size, " + std::to_string(spec.hidden_size));
}

namespace {

/// Types of published configs whose models are of another's class; transformers leaves them to code beside
/// the weights.
const std::map<std::string, std::string>& types_of_another() {
  static const std::map<std::string, std::string> all = {{"kimi_k2", "deepseek_v3"}};
  return all;
}

/// The family that `model_type` and every entry of `architectures` mean, and the architecture.
std::pair<const Family*, std::string> named_family(const JsonView& config) {
  std::vector<std::pair<std::string, const Family*>> named;
  const auto add = [&](const std::string& name, const auto& means) {
    const auto found = std::find_if(families().begin(), families().end(), means);
    named.emplace_back(name, found == families().end() ? nullptr : &*found);
  };
  if (config.has("architectures")) {
    const JsonView list = config.at("architectures");
    if (!list.is_array() || list.size() == 0) list.fail("an array with the name of an architecture");
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string name = list.at(i).as_string();
      add(name, [&](const Family& family) { return holds(family.architectures, name); });
    }
  }
  const bool by_architecture = !named.empty();
  const std::string type = config.get_string("model_type", "");
  const auto another = types_of_another().find(type);
  const std::string& meant = another == types_of_another().end() ? type : another->second;
  if (!type.empty()) add(type, [&](const Family& family) { return family.model_type == meant; });
  if (named.empty()) {
    throw util::format_error(
        {.what = "the config names neither 'architectures' nor 'model_type'", .where = config.where()});
  }
  const auto& [first, family] = named.front();
  if (family == nullptr) {
    throw util::format_error({.what = "unsupported architecture " + util::in_quotes(first),
                              .where = config.where(),
                              .expected = "one of " + util::join(known_architectures(), ", "),
                              .hint = util::did_you_mean(first, known_architectures())});
  }
  for (const auto& [name, other] : named) {
    if (other == family) continue;
    throw util::format_error({.what = "the config names two kinds of model",
                              .where = config.where(),
                              .expected = "'architectures' and 'model_type' of one family",
                              .found = util::cat(util::in_quotes(first), " and ", util::in_quotes(name)),
                              .hint = "transformers goes by model_type: correct the one that is wrong"});
  }
  return {family, by_architecture ? first : family->architectures.front()};
}

/// Tells of settings on windows of attention that the family's class does not read.
void tell_unused_windows(const JsonView& config, const ArchSpec& spec) {
  const bool windows = std::any_of(spec.blocks.begin(), spec.blocks.end(),
                                   [](const BlockSpec& block) { return block.window > 0; });
  if (windows) tell_unused(config, "use_sliding_window", true, spec.architecture + " has such windows");
  if (!windows && read_flag(config, "use_sliding_window", true))
    tell_unused(config, "sliding_window", nullptr, "no block has a window");
  const bool all = std::all_of(spec.blocks.begin(), spec.blocks.end(),
                               [](const BlockSpec& block) { return block.window > 0; });
  // Where some blocks have windows, a family reads which, and tells what it makes of them.
  if (!config.has("layer_types") || windows != all) return;
  Json used = Json::array();
  for (const BlockSpec& block : spec.blocks) {
    const Mixer mixer = block.mixer;
    used.push_back(mixer == Mixer::kDeltaNet || mixer == Mixer::kStateSpace || mixer == Mixer::kSelectiveScan
                       ? "linear_attention"
                   : mixer == Mixer::kAttentionAndStateSpace ? "hybrid"
                   : mixer == Mixer::kConvolution            ? "conv"
                   : mixer == Mixer::kNone                   ? block.experts ? "moe" : "mlp"
                   : block.window > 0                        ? "sliding_attention"
                   : block.chunk > 0                         ? "chunked_attention"
                                                             : "full_attention");
  }
  Json given = config.at("layer_types").raw();
  for (Json& kind : given) {
    if (kind.is_string()) kind = present_kind(kind.get<std::string>());
  }
  if (given == used) return;
  tell_unused(config, "layer_types", used,
              windows ? "sliding_window holds for every block" : "no block has a window");
}

/// A model that sees pictures around a language model, which alone is read.
struct Wrapper {
  /// Whether the unembedding is the embedding, as transformers 5 has it. What the config outside says counts.
  enum class Ties {
    kNo,        ///< not where it says nothing; the language model's own config does not matter
    kYes,       ///< they are where it says nothing; likewise
    kIfInside,  ///< as kNo, but they also are where the language model's config or its class says so
    kAsInside   ///< as the language model's config or its class says; what it says outside does not matter
  };
  std::string architecture, model_type;
  std::string text_type;  ///< the language model's `model_type`, where its config names none
  Ties ties;
  bool any_text = true;      ///< no: its config is one of `text_type`, whatever it names
  bool flat = false;         ///< where there is no `text_config`, its settings stand outside
  bool caps_logits = false;  ///< as the language model says; no: a soft cap is left out
};
const std::vector<Wrapper>& wrappers() {
  using Ties = Wrapper::Ties;
  static const std::vector<Wrapper> all = {
      {"Gemma3ForConditionalGeneration", "gemma3", "gemma3_text", Ties::kYes, /*any_text=*/false},
      {"Gemma4ForConditionalGeneration", "gemma4", "gemma4_text", Ties::kYes, /*any_text=*/false,
       /*flat=*/false, /*caps_logits=*/true},
      {"Gemma4UnifiedForConditionalGeneration", "gemma4_unified", "gemma4_unified_text", Ties::kYes,
       /*any_text=*/false, /*flat=*/false, /*caps_logits=*/true},
      {"GotOcr2ForConditionalGeneration", "got_ocr2", "qwen2", Ties::kYes},
      {"Idefics2ForConditionalGeneration", "idefics2", "mistral", Ties::kNo},
      {"Idefics3ForConditionalGeneration", "idefics3", "llama", Ties::kNo},
      {"InternVLForConditionalGeneration", "internvl", "qwen2", Ties::kYes},
      {"LightOnOcrForConditionalGeneration", "lighton_ocr", "qwen3", Ties::kYes},
      {"Llama4ForConditionalGeneration", "llama4", "llama4_text", Ties::kAsInside, /*any_text=*/false},
      {"LlavaForConditionalGeneration", "llava", "llama", Ties::kIfInside},
      {"LlavaNextForConditionalGeneration", "llava_next", "llama", Ties::kNo},
      {"LlavaNextVideoForConditionalGeneration", "llava_next_video", "llama", Ties::kIfInside},
      {"LlavaOnevisionForConditionalGeneration", "llava_onevision", "qwen2", Ties::kIfInside},
      {"Mistral3ForConditionalGeneration", "mistral3", "mistral", Ties::kYes},
      {"Qwen2VLForConditionalGeneration", "qwen2_vl", "qwen2_vl_text", Ties::kIfInside, /*any_text=*/false,
       /*flat=*/true},
      {"Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", "qwen2_5_vl_text", Ties::kIfInside,
       /*any_text=*/false, /*flat=*/true},
      {"Qwen3VLForConditionalGeneration", "qwen3_vl", "qwen3_vl_text", Ties::kNo, /*any_text=*/false},
      {"Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe", "qwen3_vl_moe_text", Ties::kNo,
       /*any_text=*/false},
      {"Qwen3_5ForConditionalGeneration", "qwen3_5", "qwen3_5_text", Ties::kNo, /*any_text=*/false},
      {"Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", "qwen3_5_moe_text", Ties::kNo,
       /*any_text=*/false},
      {"SmolVLMForConditionalGeneration", "smolvlm", "llama", Ties::kNo},
      {"VideoLlavaForConditionalGeneration", "video_llava", "llama", Ties::kNo},
      {"VipLlavaForConditionalGeneration", "vipllava", "llama", Ties::kNo},
  };
  return all;
}

/// Sizes of the classes of language models that wrappers are published with: their configs leave out what is
/// the class's.
const std::map<std::string, Json>& class_sizes() {
  const auto sizes = [](int vocab, int hidden, int mlp) {
    return Json{{"vocab_size", vocab},
                {"hidden_size", hidden},
                {"intermediate_size", mlp},
                {"num_hidden_layers", 32},
                {"num_attention_heads", 32}};
  };
  static const std::map<std::string, Json> all = {{"llama", sizes(32000, 4096, 11008)},
                                                  {"mistral", sizes(32000, 4096, 14336)},
                                                  {"qwen2", sizes(151936, 4096, 22016)},
                                                  {"qwen3", sizes(151936, 4096, 22016)}};
  return all;
}

/// The wrapper that a config is of, or none.
const Wrapper* named_wrapper(const JsonView& config) {
  const auto find_by = [](const std::string Wrapper::*name, const std::string& value) -> const Wrapper* {
    const auto found = std::find_if(wrappers().begin(), wrappers().end(),
                                    [&](const Wrapper& wrapper) { return wrapper.*name == value; });
    return found == wrappers().end() ? nullptr : &*found;
  };
  const bool named = config.has("architectures") && config.at("architectures").is_array() &&
                     config.at("architectures").size() > 0;
  const std::string type = config.get_string("model_type", "");
  const Wrapper* of_type = find_by(&Wrapper::model_type, type);
  if (!named) return of_type;
  const Wrapper* found = find_by(&Wrapper::architecture, config.at("architectures").at(0).as_string());
  if (found == nullptr || type.empty() || found == of_type) return found;
  config.at("model_type").fail(util::cat("'", found->model_type, "', as architectures says"));
}

ArchSpec read_language_model(const JsonView& config) {
  const auto [family, architecture] = named_family(config);
  for (const auto& [key, value] : neutral_values()) {
    if (!holds(family->reads, key)) require_value(config, key, value);
  }
  ArchSpec spec = family->read(config);
  spec.architecture = architecture;
  const bool has_numbers = std::any_of(spec.block_tensors.begin(), spec.block_tensors.end(),
                                       [](const TensorRule& rule) { return rule.slot == Slot::kXieluAbove; });
  if (spec.activation == Activation::kXielu && !has_numbers) {
    throw util::format_error({.what = "unsupported activation",
                              .where = config.where(),
                              .expected = "xielu in Apertus only: it has numbers of each block",
                              .found = "'xielu' in " + architecture});
  }
  DEPTHLENS_ASSERT(static_cast<std::int64_t>(spec.blocks.size()) == spec.num_layers);
  tell_unused_windows(config, spec);
  return spec;
}

/// The language model's config with all that the wrapper's class adds to it.
Json text_config_of(const JsonView& config, const Wrapper& wrapper) {
  const bool inside = config.has("text_config");
  if (!inside && !wrapper.flat) config.at("text_config");
  if (inside && !config.at("text_config").is_object()) config.at("text_config").fail("an object");
  Json text = inside ? config.at("text_config").raw() : config.raw();
  text.erase("architectures");  // the model's are outside
  if (!inside) text.erase("model_type");
  const auto type = text.find("model_type");
  if (type == text.end()) {
    text["model_type"] = wrapper.text_type;
  } else if (!wrapper.any_text) {
    if (*type != wrapper.text_type && *type != wrapper.model_type)
      config.at("text_config").at("model_type").fail(util::in_quotes(wrapper.text_type));
    *type = wrapper.text_type;
  }
  if (config.raw().contains("quantization_config"))
    text["quantization_config"] = config.raw().at("quantization_config");
  const auto sizes = class_sizes().find(JsonView(text, config.where()).get_string("model_type", ""));
  return sizes == class_sizes().end() ? text : with_class_defaults({text, config.where()}, sizes->second);
}

/// A wrapper has a linear unembedding of its own, and transformers leaves out what the language model's class
/// makes of logits; so it cannot be told which of the two is meant.
void check_readout(const JsonView& config, const Wrapper& wrapper, const ArchSpec& spec) {
  const bool biased = std::any_of(spec.model_tensors.begin(), spec.model_tensors.end(),
                                  [](const TensorRule& rule) { return rule.slot == Slot::kUnembeddingBias; });
  const auto fail = [&](const std::string& found) {
    throw util::format_error(
        {.what = "unsupported language model in " + util::in_quotes(wrapper.architecture),
         .where = config.where() + ": text_config",
         .expected = "tensors named as Llama's, and logits as the unembedding makes them",
         .found = found});
  };
  if (spec.prefixes != std::vector<std::string>{"model."}) fail("other names of tensors");
  if (biased) fail("a bias of the logits");
  if (spec.logit_transform.scale != 1) fail("scaled logits, which transformers leaves unscaled here");
  if (spec.logit_transform.soft_cap != 0 && !wrapper.caps_logits)
    fail("a soft cap of the logits, which transformers leaves out here");
}

ArchSpec read_wrapped(const JsonView& config, const Wrapper& wrapper) {
  const Json text = text_config_of(config, wrapper);
  const std::string where = config.where() + (config.has("text_config") ? ": text_config" : "");
  ArchSpec spec = read_language_model({text, where});
  check_readout(config, wrapper, spec);
  spec.architecture = wrapper.architecture;
  using Ties = Wrapper::Ties;
  if (wrapper.ties != Ties::kAsInside) {
    spec.tied_unembedding = read_flag(config, "tie_word_embeddings", wrapper.ties == Ties::kYes) ||
                            (wrapper.ties == Ties::kIfInside && spec.tied_unembedding);
  }
  for (const char* prefix : {"language_model.model.", "model.language_model.", "model.text_model."})
    spec.prefixes.emplace_back(prefix);
  for (TensorRule& rule : spec.model_tensors) {
    if (rule.slot == Slot::kUnembedding) rule.other_names.push_back("language_model." + rule.name);
  }
  for (const std::string part :
       {"vision_tower.*", "multi_modal_projector.*", "image_newline", "image_tower.*", "video_tower.*",
        "visual.*", "vision_model.*", "connector.*", "vision_encoder.*", "vision_projection.*",
        "vision_embedder.*", "embed_vision.*", "audio_tower.*", "embed_audio.*"}) {
    spec.ignorable.push_back(part);
    spec.ignorable.push_back("model." + part);
  }
  return spec;
}

}  // namespace

bool ArchSpec::states_are_all() const {
  return block_embedding_size == 0 && std::all_of(blocks.begin(), blocks.end(), [](const BlockSpec& block) {
           return block.keys_of == BlockSpec::kOwnKeys;
         });
}

std::int64_t ArchSpec::num_blocks(Mixer mixer) const {
  return std::count_if(blocks.begin(), blocks.end(),
                       [&](const BlockSpec& block) { return block.mixer == mixer; });
}

std::int64_t ArchSpec::num_blocks(bool (*is_so)(Mixer)) const {
  return std::count_if(blocks.begin(), blocks.end(),
                       [&](const BlockSpec& block) { return is_so(block.mixer); });
}

std::int64_t ArchSpec::widest_mlp() const {
  const std::int64_t dense = std::max(mlp_size, mlp_size_of_readers);
  const std::int64_t mixed = experts.chosen * experts.mlp_size + experts.shared_mlp_size;
  if (experts.beside_mlp) return dense + mixed;
  const bool any_dense = std::any_of(blocks.begin(), blocks.end(), [](const BlockSpec& block) {
    return block.feed_forward && !block.experts;
  });
  return std::max(any_dense ? dense : 0, mixed);
}

std::int64_t ArchSpec::last_reader_of(std::int64_t i) const {
  for (std::int64_t reader = num_layers - 1; reader > i; --reader) {
    if (blocks[static_cast<std::size_t>(reader)].keys_of == i) return reader;
  }
  return i;
}

std::int64_t ArchSpec::carried_size() const {
  std::int64_t size = num_layers * block_embedding_size;
  for (std::int64_t i = 0; i < num_layers; ++i) {
    const HeadSizes heads = heads_of(blocks[static_cast<std::size_t>(i)]);
    if (last_reader_of(i) > i) size += 2 * heads.num_kv_heads * heads.head_size;
  }
  return size;
}

std::int64_t ArchSpec::width_of_heads() const {
  return num_heads * std::max({head_size, latent.value_size, wide.head_size});
}

ArchSpec read_arch_spec(const JsonView& config) {
  if (!config.is_object()) config.fail("an object");
  const Wrapper* wrapper = named_wrapper(config);
  ArchSpec spec = wrapper != nullptr ? read_wrapped(config, *wrapper) : read_language_model(config);
  if (config.has("auto_map")) {
    util::log_warning(util::cat(config.where(),
                                ": auto_map names code of the model's own, which is not run: it ",
                                "is computed as ", spec.architecture));
  }
  return spec;
}

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.push_back(family.architectures.front());
  for (const Wrapper& wrapper : wrappers()) names.push_back(wrapper.architecture);
  return names;
}

}  // namespace depthlens::model
