// What the family files share: reading of common config keys, and rules for common shapes.
#pragma once

#include <string>
#include <vector>

#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// A family: the architectures it serves and the function that reads their config.
struct Family {
  std::vector<std::string> architectures;
  std::string model_type;  ///< for a config.json without "architectures"
  ArchSpec (*read)(const util::JsonView& config);
};

const std::vector<Family>& families();

ArchSpec read_gpt2(const util::JsonView& config);
ArchSpec read_gpt_neox(const util::JsonView& config);
ArchSpec read_llama(const util::JsonView& config);
ArchSpec read_mistral(const util::JsonView& config);
ArchSpec read_qwen2(const util::JsonView& config);
ArchSpec read_qwen3(const util::JsonView& config);

/// A size of the model: an integer from 1 to 2^24.
std::int64_t read_size(const util::JsonView& config, const std::string& key);

/// The activation named by `key`. Throws for one that is not known.
Activation read_activation(const util::JsonView& config, const std::string& key, const std::string& fallback);

/// Rotary settings in either spelling: `rope_parameters` {rope_type, rope_theta, …}, or `rope_theta` and
/// `rope_scaling` {type | rope_type, …}. `theta_key` is the family's older name of the base. Throws for a
/// scaling that is not known.
RopeSpec read_rope(const util::JsonView& config, std::int64_t head_size,
                   const std::string& theta_key = "rope_theta");

/// Throws unless `key` is absent, null or `value`: other values change the mathematics in ways that are not
/// supported.
void require_value(const util::JsonView& config, const std::string& key, const util::Json& value);

/// The parts common to Llama-like families: RMS norms, rotary positions, grouped queries, gated MLP.
struct LlamaLike {
  bool qkv_bias = false;
  bool attention_out_bias = false;
  bool mlp_bias = false;
  bool query_key_norm = false;
};
ArchSpec read_llama_like(const util::JsonView& config, const LlamaLike& parts);

}  // namespace depthlens::model
