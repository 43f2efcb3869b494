#include "language_model.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"
#include "quantization.hpp"

namespace depthlens::model {

using util::Json;
using util::JsonView;

namespace {

// Settings of various families that change the mathematics, each with the value that leaves it unchanged.
// They are asked for before the family reads its config, but for those that its line in the registry says it
// reads.
const std::vector<std::pair<std::string, Json>>& neutral_values() {
  static const std::vector<std::pair<std::string, Json>> all = {
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

/// Types of published configs whose models are of another's class; transformers leaves them to code beside
/// the weights.
const std::map<std::string, std::string>& types_of_another() {
  static const std::map<std::string, std::string> all = {{"exaone4_5_text", "exaone4"},
                                                         {"kimi_k2", "deepseek_v3"}};
  return all;
}

/// The family that `model_type` and every entry of `architectures` mean, and the architecture.
std::pair<const Family*, std::string> named_family(const JsonView& config) {
  std::vector<std::pair<std::string, const Family*>> named;
  const auto find = [](const auto& means) -> const Family* {
    const auto found = std::find_if(families().begin(), families().end(), means);
    return found == families().end() ? nullptr : &*found;
  };
  const std::string type = config.get_string("model_type", "");
  const auto another = types_of_another().find(type);
  const std::string& meant = another == types_of_another().end() ? type : another->second;
  const Family* const of_type = find([&](const Family& family) { return family.model_type == meant; });
  if (config.has("architectures")) {
    const JsonView list = config.at("architectures");
    if (!list.is_array() || list.size() == 0) list.fail("an array with the name of an architecture");
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string name = list.at(i).as_string();
      const auto has_it = [&](const Family& family) { return holds(family.architectures, name); };
      const bool is_run = of_type != nullptr && holds(of_type->runs_as, name);
      named.emplace_back(name, is_run ? of_type : find(has_it));
    }
  }
  const bool by_architecture = !named.empty();
  if (!type.empty()) named.emplace_back(type, of_type);
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

}  // namespace

ArchSpec read_language_model(const JsonView& config) {
  const auto [family, architecture] = named_family(config);
  for (const auto& [key, value] : neutral_values()) {
    if (!holds(family->reads, key)) require_value(config, key, value);
  }
  ArchSpec spec = family->read(config);
  spec.architecture = architecture;
  if (!holds(family->reads, "quantization_config")) spec.scales = read_scales(config);
  DEPTHLENS_ASSERT(static_cast<std::int64_t>(spec.blocks.size()) == spec.num_layers);
  tell_unused_windows(config, spec);
  return spec;
}

}  // namespace depthlens::model
