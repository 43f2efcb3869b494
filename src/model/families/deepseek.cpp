// DeepSeek V2 and V3 (V3, R1, Kimi K2, Moonlight), GLM 4.7 Flash and Sarvam 105B: queries, keys and values
// are made of narrow vectors, a part of each head is rotated, by pairs of neighbours, and keys have that part
// in common; experts beside shared ones in all blocks but the first. Odd: the norms of the narrow vectors
// have an epsilon of their own; YaRN makes scores larger, and cosines too; V2 weighs experts by a softmax
// over all, V3 as GLM 4.5 does; checkpoints have blocks behind the last, which predict further tokens and are
// not read. The same attention without experts: MiniCPM 3, which rotates halves and has factors as Granite
// has, and Youtu. With experts in all blocks and queries that grow with their position: Mistral 4. DeepSeek
// V3.2 and GLM 5 choose the positions that attention sees, as many as all where windows are short, and no
// longer ones are allowed.
#include <cmath>

#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

/// What the classes have for absent keys, where they differ.
struct LatentLike {
  std::int64_t max_positions;
  std::optional<std::int64_t> kv_heads;  ///< none: as many as heads
  double epsilon = 1e-6;
  std::optional<std::int64_t> query_rank = 1536;  ///< none: queries are made of the state itself
  std::int64_t key_value_rank = 512, plain = 128, value_size = 128;
  bool tied_unembedding = false;
  std::vector<std::string> rope_settings = {};  ///< in the block, which the family itself reads
};

/// The heads all have keys of their own, and what the config says of them can only repeat that.
void check_kv_heads(const util::JsonView& config, std::int64_t heads, const LatentLike& parts) {
  const auto given = read_optional_size(config, "num_key_value_heads", parts.kv_heads).value_or(heads);
  if (heads / given == 1) return;
  throw util::format_error(
      {.what = "num_key_value_heads is not num_attention_heads",
       .where = config.where(),
       .expected = util::cat(heads, ": keys are made of narrow vectors for each head"),
       .found =
           util::cat(given, config.has("num_key_value_heads") ? "" : ", which holds where it is not given")});
}

/// `size`: what the class has under that name, whatever the config says.
void tell_unused_head_size(const util::JsonView& config, std::int64_t size) {
  tell_unused(config, "head_dim", size, "heads have qk_nope_head_dim and qk_rope_head_dim");
}

/// Of the classes that have the size of the rotated part as `head_dim`, whatever the config says.
std::int64_t read_rotated_size(const util::JsonView& config, std::int64_t absent = 64) {
  const std::int64_t rotated = read_size(config, "qk_rope_head_dim", absent);
  tell_unused_head_size(config, rotated);
  return rotated;
}

/// All but MLP and experts. `rotated` is the size of the part of a head that is.
ArchSpec read_latent(const util::JsonView& config, std::int64_t rotated, bool interleaved,
                     const LatentLike& parts) {
  const std::int64_t heads = read_size(config, "num_attention_heads");
  check_kv_heads(config, heads, parts);
  const std::int64_t plain = read_size(config, "qk_nope_head_dim", parts.plain);
  util::Json whole = config.raw();
  whole["num_key_value_heads"] = heads;
  whole["head_dim"] = plain + rotated;
  ArchSpec spec = read_llama_like({whole, config.where()}, {.max_positions = parts.max_positions,
                                                            .tied_unembedding = parts.tied_unembedding,
                                                            .epsilon = parts.epsilon,
                                                            .own_rope = true,
                                                            .attention = false,
                                                            .dense_mlp = false});
  require_value(config, "partial_rotary_factor", 1.0);
  const RopeSpec rope = read_rope(
      config, spec,
      {.share = "", .others = parts.rope_settings, .interleaved = interleaved, .head_size = rotated});
  set_rope(spec, rope);
  spec.attention.scale *= yarn_growth_of_scores(config, rope);
  LatentSpec& latent = spec.latent;
  latent.query_rank = read_optional_size(config, "q_lora_rank", parts.query_rank).value_or(0);
  latent.key_value_rank = read_size(config, "kv_lora_rank", parts.key_value_rank);
  latent.value_size = read_size(config, "v_head_dim", parts.value_size);

  const bool bias = read_flag(config, "attention_bias", false);
  const std::int64_t d = spec.hidden_size, q = heads * spec.head_size, rank = latent.key_value_rank;
  const std::string attention = "layers.{i}.self_attn.";
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape,
                       TensorRule::Rows rows = {}) {
    spec.block_tensors.push_back(
        {.slot = slot, .name = attention + name, .shape = std::move(shape), .rows = rows});
  };
  if (const std::int64_t r = latent.query_rank; r > 0) {
    add(Slot::kLatentQueryWeight, "q_a_proj.weight", {r, d});
    if (bias) add(Slot::kLatentQueryBias, "q_a_proj.bias", {r});
    add(Slot::kLatentQueryNormWeight, "q_a_layernorm.weight", {r});
    add(Slot::kQueryWeight, "q_b_proj.weight", {q, r});
  } else {
    add(Slot::kQueryWeight, "q_proj.weight", {q, d});
  }
  const TensorRule::Rows narrow = {.first = 0, .count = rank}, of_all = {.first = rank, .count = rotated};
  add(Slot::kLatentWeight, "kv_a_proj_with_mqa.weight", {rank + rotated, d}, narrow);
  add(Slot::kRotatedKeyWeight, "kv_a_proj_with_mqa.weight", {rank + rotated, d}, of_all);
  if (bias) {
    add(Slot::kLatentBias, "kv_a_proj_with_mqa.bias", {rank + rotated}, narrow);
    add(Slot::kRotatedKeyBias, "kv_a_proj_with_mqa.bias", {rank + rotated}, of_all);
    add(Slot::kAttentionOutBias, "o_proj.bias", {d});
  }
  add(Slot::kLatentNormWeight, "kv_a_layernorm.weight", {rank});
  const std::int64_t v = latent.value_size, step = plain + v;
  add(Slot::kKeyWeight, "kv_b_proj.weight", {heads * step, rank},
      {.first = 0, .count = heads * plain, .step = step, .run = plain});
  add(Slot::kValueWeight, "kv_b_proj.weight", {heads * step, rank},
      {.first = plain, .count = heads * v, .step = step, .run = v});
  add(Slot::kAttentionOutWeight, "o_proj.weight", {d, heads * v});
  return spec;
}

/// What the class says of its router, where the config says it, too.
void tell_unused_router(const util::JsonView& config, const std::string& scores, const std::string& method) {
  require_value(config, "moe_layer_freq", 1);
  tell_unused(config, "scoring_func", scores, "scores of the router are " + scores);
  if (!method.empty()) tell_unused(config, "topk_method", method, "the router is of the kind " + method);
}

/// Of the class of V3, and of those made after it.
ArchSpec read_like_v3(const util::JsonView& config, std::int64_t rotated, const LatentLike& parts,
                      const ExpertSpec& experts) {
  ArchSpec spec = read_latent(config, rotated, read_flag(config, "rope_interleave", true), parts);
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  add_logistic_experts(spec, config, experts);
  tell_unused_router(config, "sigmoid", "noaux_tc");
  return spec;
}

/// Of the class of V3.2, and of those made after it.
ArchSpec read_indexed(const util::JsonView& config, const LatentLike& parts, const ExpertSpec& experts) {
  const std::int64_t rotated = read_rotated_size(config);
  tell_unused(config, "rope_interleave", true, "rotated pairs are neighbours");
  read_size(config, "q_lora_rank", *parts.query_rank);  // null is refused
  util::Json whole = config.raw();
  whole.erase("rope_interleave");
  ArchSpec spec = read_like_v3({whole, config.where()}, rotated, parts, experts);
  read_kinds_of_blocks(config, "layer_types", spec.num_layers, {"indexed_attention"});
  if (config.has("mlp_layer_types")) {
    set_mlp_kinds(spec, config);
  } else {
    set_first_dense(spec, read_size(config, "first_k_dense_replace", 3, /*lowest=*/0));
  }
  const std::int64_t seen = read_size(config, "index_topk", 2048);
  if (seen < spec.max_positions) {
    util::log_warning(util::cat(config.where(), ": windows are of at most ", seen,
                                " tokens (index_topk): in longer ones attention sees chosen positions only, "
                                "which depthlens does not implement"));
    spec.max_positions = seen;
  }
  for (std::int64_t i = 0; i < spec.num_layers; ++i)
    spec.ignorable.push_back(util::cat("layers.", i, ".self_attn.indexer.*"));
  return spec;
}

}  // namespace

// Odd: `norm_topk_prob` is not read.
ArchSpec read_deepseek_v2(const util::JsonView& config) {
  const std::int64_t rotated = read_rotated_size(config);
  tell_unused(config, "rope_interleave", true, "rotated pairs are neighbours");
  tell_unused(config, "norm_topk_prob", false, "weights of experts are not shared out");
  require_value(config, "mlp_bias", false);
  ArchSpec spec = read_latent(config, rotated, /*interleaved=*/true, {.max_positions = 2048, .kv_heads = {}});
  spec.experts = {.count = read_size(config, name_of_size(config, "n_routed_experts", "num_experts"), 64),
                  .chosen = read_size(config, "num_experts_per_tok"),
                  .mlp_size = read_size(config, "moe_intermediate_size", 1407),
                  .weighting = ExpertSpec::Weighting::kSoftmaxOfAll,
                  .scale = read_number(config, "routed_scaling_factor", 1),
                  .groups_by_best = true};
  const std::string method = config.get_string("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    spec.experts.groups = read_size(config, "n_group");
    spec.experts.chosen_groups = read_size(config, "topk_group");
  } else if (config.raw().contains("topk_method") && config.raw().at("topk_method") != "greedy") {
    config.at("topk_method").fail("greedy or group_limited_greedy");
  }
  check_experts(config, spec);
  set_first_dense(spec, read_size(config, "first_k_dense_replace", 0, /*lowest=*/0));
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  add_experts(spec);
  add_shared_expert(spec, "mlp.shared_experts",
                    spec.experts.mlp_size * read_size(config, "n_shared_experts", 2));
  tell_unused_router(config, "softmax", "");
  return spec;
}

// Odd: `head_dim`, where the config has it, is the size of the rotated part.
ArchSpec read_deepseek_v3(const util::JsonView& config) {
  const std::int64_t rotated = read_size(config, "qk_rope_head_dim", 64);
  require_value(config, "head_dim", rotated);
  ArchSpec spec = read_like_v3(
      config, rotated, {.max_positions = 4096, .kv_heads = 128},
      {.count = 256, .chosen = 8, .mlp_size = 2048, .scale = 2.5, .groups = 8, .chosen_groups = 4});
  set_first_dense(spec, read_size(config, "first_k_dense_replace", 3, /*lowest=*/0));
  return spec;
}

// Odd: `head_dim` says nothing, and the published kind of scaling is YaRN.
ArchSpec read_sarvam_mla(const util::JsonView& config) {
  util::Json whole = with_own_names(
      config, {{"n_routed_experts", "num_experts"}, {"n_shared_experts", "num_shared_experts"}});
  const std::int64_t rotated = read_rotated_size(config);
  if (const auto found = whole.find("rope_scaling"); found != whole.end() && found->is_object()) {
    const auto is_of_deepseek = [&](const char* key) {
      return found->contains(key) && found->at(key) == "deepseek_yarn";
    };
    if (is_of_deepseek("type") || is_of_deepseek("rope_type")) {
      found->erase("type");
      (*found)["rope_type"] = "yarn";
    }
  }
  const util::JsonView renamed(whole, config.where());
  ArchSpec spec = read_like_v3(renamed, rotated, {.max_positions = 4096, .kv_heads = {}, .query_rank = {}},
                               {.count = 128, .chosen = 8, .mlp_size = 2048, .scale = 2.5});
  set_first_dense(spec, read_size(renamed, "first_k_dense_replace", 1, /*lowest=*/0));
  return spec;
}

ArchSpec read_deepseek_v32(const util::JsonView& config) {
  return read_indexed(
      config, {.max_positions = 163840, .kv_heads = 128},
      {.count = 256, .chosen = 8, .mlp_size = 2048, .scale = 2.5, .groups = 8, .chosen_groups = 4});
}

ArchSpec read_glm_moe_dsa(const util::JsonView& config) {
  return read_indexed(config,
                      {.max_positions = 202752,
                       .kv_heads = 64,
                       .epsilon = 1e-5,
                       .query_rank = 2048,
                       .plain = 192,
                       .value_size = 256},
                      {.count = 256, .chosen = 8, .mlp_size = 2048, .scale = 2.5});
}

// Odd: `head_dim` is another name of qk_rope_head_dim.
ArchSpec read_glm4_moe_lite(const util::JsonView& config) {
  const std::int64_t rotated = read_size(config, name_of_size(config, "qk_rope_head_dim", "head_dim"), 64);
  ArchSpec spec = read_like_v3(config, rotated,
                               {.max_positions = 202752,
                                .kv_heads = 20,
                                .epsilon = 1e-5,
                                .query_rank = 768,
                                .plain = 192,
                                .value_size = 256},
                               {.count = 64, .chosen = 4, .mlp_size = 1536, .scale = 1.8});
  set_mlp_kinds(spec, config);
  return spec;
}

ArchSpec read_minicpm3(const util::JsonView& config) {
  const std::int64_t rotated = read_rotated_size(config, 32);
  tell_unused(config, "rope_interleave", false, "rotated pairs are halves");
  const bool mlp_bias = read_flag(config, "mlp_bias", false);
  util::Json whole = config.raw();
  if (!config.has("v_head_dim")) whole["v_head_dim"] = read_stack_with_heads(config).head_size;
  ArchSpec spec = read_latent({whole, config.where()}, rotated, /*interleaved=*/false,
                              {.max_positions = 32768,
                               .kv_heads = 40,
                               .epsilon = 1e-5,
                               .query_rank = 768,
                               .key_value_rank = 256,
                               .plain = 64,
                               .tied_unembedding = true});
  add_gated_mlp(spec, {.bias = mlp_bias});
  spec.embedding_scale = read_number(config, "scale_emb", 12);
  spec.rounds_embedding_scale = true;
  if (const auto depth = read_optional_number(config, "scale_depth", 1.4))
    spec.residual_scale = *depth / std::sqrt(static_cast<double>(spec.num_layers));
  if (const auto base = read_optional_size(config, "dim_model_base", 256))
    spec.logit_transform.scale = static_cast<double>(*base) / static_cast<double>(spec.hidden_size);
  return spec;
}

ArchSpec read_youtu(const util::JsonView& config) {
  const std::int64_t rotated = read_size(config, "qk_rope_head_dim", 64);
  require_value(config, "head_dim", rotated);  // transformers makes the angles of it
  tell_unused(config, "mlp_bias", false, "MLPs have no biases");
  if (const auto padding = find_key(config, "pad_token_id"); padding && !padding->is_null()) {
    util::log_warning(util::cat(padding->where(), " (", util::summary(padding->raw()),
                                "): transformers clears the embedding of this token when it loads such a "
                                "model; here it counts as it is stored"));
  }
  ArchSpec spec = read_latent(config, rotated, read_flag(config, "rope_interleave", true),
                              {.max_positions = 131072, .kv_heads = 16, .tied_unembedding = true});
  add_gated_mlp(spec);
  return spec;
}

// Odd: the rotated part is also in the block of rotary settings, as a share of the head.
ArchSpec read_mistral4(const util::JsonView& config) {
  using Weighting = ExpertSpec::Weighting;
  const std::int64_t rotated = read_size(config, "qk_rope_head_dim", 64);
  const std::int64_t head_size = read_size(config, "qk_nope_head_dim", 64) + rotated;
  require_value(config, "head_dim", head_size);  // transformers makes the angles of it
  util::Json whole = with_rope_parameters(config, {{"type", "yarn"},
                                                   {"rope_theta", 10000.0},
                                                   {"factor", 128.0},
                                                   {"original_max_position_embeddings", 8192},
                                                   {"beta_fast", 32.0},
                                                   {"beta_slow", 1.0},
                                                   {"mscale_all_dim", 1.0},
                                                   {"mscale", 1.0},
                                                   {"llama_4_scaling_beta", 0.1}});
  const auto take_share = [&](const util::JsonView& settings, util::Json& without) {
    if (!settings.is_object() || !settings.has("partial_rotary_factor")) return;
    const util::JsonView share = settings.at("partial_rotary_factor");
    if (static_cast<std::int64_t>(static_cast<double>(head_size) * share.as_number()) != rotated)
      share.fail(util::cat("the share of a head that qk_rope_head_dim is, ", rotated, " of ", head_size));
    without.erase("partial_rotary_factor");
  };
  take_share(config, whole);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (config.has(key)) take_share(config.at(key), whole[key]);
  }
  const util::JsonView filled(whole, config.where());
  ArchSpec spec = read_latent(filled, rotated, read_flag(config, "rope_interleave", true),
                              {.max_positions = 1048576,
                               .kv_heads = 32,
                               .query_rank = 1024,
                               .key_value_rank = 256,
                               .plain = 64,
                               .rope_settings = {"llama_4_scaling_beta", "max_position_embeddings"}});
  set_query_growth(spec, filled);
  set_first_dense(spec, read_size(config, "first_k_dense_replace", 0, /*lowest=*/0));
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  ExpertSpec& experts = spec.experts;
  experts = read_logistic_experts(
      config, {.count = 128, .chosen = 4, .mlp_size = 2048, .weighting = Weighting::kLogisticShares});
  if (experts.weighting == Weighting::kLogisticShares) {
    experts.weighting = Weighting::kBiasedShares;  // without a bias
  } else {
    experts.weighting = Weighting::kSoftmaxOfAll;
    require_value(config, "n_group", 1);
  }
  experts.shares_epsilon = 1e-20;
  check_experts(config, spec);
  add_experts(spec);
  add_shared_expert(spec, "mlp.shared_experts", experts.mlp_size * read_size(config, "n_shared_experts", 1));
  tell_unused_router(config, "softmax", "");
  return spec;
}

}  // namespace depthlens::model
