// Two forms in which FP8 is published: that of DeepSeek V3, Qwen 3 and others, with a factor for each tile of
// a matrix or one for all of it ("fp8"), and that of llm-compressor ("compressed-tensors").
#include "quantization.hpp"

#include "config_keys.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::model {
namespace {

using util::Json;
using util::JsonView;

[[noreturn]] void refuse(const JsonView& found, const std::string& expected) {
  throw util::format_error({.what = "the weights are quantized in a way that depthlens does not read",
                            .where = found.where(),
                            .expected = expected,
                            .found = util::summary(found.raw()),
                            .hint =
                                "take a conversion to bfloat16, float16 or float32, whose config.json has "
                                "no quantization_config"});
}

void require(const JsonView& config, const std::string& key, const Json& value) {
  if (const auto found = find_key(config, key); found && found->raw() != value)
    refuse(*found, util::summary(value));
}

/// [rows, columns] of a tile.
void read_tile(const JsonView& tile, ScaleSpec& scales) {
  if (!tile.is_array() || tile.size() != 2) refuse(tile, "two sizes");
  scales.rows = tile.at(0).as_integer(1, kLargestSize);
  scales.columns = tile.at(1).as_integer(1, kLargestSize);
}

ScaleSpec read_fp8(const JsonView& config) {
  if (const auto format = find_key(config, "fmt"); format && format->raw() != "float8_e4m3fn")
    require(config, "fmt", "e4m3");
  ScaleSpec scales{.suffix = "_scale_inv"};
  const auto tile = find_key(config, "weight_block_size");
  if (!tile) {
    scales.rows = scales.columns = 128;  // transformers' default
  } else if (!tile->is_null()) {
    read_tile(*tile, scales);
  }
  return scales;
}

ScaleSpec read_compressed(const JsonView& config) {
  require(config, "format", "float-quantized");
  for (const char* key : {"sparsity_config", "transform_config"}) {
    if (has_settings(config, key)) refuse(config.at(key), "none");
  }
  std::optional<ScaleSpec> scales;
  for (const auto& [name, raw] : config.at("config_groups").raw().items()) {
    const JsonView group(raw, util::cat(config.where(), ": config_groups: ", name));
    require(group, "format", "float-quantized");
    const JsonView weights = group.at("weights");
    require(weights, "num_bits", 8);
    require(weights, "type", "float");
    require(weights, "symmetric", true);
    ScaleSpec of_group{.suffix = "_scale"};
    const JsonView strategy = weights.at("strategy");
    if (strategy.raw() == "block") {
      read_tile(weights.at("block_structure"), of_group);
    } else if (strategy.raw() != "tensor" && strategy.raw() != "channel") {
      refuse(strategy, "'tensor', 'channel' or 'block'");
    }
    if (scales && !(*scales == of_group)) refuse(strategy, "the same as of the other groups");
    scales = of_group;
  }
  if (!scales) refuse(config.at("config_groups"), "a group of weights");
  return *scales;
}

}  // namespace

ScaleSpec read_scales(const JsonView& config) {
  if (!config.has("quantization_config")) return {};
  const JsonView quantization = config.at("quantization_config");
  if (!quantization.is_object()) refuse(quantization, "an object");
  const std::string method = quantization.get_string("quant_method", "");
  if (method != "fp8" && method != "compressed-tensors")
    refuse(quantization.has("quant_method") ? quantization.at("quant_method") : quantization,
           "quant_method 'fp8' or 'compressed-tensors'");
  const ScaleSpec scales = method == "fp8" ? read_fp8(quantization) : read_compressed(quantization);
  util::log_warning(util::cat(quantization.where(),
                              ": weights in 8 bits (FP8) are read as bfloat16, as transformers does where a "
                              "device has no products of them; those that have round what goes in, too"));
  return scales;
}

}  // namespace depthlens::model
