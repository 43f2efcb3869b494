// HunYuan (dense and with experts beside a shared MLP): Llama whose queries and keys are normed by head,
// behind the rotation. Odd: rotary scaling "dynamic" with an `alpha` is not dynamic, but a larger base. The
// weights' own code has further kinds of layers, which are refused. HY 3: norms of each head before the
// rotation, experts by logistic scores and a bias beside a shared one in all blocks but the first; its files
// have other names than transformers, and both are read.
#include <cmath>

#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

bool is_dynamic(const util::Json& block) {
  return block.value("rope_type", block.value("type", util::Json())) == "dynamic";
}

/// Puts the base that `alpha` means in the place of the scaling: of that, transformers reads nothing else.
void settle_alpha(util::Json& block, double theta, std::int64_t head_size, const util::JsonView& where) {
  const double alpha = where.at("alpha").as_number();
  if (!(alpha > 0)) where.at("alpha").fail("a positive number");
  if (head_size <= 2) where.fail("more than one rotated pair");
  const auto size = static_cast<double>(head_size);
  for (const char* key : {"alpha", "factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "type"})
    block.erase(key);
  block["rope_type"] = "default";
  block["rope_theta"] = theta * std::pow(alpha, size / (size - 2));
}

RopeSpec read_hunyuan_rope(const util::JsonView& config, const ArchSpec& spec) {
  require_value(config, "partial_rotary_factor", 1.0);
  util::Json whole = config.raw();
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!has_settings(config, key) || !config.at(key).is_object()) continue;
    const util::JsonView block = config.at(key);
    if (!is_dynamic(block.raw()) || !block.has("alpha") || block.at("alpha").raw() == 0) continue;
    const double theta = read_number(find_key(block, "rope_theta") ? block : config, "rope_theta", 10000);
    settle_alpha(whole[key], theta, spec.head_size, block);
    whole.erase("rope_theta");
  }
  return read_rope({whole, config.where()}, spec, {.share = ""});
}

ArchSpec read_hunyuan(const util::JsonView& config, bool dense_mlp) {
  require_value(config, "use_qk_norm", true);
  for (const char* key : {"use_cla", "use_mla", "mlp_bias", "position_embedding_xdrope"})
    require_value(config, key, false);
  if (!config.has("norm_type") || config.at("norm_type").raw() != "hf_rms")  // another word for it
    require_value(config, "norm_type", "rms");
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 2048,
                                           .epsilon = 1e-5,
                                           .own_rope = true,
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .dense_mlp = dense_mlp});
  tell_unused(config, "attention_head_dim", spec.head_size, "the size of a head is head_dim");
  set_rope(spec, read_hunyuan_rope(config, spec));
  spec.attention.query_key_norm_behind_rope = true;
  spec.block_tensors.push_back(
      {Slot::kQueryNormWeight, "layers.{i}.self_attn.query_layernorm.weight", {spec.head_size}});
  spec.block_tensors.push_back(
      {Slot::kKeyNormWeight, "layers.{i}.self_attn.key_layernorm.weight", {spec.head_size}});
  return spec;
}

/// A size for each block, or one for all, which transformers takes for all; throws unless they are the same.
std::int64_t read_same_size(const util::JsonView& config, const std::string& key,
                            std::int64_t class_default) {
  if (!config.has(key) || !config.at(key).is_array()) return read_size(config, key, class_default);
  const util::JsonView list = config.at(key);
  if (list.size() == 0) list.fail("a number, or one for each block");
  for (std::size_t i = 1; i < list.size(); ++i) {
    if (list.at(i).raw() != list.at(0).raw()) list.at(i).fail("the same for all blocks");
  }
  return list.at(0).as_integer(1, kMaxSize);
}

}  // namespace

ArchSpec read_hunyuan_dense(const util::JsonView& config) {
  require_value(config, "num_experts", 1);
  return read_hunyuan(config, /*dense_mlp=*/true);
}

ArchSpec read_hunyuan_moe(const util::JsonView& config) {
  require_value(config, "use_mixed_mlp_moe", true);
  require_value(config, "moe_layer_num_skipped", 0);
  tell_unused(config, "norm_topk_prob", true, "the weights of experts always add up to 1");
  if (!config.has("routed_scaling_factor") || config.at("routed_scaling_factor").raw() != false)
    require_value(config, "routed_scaling_factor", 1.0);
  ArchSpec spec = read_hunyuan(config, /*dense_mlp=*/false);
  const std::string count = name_of_size(config, "num_experts", "num_local_experts");
  const std::string chosen = name_of_size(config, "moe_topk", "num_experts_per_tok");
  spec.experts = {.count = read_same_size(config, count, 1),
                  .chosen = read_same_size(config, chosen, 1),
                  .mlp_size = spec.mlp_size,
                  .weighting = ExpertSpec::Weighting::kShares};
  check_experts(config, spec);
  const auto require_same = [&](const std::string& key, std::int64_t used) {
    if (config.has(key) && read_same_size(config, key, used) != used)
      config.at(key).fail(util::cat(used, ", which transformers takes for all"));
  };
  require_same("moe_intermediate_size", spec.mlp_size);
  require_same("num_shared_expert", 1);
  set_first_dense(spec, 0);
  add_experts(spec, {.router = "mlp.gate.wg"});
  add_shared_expert(spec, "mlp.shared_mlp", spec.mlp_size);
  return spec;
}

ArchSpec read_hy_v3(const util::JsonView& config) {
  require_value(config, "use_qk_norm", true);
  // Of the experts' MLPs transformers leaves biases out.
  require_value(config, "mlp_bias", false);
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 131072,
                                           .kv_heads = 8,
                                           .head_size = 128,
                                           .epsilon = 1e-5,
                                           .rope = {.class_theta = 11158840},
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .query_key_norm = true,
                                           .dense_mlp = false});
  set_mlp_kinds(spec, config);
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  spec.experts = {.count = read_size(config, name_of_size(config, "num_experts", "num_local_experts"), 192),
                  .chosen = read_size(config, "num_experts_per_tok", 8),
                  .mlp_size = read_size(config, "moe_intermediate_size", 1536),
                  .weighting = ExpertSpec::Weighting::kLogisticShares,
                  .scale = read_number(config, "router_scaling_factor", 2.826),
                  .shares_epsilon = 1e-20};
  check_experts(config, spec);
  const std::int64_t shared = spec.experts.mlp_size * read_size(config, "num_shared_experts", 1);
  ArchSpec renamed = spec;
  renamed.block_tensors.clear();
  add_router(renamed, "mlp.gate", "mlp.e_score_correction_bias");
  add_shared_expert(renamed, "mlp.shared_experts", shared);
  spec.other_block_tensors = renamed.block_tensors;
  add_experts(spec, {.router = "mlp.router.gate", .router_bias = "mlp.expert_bias"});
  add_shared_expert(spec, "mlp.shared_mlp", shared);
  ignore_blocks_behind(spec, config);
  return spec;
}

}  // namespace depthlens::model
