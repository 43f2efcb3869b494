// DBRX: layer norms without biases, clamped projections in one matrix, experts in all blocks. Odd: the
// settings of attention and experts are in blocks of their own; the rotary base is among them, where
// transformers does not read it; the rows of all experts are one tensor.
#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

/// The settings under a key, or none.
util::JsonView settings(const util::JsonView& config, const std::string& key) {
  static const util::Json kNone = util::Json::object();
  if (!config.has(key)) return {kNone, config.where() + ": " + key};
  if (!config.at(key).is_object()) config.at(key).fail("an object");
  return config.at(key);
}

/// What the settings of attention say of the base holds, and what stands beside them must not contradict it.
RopeSpec read_dbrx_rope(const util::JsonView& config, const util::JsonView& attention, const ArchSpec& spec) {
  RopeSpec rope = read_rope(config, spec, {.share = ""});
  if (!attention.has("rope_theta")) return rope;
  const double base = attention.at("rope_theta").as_number();
  if (base == rope.theta) return rope;
  const bool beside = config.has("rope_theta") || has_settings(config, "rope_parameters") ||
                      has_settings(config, "rope_scaling");
  if (!(base > 0) || beside)
    attention.at("rope_theta").fail(util::cat("the same as beside attn_config, ", rope.theta));
  util::log_warning(util::cat(attention.at("rope_theta").where(), ": the rotary base is ", base,
                              ", as the settings say; transformers 5.24 does not read them and takes ",
                              rope.theta));
  rope.theta = base;
  return rope;
}

ExpertSpec read_dbrx_experts(const util::JsonView& settings) {
  using Weighting = ExpertSpec::Weighting;
  const auto power = read_optional_number(settings, "moe_normalize_expert_weights", 1);
  if (power && *power != 1) require_value(settings, "moe_normalize_expert_weights", 1.0);
  return {.count = read_size(settings, "moe_num_experts", 4),
          .chosen = read_size(settings, "moe_top_k", 1),
          .mlp_size = read_size(settings, "ffn_hidden_size", 3584),
          .weighting = power ? Weighting::kShares : Weighting::kSoftmaxOfAll};
}

}  // namespace

ArchSpec read_dbrx(const util::JsonView& config) {
  ArchSpec spec = read_stack_with_heads(config, {.layers = {"n_layers", "num_hidden_layers"},
                                                 .hidden = {"d_model", "hidden_size"},
                                                 .heads = {"n_heads", "num_attention_heads"}});
  require_value(config, "tie_word_embeddings", false);
  require_value(config, "head_dim", spec.head_size);  // transformers rotates by it, and cuts heads without it
  const std::string longest = name_of_size(config, "max_seq_len", "max_position_embeddings");
  spec.max_positions = read_size(config, longest, 2048);
  const util::JsonView attention = settings(config, "attn_config"), experts = settings(config, "ffn_config");
  spec.num_kv_heads = read_size(attention, "kv_n_heads", 1);
  require_divides(attention, "kv_n_heads", spec.num_kv_heads, "n_heads", spec.num_heads);
  tell_unused(config, "num_key_value_heads", spec.num_kv_heads, "kv_n_heads says it");
  spec.attention.clip_projections = read_optional_number(attention, "clip_qkv", {}).value_or(0);
  set_rope(spec, read_dbrx_rope(config, attention, spec));
  spec.gated_mlp = true;
  spec.activation = Activation::kSilu;
  if (experts.has("ffn_act_fn")) spec.activation = read_activation(experts.at("ffn_act_fn"), "name", "silu");
  spec.experts = read_dbrx_experts(experts);
  check_experts(config, spec);
  set_first_dense(spec, 0);

  const std::int64_t d = spec.hidden_size, V = spec.vocab_size, E = spec.experts.count;
  const std::int64_t kv = spec.num_kv_heads * spec.head_size, rows = E * spec.experts.mlp_size;
  spec.prefixes = {"transformer."};
  spec.model_tensors = {{Slot::kTokenEmbedding, "wte.weight", {V, d}},
                        {Slot::kFinalNormWeight, "norm_f.weight", {d}},
                        {Slot::kUnembedding, "lm_head.weight", {V, d}}};
  spec.block_tensors = {{Slot::kAttentionNormWeight, "blocks.{i}.norm_attn_norm.norm_1.weight", {d}},
                        {Slot::kMlpNormWeight, "blocks.{i}.norm_attn_norm.norm_2.weight", {d}},
                        {Slot::kAttentionOutWeight, "blocks.{i}.norm_attn_norm.attn.out_proj.weight", {d, d}},
                        {Slot::kRouterWeight, "blocks.{i}.ffn.router.layer.weight", {E, d}}};
  add_rows_of(spec,
              {.slot = Slot::kQueryWeight,
               .name = "blocks.{i}.norm_attn_norm.attn.Wqkv.weight",
               .shape = {d + 2 * kv, d}},
              {{Slot::kQueryWeight, d}, {Slot::kKeyWeight, kv}, {Slot::kValueWeight, kv}});
  const auto add = [&](Slot slot, const std::string& name) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = "blocks.{i}.ffn.experts.mlp." + name,
                                  .shape = {rows, d},
                                  .transposed = slot == Slot::kExpertDownWeight,
                                  .of_all_experts = true,
                                  .experts_in_rows = true});
  };
  add(Slot::kExpertGateWeight, "w1");
  add(Slot::kExpertUpWeight, "v1");
  add(Slot::kExpertDownWeight, "w2");
  return spec;
}

}  // namespace depthlens::model
