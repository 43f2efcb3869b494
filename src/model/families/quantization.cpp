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

/// A key that is absent or null is no objection.
void require(const JsonView& config, const std::string& key, const Json& value) {
  if (config.has(key) && config.at(key).raw() != value) refuse(config.at(key), util::summary(value));
}

/// [rows, columns] of a tile, or "ROWSxCOLUMNS".
void read_tile(const JsonView& given, io::ScaleForm& scales) {
  Json sizes = given.raw();
  if (given.is_string()) {
    sizes = Json::array();
    for (const std::string& size : util::split(given.as_string(), 'x')) {
      std::int64_t number = 0;
      if (!util::parse_int(size, number)) refuse(given, "two sizes");
      sizes.push_back(number);
    }
  }
  const JsonView tile(sizes, given.where());
  if (!tile.is_array() || tile.size() != 2) refuse(given, "two sizes");
  scales.rows = tile.at(std::size_t{0}).as_integer(1, kMaxSize);
  scales.columns = tile.at(1).as_integer(1, kMaxSize);
}

io::ScaleForm read_fp8(const JsonView& config) {
  if (config.get_string("fmt", "") != "float8_e4m3fn") require(config, "fmt", "e4m3");
  io::ScaleForm scales{.suffix = "_scale_inv"};
  const auto tile = find_key(config, "weight_block_size");
  if (!tile) {
    scales.rows = scales.columns = 128;  // transformers' default
  } else if (!tile->is_null()) {
    read_tile(*tile, scales);
  }
  return scales;
}

/// Of a folder or of a group. The older name means the same of numbers in 8 bits.
void require_format(const JsonView& config) {
  if (config.get_string("format", "") != "naive-quantized") require(config, "format", "float-quantized");
}

io::ScaleForm read_compressed(const JsonView& config) {
  require_format(config);
  if (has_settings(config, "transform_config")) refuse(config.at("transform_config"), "none");
  if (has_settings(config, "sparsity_config") &&
      config.at("sparsity_config").get_string("format", "") != "dense")
    refuse(config.at("sparsity_config"), "none, or one of format 'dense'");
  std::optional<io::ScaleForm> scales;
  for (const auto& [name, raw] : config.at("config_groups").raw().items()) {
    const JsonView group(raw, util::cat(config.where(), ": config_groups: ", name));
    require_format(group);
    const JsonView weights = group.at("weights");
    require(weights, "num_bits", 8);
    require(weights, "type", "float");
    require(weights, "symmetric", true);
    io::ScaleForm of_group{.suffix = "_scale"};
    const std::string strategy = weights.get_string("strategy", "tensor");
    if (strategy == "block") {
      read_tile(weights.at("block_structure"), of_group);
    } else if (strategy != "tensor" && strategy != "channel") {
      refuse(weights.at("strategy"), "'tensor', 'channel' or 'block'");
    }
    if (scales && !(*scales == of_group)) refuse(weights, "the same as of the other groups");
    scales = of_group;
  }
  if (!scales) refuse(config.at("config_groups"), "a group of weights");
  return *scales;
}

}  // namespace

io::ScaleForm read_scales(const JsonView& config) {
  if (!config.has("quantization_config")) return {};
  const JsonView quantization = config.at("quantization_config");
  if (!quantization.is_object()) refuse(quantization, "an object");
  const std::string method = quantization.get_string("quant_method", "");
  if (method != "fp8" && method != "compressed-tensors")
    refuse(quantization.has("quant_method") ? quantization.at("quant_method") : quantization,
           "quant_method 'fp8' or 'compressed-tensors'");
  const std::string type = config.get_string("dtype", config.get_string("torch_dtype", "bfloat16"));
  if (type != "bfloat16") {
    util::log_warning(
        util::cat(config.where(), ": dtype is ", type,
                  ", to which transformers rounds weights that are stored in 8 bits (FP8); here "
                  "they are rounded to bfloat16"));
  }
  return method == "fp8" ? read_fp8(quantization) : read_compressed(quantization);
}

}  // namespace depthlens::model
