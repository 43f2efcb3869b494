// LFM2, dense and with experts: most blocks mix positions by a short convolution between two gates, some by
// attention with norms of each head. Odd: the config's size of the MLP is cut to two thirds and rounded up,
// but in models with experts; the final norm is named as if it were the embedding's; the shares of experts
// have 1e-6 added to their sum.
#include <cmath>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

/// The config with what the class makes of other names.
util::Json with_usual_names(const util::JsonView& config) {
  util::Json whole = config.raw();
  if (whole.contains("tie_embedding")) whole["tie_word_embeddings"] = whole["tie_embedding"];
  return whole;
}

/// The size of a dense model's MLP.
std::int64_t adjusted_mlp_size(const util::JsonView& config) {
  const std::int64_t given =
      read_size(config, config.raw().contains("block_ff_dim") ? "block_ff_dim" : "intermediate_size");
  if (!read_flag(config, "block_auto_adjust_ff_dim", true)) return given;
  const auto cut = [](double size) { return std::floor(size); };
  double size = cut(static_cast<double>(2 * given) / 3);
  if (const auto factor = read_optional_number(config, "block_ffn_dim_multiplier", 1)) {
    const auto multiple = static_cast<double>(read_size(config, "block_multiple_of", 256));
    size = multiple * std::ceil(cut(*factor * size) / multiple);
  }
  if (size >= 1 && size <= static_cast<double>(kMaxSize)) return static_cast<std::int64_t>(size);
  throw util::format_error(
      {.what = "unsupported size of the MLP",
       .where = config.where(),
       .expected = util::cat("1 to ", kMaxSize,
                             " after block_auto_adjust_ff_dim, block_ffn_dim_multiplier, block_multiple_of"),
       .found = util::cat(size)});
}

void add_mixers(ArchSpec& spec, const util::JsonView& config) {
  add_attention(spec, {.out = "out_proj",
                       .query_norm = "q_layernorm",
                       .key_norm = "k_layernorm",
                       .mixer = Mixer::kAttention});
  const std::int64_t d = spec.hidden_size;
  const bool bias = read_flag(config, "conv_bias", false);
  spec.convolution_kernel = read_size(config, "conv_L_cache", 3);
  const auto add = [&](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = "layers.{i}.conv." + name,
                                  .shape = std::move(shape),
                                  .blocks = {.mixer = Mixer::kConvolution}});
  };
  const auto convolution = [&](Slot weight, Slot bias_slot, const char* name,
                               std::vector<std::int64_t> shape) {
    const std::int64_t out = shape.front();
    add(weight, std::string(name) + ".weight", std::move(shape));
    if (bias) add(bias_slot, std::string(name) + ".bias", {out});
  };
  convolution(Slot::kMixerInWeight, Slot::kMixerInBias, "in_proj", {3 * d, d});
  convolution(Slot::kMixerConvolution, Slot::kMixerConvolutionBias, "conv", {d, 1, spec.convolution_kernel});
  convolution(Slot::kMixerOutWeight, Slot::kMixerOutBias, "out_proj", {d, d});
}

/// The MLP "layers.{i}.feed_forward.{w1,w3,w2}".
void add_lfm2_mlp(ArchSpec& spec, const BlockFilter& blocks = {}) {
  add_gated_mlp(spec, {.stem = "feed_forward", .names = {"w1", "w3", "w2"}, .blocks = blocks});
}

/// All but the mixers and the MLP; `mlp_size` where the config's is not.
ArchSpec read_lfm2_like(const util::JsonView& config, std::optional<std::int64_t> mlp_size) {
  util::Json whole = with_usual_names(config);
  if (mlp_size) whole["intermediate_size"] = *mlp_size;
  ArchSpec spec = read_llama_like(
      {whole, config.where()},
      {.max_positions = 128000,
       .kv_heads = 8,
       .tied_unembedding = true,
       .epsilon_key = "norm_eps",
       .epsilon = 1e-5,
       .norms = {{Slot::kAttentionNormWeight, "operator_norm"}, {Slot::kMlpNormWeight, "ffn_norm"}},
       .final_norm_weight = false,
       .activation_key = "",  // whatever the config says
       .rope = {.class_theta = 1e6},
       .attention = false,
       .dense_mlp = false});
  spec.model_tensors.push_back({Slot::kFinalNormWeight, "embedding_norm.weight", {spec.hidden_size}});
  return spec;
}

}  // namespace

ArchSpec read_lfm2(const util::JsonView& config) {
  ArchSpec spec = read_lfm2_like(config, adjusted_mlp_size(config));
  const auto by_index = read_listed_blocks(config, "full_attn_idxs", spec.num_layers);
  const auto kinds = read_kinds_of_blocks(config, "layer_types", spec.num_layers, "conv", "full_attention");
  if (kinds && by_index && *kinds != *by_index)
    tell_unused(config, "full_attn_idxs", nullptr, "layer_types says which blocks attend");
  const std::vector<bool> all(spec.blocks.size(), true);
  set_other_mixer(spec, kinds ? *kinds : by_index.value_or(all), Mixer::kConvolution);
  add_mixers(spec, config);
  add_lfm2_mlp(spec);
  // Settings of the code that the models were trained with, which the class does not read.
  tell_unused(config, "num_heads", spec.num_heads, util::cat("there are ", spec.num_heads, " heads"));
  tell_unused(config, "block_norm_eps", spec.norm_epsilon,
              util::cat("the epsilon of the norms is ", spec.norm_epsilon));
  tell_unused(config, "block_use_swiglu", true, "the MLP is gated");
  for (const char* key : {"block_dim", "conv_dim", "conv_dim_out"})
    tell_unused(config, key, spec.hidden_size, util::cat("the hidden size is ", spec.hidden_size));
  return spec;
}

ArchSpec read_lfm2_moe(const util::JsonView& config) {
  using Weighting = ExpertSpec::Weighting;
  ArchSpec spec = read_lfm2_like(config, std::nullopt);
  const auto kinds = read_kinds_of_blocks(config, "layer_types", spec.num_layers, "conv", "full_attention");
  if (!kinds) config.at("layer_types");  // without it, the class makes no model
  set_other_mixer(spec, *kinds, Mixer::kConvolution);
  add_mixers(spec, config);
  spec.experts = {.count = read_size(config, "num_experts", 32),
                  .chosen = read_size(config, "num_experts_per_tok", 4),
                  .mlp_size = read_size(config, "moe_intermediate_size", 1792),
                  .weighting = read_flag(config, "norm_topk_prob", true) ? Weighting::kLogisticShares
                                                                         : Weighting::kLogistic,
                  .scale = read_number(config, "routed_scaling_factor", 1),
                  .shares_epsilon = 1e-6};
  check_experts(config, spec);
  set_first_dense(spec, read_size(config, "num_dense_layers", 2, /*lowest=*/0));
  add_lfm2_mlp(spec, {.experts = false});
  const bool biased = read_flag(config, "use_expert_bias", true);
  add_experts(spec, {.router = "feed_forward.gate",
                     .router_bias = biased ? "feed_forward.expert_bias" : "",
                     .stem = "feed_forward.experts",
                     .gate = "w1",
                     .up = "w3",
                     .down = "w2"});
  return spec;
}

}  // namespace depthlens::model
