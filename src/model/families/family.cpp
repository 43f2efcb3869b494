// Config keys that several families share.
#include "family.hpp"

#include <algorithm>
#include <map>

#include "depthlens/util/error.hpp"
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
      {"attn_logit_softcapping", nullptr},
      {"final_logit_softcapping", nullptr},
      {"logit_scale", 1.0},
      {"logits_scaling", 1.0},
      {"embedding_multiplier", 1.0},
      {"residual_multiplier", 1.0},
      {"attention_multiplier", nullptr},
      {"clip_qkv", nullptr},
      {"alibi", false},
      {"num_local_experts", nullptr},
      {"num_experts", nullptr},
      {"is_encoder_decoder", false},
      {"add_cross_attention", false},
      {"no_rope_layers", nullptr},
      {"attention_chunk_size", nullptr},
  };
  return all;
}

}  // namespace

std::int64_t read_size(const JsonView& config, const std::string& key) {
  return config.at(key).as_integer(1, std::int64_t{1} << 24);
}

void require_value(const JsonView& config, const std::string& key, const Json& value) {
  if (!config.has(key)) return;
  const JsonView found = config.at(key);
  if (found.raw() == value) return;
  throw util::format_error({.what = "unsupported setting '" + key + "' of the model",
                            .where = found.where(),
                            .expected = value.is_null() ? "none" : util::summary(value),
                            .found = util::summary(found.raw()),
                            .hint = "it changes the mathematics, and depthlens does not implement it"});
}

Activation read_activation(const JsonView& config, const std::string& key, const std::string& fallback) {
  static const std::map<std::string, Activation> known = {
      {"gelu", Activation::kGelu},          {"gelu_new", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"relu", Activation::kRelu},          {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},
  };
  const std::string name = config.get_string(key, fallback);
  const auto found = known.find(name);
  if (found != known.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known_name, kind] : known) names.push_back(known_name);
  throw util::format_error({.what = "unsupported activation",
                            .where = config.where() + ": " + key,
                            .expected = "one of " + util::join(names, ", "),
                            .found = util::in_quotes(name)});
}

RopeSpec read_rope(const JsonView& config, std::int64_t head_size, const std::string& theta_key) {
  RopeSpec rope;
  rope.dims = head_size;
  rope.theta = config.get_number(theta_key, 10000);
  const std::string block_key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (config.has(block_key)) {
    const JsonView block = config.at(block_key);
    if (!block.is_object()) block.fail("an object");
    rope.theta = block.get_number("rope_theta", rope.theta);
    const std::string type = block.get_string("rope_type", block.get_string("type", "default"));
    if (type == "linear") {
      rope.scaling = RopeSpec::Scaling::kLinear;
      rope.factor = block.at("factor").as_number();
    } else if (type == "llama3") {
      rope.scaling = RopeSpec::Scaling::kLlama3;
      rope.factor = block.at("factor").as_number();
      rope.low_frequency_factor = block.at("low_freq_factor").as_number();
      rope.high_frequency_factor = block.at("high_freq_factor").as_number();
      rope.original_max_positions = block.at("original_max_position_embeddings").as_number();
      if (!(rope.high_frequency_factor > rope.low_frequency_factor && rope.low_frequency_factor > 0 &&
            rope.original_max_positions > 0)) {
        block.fail("0 < low_freq_factor < high_freq_factor and positive original_max_position_embeddings");
      }
    } else if (type != "default") {
      throw util::format_error({.what = "unsupported rotary scaling",
                                .where = block.where(),
                                .expected = "default, linear or llama3",
                                .found = util::in_quotes(type)});
    }
    if (!(rope.factor > 0)) block.fail("a positive factor");
  }
  if (!(rope.theta > 0)) config.fail("a positive rotary base");
  return rope;
}

ArchSpec read_arch_spec(const JsonView& config) {
  if (!config.is_object()) config.fail("an object");
  std::string architecture;
  if (config.has("architectures")) {
    const JsonView list = config.at("architectures");
    if (!list.is_array() || list.size() == 0) list.fail("an array with the name of an architecture");
    architecture = list.at(std::size_t{0}).as_string();
  }
  const std::string model_type = config.get_string("model_type", "");
  if (architecture.empty() && model_type.empty()) {
    throw util::format_error(
        {.what = "the config names neither 'architectures' nor 'model_type'", .where = config.where()});
  }
  for (const Family& family : families()) {
    const bool named = std::find(family.architectures.begin(), family.architectures.end(), architecture) !=
                       family.architectures.end();
    if (!named && !(architecture.empty() && model_type == family.model_type)) continue;
    for (const auto& [key, value] : neutral_values()) require_value(config, key, value);
    ArchSpec spec = family.read(config);
    spec.architecture = named ? architecture : family.architectures.front();
    return spec;
  }
  const std::string name = architecture.empty() ? model_type : architecture;
  throw util::format_error({.what = "unsupported architecture " + util::in_quotes(name),
                            .where = config.where(),
                            .expected = "one of " + util::join(known_architectures(), ", "),
                            .hint = util::did_you_mean(name, known_architectures())});
}

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.push_back(family.architectures.front());
  return names;
}

std::int64_t config_token(const JsonView& config, const std::string& key) {
  if (!config.has(key)) return -1;
  // Some models name several end tokens; the first one is the one of plain text.
  const JsonView value = config.at(key);
  if (value.is_array()) return value.size() > 0 ? value.at(std::size_t{0}).as_integer(0, INT32_MAX) : -1;
  return value.as_integer(0, INT32_MAX);
}

}  // namespace depthlens::model
