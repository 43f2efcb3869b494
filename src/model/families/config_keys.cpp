#include "config_keys.hpp"

#include <algorithm>
#include <map>

#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::model {

using util::Json;
using util::JsonView;

Json with_class_defaults(const JsonView& config, const Json& defaults) {
  Json whole = defaults;
  whole.update(config.raw());
  return whole;
}

bool has_settings(const JsonView& config, const std::string& key) {
  return config.has(key) && !config.at(key).raw().empty();
}

std::optional<JsonView> find_key(const JsonView& config, const std::string& key) {
  const auto found = config.raw().find(key);
  if (found == config.raw().end()) return std::nullopt;
  return JsonView(*found, config.where() + ": " + key);
}

std::int64_t read_size(const JsonView& config, const std::string& key) {
  return config.at(key).as_integer(1, kMaxSize);
}

std::int64_t read_size(const JsonView& config, const std::string& key, std::int64_t class_default,
                       std::int64_t lowest) {
  const auto value = find_key(config, key);
  return value ? value->as_integer(lowest, kMaxSize) : class_default;
}

std::optional<std::int64_t> read_optional_size(const JsonView& config, const std::string& key,
                                               std::optional<std::int64_t> class_default) {
  const auto value = find_key(config, key);
  if (!value) return class_default;
  if (value->is_null()) return std::nullopt;
  return value->as_integer(1, kMaxSize);
}

Json with_own_names(const JsonView& config, const std::vector<std::pair<std::string, std::string>>& names) {
  Json whole = config.raw();
  for (const auto& [own, other] : names) {
    const auto value = find_key(config, other);
    if (!value) continue;
    const auto beside = whole.find(own);
    if (beside != whole.end() && *beside != value->raw())
      value->fail(util::cat("the same as ", own, ", which is ", util::summary(*beside)));
    whole[own] = value->raw();
    whole.erase(other);
  }
  return whole;
}

double read_number(const JsonView& config, const std::string& key, double class_default) {
  const auto value = find_key(config, key);
  return value ? value->as_number() : class_default;
}

double read_positive(const JsonView& config, const std::string& key, double class_default) {
  const double number = read_number(config, key, class_default);
  if (!(number > 0)) config.at(key).fail("a positive number");
  return number;
}

std::optional<double> read_optional_number(const JsonView& config, const std::string& key,
                                           std::optional<double> class_default) {
  const auto value = find_key(config, key);
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
  const auto value = find_key(config, key);
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
  const auto found = find_key(config, key);
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

void require_divides(const JsonView& config, const std::string& key, std::int64_t divisor,
                     const std::string& of_key, std::int64_t of) {
  if (of % divisor == 0) return;
  throw util::format_error(
      {.what = key + " does not divide " + of_key,
       .where = config.where(),
       .expected = util::cat("a divisor of ", of),
       .found = util::cat(divisor, config.has(key) ? "" : ", which holds where it is not given")});
}

Activation read_activation(const JsonView& config, const std::string& key, const std::string& class_default) {
  static const std::map<std::string, Activation> known = {
      {"gelu", Activation::kGelu},          {"gelu_new", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"relu", Activation::kRelu},          {"relu2", Activation::kReluSquared},
      {"silu", Activation::kSilu},          {"swish", Activation::kSilu},
      {"xielu", Activation::kXielu},
  };
  const auto value = find_key(config, key);
  const std::string name = value ? value->as_string() : class_default;
  for (const std::string other : {"hidden_act", "hidden_activation", "activation_function"})
    tell_unused(config, other, name, util::cat("the activation is ", name));
  const auto found = known.find(name);
  if (name == "xielu" && class_default != "xielu") {
    throw util::format_error({.what = "unsupported activation",
                              .where = config.where() + ": " + key,
                              .expected = "xielu in Apertus only: it has numbers of each block",
                              .found = "'xielu'"});
  }
  if (found != known.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known_name, kind] : known) names.push_back(known_name);
  throw util::format_error({.what = "unsupported activation",
                            .where = config.where() + ": " + key,
                            .expected = "one of " + util::join(names, ", "),
                            .found = util::in_quotes(name)});
}

bool holds(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace depthlens::model
