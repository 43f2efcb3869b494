// Config keys that several families share.
#include "family.hpp"

#include <algorithm>
#include <map>
#include <optional>

#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::model {
namespace {

using util::Json;
using util::JsonView;

// Settings of various families that change the mathematics, each with the value that leaves it unchanged. A
// family that supports one reads it itself and is asked before this list (see read_arch_spec).
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
                            .hint = "it changes the mathematics, and depthlens does not implement it"});
}

Activation read_activation(const JsonView& config, const std::string& key, const std::string& class_default) {
  static const std::map<std::string, Activation> known = {
      {"gelu", Activation::kGelu},          {"gelu_new", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"relu", Activation::kRelu},          {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},
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

/// The keys of a block of rotary settings that its scaling uses; the first four are those of every scaling.
const std::vector<std::string>& keys_of_scaling(const std::string& type, const JsonView& block) {
  static const std::map<std::string, std::vector<std::string>> known = {
      {"default", {"rope_type", "type", "rope_theta", "partial_rotary_factor"}},
      {"linear", {"rope_type", "type", "rope_theta", "partial_rotary_factor", "factor"}},
      {"llama3",
       {"rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "low_freq_factor",
        "high_freq_factor", "original_max_position_embeddings"}},
  };
  const auto found = known.find(type);
  if (found != known.end()) return found->second;
  throw util::format_error({.what = "unsupported rotary scaling",
                            .where = block.where(),
                            .expected = "default, linear or llama3",
                            .found = util::in_quotes(type)});
}

std::string scaling_type(const JsonView& block) {
  const auto type = find(block, "rope_type"), older = find(block, "type");
  if (type && older && type->raw() != older->raw())
    older->fail("the same as rope_type, which is " + util::summary(type->raw()));
  return type ? type->as_string() : older ? older->as_string() : "default";
}

/// The settings with those of one block, or of none where `block_key` is empty.
RopeSpec rope_with_block(const JsonView& config, const std::string& block_key, const RopeKeys& keys) {
  RopeSpec rope;
  rope.theta = read_number(config, keys.theta, rope.theta);
  double share = keys.share.empty() ? 1 : read_number(config, keys.share, keys.class_share);
  if (!block_key.empty()) {
    const JsonView block = config.at(block_key);
    if (!block.is_object()) block.fail("an object");
    const std::string type = scaling_type(block);
    const std::vector<std::string>& used = keys_of_scaling(type, block);
    for (const std::string& key : block.keys()) {
      if (!block.has(key) || holds(used, key)) continue;
      throw util::format_error(
          {.what = "unsupported rotary setting " + util::in_quotes(key),
           .where = block.where(),
           .expected = util::cat("of scaling '", type, "' only ", util::join(used, ", ")),
           .found = util::summary(block.at(key).raw())});
    }
    rope.theta = read_number(block, "rope_theta", rope.theta);
    share = read_number(block, "partial_rotary_factor", share);
    if (type != "default") {
      rope.scaling = type == "linear" ? RopeSpec::Scaling::kLinear : RopeSpec::Scaling::kLlama3;
      rope.factor = block.at("factor").as_number();
      if (!(rope.factor > 0)) block.fail("a positive factor");
    }
    if (type == "llama3") {
      rope.low_frequency_factor = block.at("low_freq_factor").as_number();
      rope.high_frequency_factor = block.at("high_freq_factor").as_number();
      rope.original_max_positions =
          read_number(block, "original_max_position_embeddings", static_cast<double>(keys.max_positions));
      if (!(rope.high_frequency_factor > rope.low_frequency_factor && rope.low_frequency_factor > 0 &&
            rope.original_max_positions > 0)) {
        block.fail("0 < low_freq_factor < high_freq_factor and positive original_max_position_embeddings");
      }
    }
  }
  if (!(rope.theta > 0)) config.fail("a positive rotary base");
  rope.dims =
      share >= 0 && share <= 1 ? static_cast<std::int64_t>(static_cast<double>(keys.head_size) * share) : -1;
  if (rope.dims < 0 || rope.dims % 2 != 0) {
    throw util::format_error({.what = "unsupported rotary share",
                              .where = config.where(),
                              .expected = "an even number of rotary values, at most the head size",
                              .found = util::cat(share, " of ", keys.head_size)});
  }
  for (const std::string key : {"rope_theta", "rotary_emb_base"})
    tell_unused(config, key, rope.theta, util::cat("the rotary base is ", rope.theta));
  for (const std::string key : {"partial_rotary_factor", "rotary_pct"})
    tell_unused(config, key, share, util::cat("the rotated part of a head is ", share));
  if (rope.scaling == RopeSpec::Scaling::kLlama3) {
    tell_unused(config, "original_max_position_embeddings", rope.original_max_positions,
                util::cat(block_key, " has ", rope.original_max_positions));
  }
  return rope;
}

}  // namespace

RopeSpec read_rope(const JsonView& config, const RopeKeys& keys) {
  std::vector<std::string> blocks;
  for (const std::string key : {"rope_scaling", "rope_parameters"}) {
    if (config.has(key) && !config.at(key).raw().empty()) blocks.push_back(key);
  }
  const RopeSpec rope = rope_with_block(config, blocks.empty() ? "" : blocks.front(), keys);
  if (blocks.size() < 2 || rope == rope_with_block(config, blocks.back(), keys)) return rope;
  throw util::format_error(
      {.what = "two blocks of rotary settings that differ",
       .where = config.where(),
       .expected = "rope_scaling and rope_parameters that mean the same, or one of them",
       .found =
           util::cat("rope_scaling ", util::cut_utf8(config.at("rope_scaling").raw().dump(), 200),
                     ", rope_parameters ", util::cut_utf8(config.at("rope_parameters").raw().dump(), 200)),
       .hint = "transformers takes rope_scaling where both are: remove the other"});
}

namespace {

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
  if (!type.empty()) add(type, [&](const Family& family) { return family.model_type == type; });
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
  const bool windows = !spec.attention_windows.empty();
  if (windows) tell_unused(config, "use_sliding_window", true, spec.architecture + " has such windows");
  if (!windows && read_flag(config, "use_sliding_window", true))
    tell_unused(config, "sliding_window", nullptr, "no block has a window");
  if (!config.has("layer_types")) return;
  Json used = Json::array();
  for (std::size_t i = 0; i < static_cast<std::size_t>(spec.num_layers); ++i)
    used.push_back(windows && spec.attention_windows[i] > 0 ? "sliding_attention" : "full_attention");
  tell_unused(config, "layer_types", used,
              windows ? "sliding_window holds for every block" : "no block has a window");
}

}  // namespace

ArchSpec read_arch_spec(const JsonView& config) {
  if (!config.is_object()) config.fail("an object");
  const auto [family, architecture] = named_family(config);
  for (const auto& [key, value] : neutral_values()) require_value(config, key, value);
  ArchSpec spec = family->read(config);
  spec.architecture = architecture;
  tell_unused_windows(config, spec);
  if (config.has("auto_map")) {
    util::log_warning(util::cat(config.where(),
                                ": auto_map names code of the model's own, which is not run: it ",
                                "is computed as ", architecture));
  }
  return spec;
}

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.push_back(family.architectures.front());
  return names;
}

}  // namespace depthlens::model
