#include "rope.hpp"

#include <cmath>
#include <map>

#include "config_keys.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::model {

using util::Json;
using util::JsonView;

Json with_rope_parameters(const JsonView& config, const Json& defaults) {
  Json whole = config.raw();
  // An empty rope_scaling is none in Python; empty rope_parameters are settings.
  if (!config.has("rope_parameters") && !has_settings(config, "rope_scaling"))
    whole["rope_parameters"] = defaults;
  return whole;
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
  const auto type = find_key(block, "rope_type"), older = find_key(block, "type");
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
    if (const auto value = block ? find_key(*block, in_block) : std::nullopt) return value->as_number();
    return beside.empty() ? class_default : read_number(config, beside, class_default);
  };
  const std::int64_t head_size = keys.head_size.value_or(spec.head_size);
  RopeSpec rope;
  rope.theta = given("rope_theta", keys.theta, keys.class_theta);
  double share = 1;
  if (keys.share.empty()) {
    if (block) require_value(*block, "partial_rotary_factor", 1.0);
  } else if (const auto beside = find_key(config, keys.share);
             beside && beside->is_null() && keys.null_share) {
    share = given("partial_rotary_factor", "", *keys.null_share);
  } else {
    share = given("partial_rotary_factor", keys.share, keys.class_share);
  }
  if (!(rope.theta > 0)) config.fail("a positive rotary base");
  rope.interleaved = keys.interleaved;
  rope.dims =
      share >= 0 && share <= 1 ? static_cast<std::int64_t>(static_cast<double>(head_size) * share) : -1;
  if (rope.dims < 0 || rope.dims % 2 != 0) {
    throw util::format_error({.what = "unsupported rotary share",
                              .where = config.where(),
                              .expected = "an even number of rotary values, at most the head size",
                              .found = util::cat(share, " of ", head_size)});
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
    tell_unused_rope(config, rope, keys.head_size.value_or(spec.head_size));
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
       .found = util::cat(
           "rope_scaling ", util::cut_utf8(util::json_text(config.at("rope_scaling").raw()), 200),
           ", rope_parameters ", util::cut_utf8(util::json_text(config.at("rope_parameters").raw()), 200)),
       .hint = "transformers takes rope_scaling where both are: remove the other"});
}

JsonView rope_block(const JsonView& config) {
  return config.at(has_settings(config, "rope_scaling") ? "rope_scaling" : "rope_parameters");
}

double yarn_growth_of_scores(const JsonView& config, const RopeSpec& rope) {
  if (rope.scaling != Scaling::kYarn) return 1;
  const double scale = rope_block(config).get_number("mscale_all_dim", 0);
  return scale == 0 ? 1 : std::pow(growth(rope.factor, scale), 2);
}

void tell_truncate_of_kind(const JsonView& settings) {
  if (!settings.has("truncate") || read_flag(settings, "truncate", true)) return;
  util::log_warning(
      util::cat(settings.at("truncate").where(),
                ": the ends of YaRN's ramp are not rounded, as the settings say; transformers 5.24 looks for "
                "this key beside the kinds of block, and rounds them"));
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
    tell_truncate_of_kind(settings);
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

void rotate_only(ArchSpec& spec, const std::vector<bool>& blocks) {
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
    if (!blocks[i]) spec.blocks[i].rope = BlockSpec::kNoRope;
  }
}

std::vector<bool> rotating_blocks(const JsonView& config, std::int64_t num_layers) {
  const std::int64_t interval = read_size(config, "no_rope_layer_interval", 4);
  std::vector<bool> rotates;
  for (std::int64_t i = 0; i < num_layers; ++i) rotates.push_back((i + 1) % interval != 0);
  if (!config.has("no_rope_layers")) return rotates;
  const JsonView list = config.at("no_rope_layers");
  if (!list.is_array() || static_cast<std::int64_t>(list.size()) != num_layers)
    list.fail(util::cat("an array of ", num_layers, " values, one a block"));
  for (std::size_t i = 0; i < list.size(); ++i) rotates[i] = list.at(i).as_integer(0, 1) == 1;
  return rotates;
}

}  // namespace depthlens::model
