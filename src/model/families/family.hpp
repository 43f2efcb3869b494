// What the family files share: reading of common config keys, and rules for common shapes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// A family: the architectures it serves and the function that reads their config.
struct Family {
  std::vector<std::string> architectures;
  std::string model_type;
  ArchSpec (*read)(const util::JsonView& config);
};

const std::vector<Family>& families();

ArchSpec read_gpt2(const util::JsonView& config);
ArchSpec read_gpt_neox(const util::JsonView& config);
ArchSpec read_llama(const util::JsonView& config);
ArchSpec read_mistral(const util::JsonView& config);
ArchSpec read_qwen2(const util::JsonView& config);
ArchSpec read_qwen3(const util::JsonView& config);

// Settings are read as transformers 5 reads them: a key that is absent has the default of the family's class,
// and null is not absent. What must be in the config has no default here.

/// A size of the model: an integer from 1 to 2^24.
std::int64_t read_size(const util::JsonView& config, const std::string& key);
std::int64_t read_size(const util::JsonView& config, const std::string& key, std::int64_t class_default,
                       std::int64_t lowest = 1);

/// A size for which null means none.
std::optional<std::int64_t> read_optional_size(const util::JsonView& config, const std::string& key,
                                               std::optional<std::int64_t> class_default);

double read_number(const util::JsonView& config, const std::string& key, double class_default);

/// A boolean; null is false, as None is in Python.
bool read_flag(const util::JsonView& config, const std::string& key, bool class_default);

/// The epsilon of the norms. Warns of one under another family's name.
double read_epsilon(const util::JsonView& config, const std::string& key, double class_default);

/// The activation named by `key`. Throws for one that is not known.
Activation read_activation(const util::JsonView& config, const std::string& key,
                           const std::string& class_default);

/// How a family names its rotary settings outside of their block, and what holds without any.
struct RopeKeys {
  std::int64_t head_size = 0;
  std::int64_t max_positions = 0;
  std::string theta = "rope_theta";
  std::string share = {};  ///< part of the head that is rotated; none: all of it
  double class_share = 1;
};

/// Rotary settings in either spelling: `rope_parameters` {rope_type, rope_theta, …}, or `rope_scaling` {type
/// | rope_type, …} with the base beside it. Throws for a scaling that is not known, for a setting that the
/// scaling does not use, and for two blocks that differ.
RopeSpec read_rope(const util::JsonView& config, const RopeKeys& keys);

/// Warns of a key that transformers does not read in this family, where it says something else than `used`.
void tell_unused(const util::JsonView& config, const std::string& key, const util::Json& used,
                 const std::string& reason);

/// Throws unless `key` is absent or `value`, or null where `value` is not true: other values change the
/// mathematics in ways that are not supported.
void require_value(const util::JsonView& config, const std::string& key, const util::Json& value);

/// The parts common to Llama-like families: RMS norms, rotary positions, grouped queries, gated MLP. What is
/// not said here has the same default in all their classes.
struct LlamaLike {
  std::int64_t max_positions = 0;              ///< where the config does not say
  std::optional<std::int64_t> kv_heads = {};   ///< likewise; none: one for each head
  std::optional<std::int64_t> head_size = {};  ///< likewise, null is refused; none: hidden_size over heads
  bool qkv_bias = false;
  bool attention_out_bias = false;
  bool mlp_bias = false;
  bool query_key_norm = false;
};
ArchSpec read_llama_like(const util::JsonView& config, const LlamaLike& parts);

}  // namespace depthlens::model
