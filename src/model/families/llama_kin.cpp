// Families that are Llama but for what their configs leave out, names, biases, windows, and which values a
// pair is of: CWM, Ernie 4.5, EXAONE 3, Helium, InternLM 3, IQuest-Coder, Seed-OSS. Ernie with experts
// chooses them by probabilities and a bias, which decides only who is chosen; its checkpoints have parts that
// predict further tokens and are not read. The language model of PaddleOCR-VL is Ernie with pairs of values
// half a head apart, rotated by three coordinates, which of a text are one.
#include <algorithm>

#include "depthlens/util/error.hpp"
#include "family.hpp"

namespace depthlens::model {

ArchSpec read_cwm(const util::JsonView& config) {
  tell_unused(config, "attention_bias", false, "projections of attention have no biases");
  const util::Json whole = with_rope_parameters(config, {{"rope_type", "llama3"},
                                                         {"rope_theta", 1e6},
                                                         {"factor", 16.0},
                                                         {"low_freq_factor", 1.0},
                                                         {"high_freq_factor", 4.0},
                                                         {"original_max_position_embeddings", 8192}});
  const bool mlp_bias = read_flag(config, "mlp_bias", false);
  ArchSpec spec = read_llama_like({whole, config.where()}, {.max_positions = 131072,
                                                            .kv_heads = 8,
                                                            .head_size = 128,
                                                            .epsilon = 1e-5,
                                                            .rope = {.class_theta = 1e6},
                                                            .mlp_bias = mlp_bias});
  set_windows(spec, config,
              sliding_blocks(config, spec.num_layers, [](std::int64_t i) { return i % 4 != 0; }), 8192);
  return spec;
}

ArchSpec read_ernie4_5(const util::JsonView& config) {
  tell_unused(config, "compression_ratio", 1.0, "positions are not divided");
  const util::Json whole = with_class_defaults(config, {{"head_dim", 128}});
  const bool bias = read_flag(config, "use_bias", false);
  return read_llama_like({whole, config.where()}, {.max_positions = 131072,
                                                   .kv_heads = 2,
                                                   .tied_unembedding = true,
                                                   .epsilon = 1e-5,
                                                   .rope = {.class_theta = 5e5, .interleaved = true},
                                                   .qkv_bias = bias,
                                                   .attention_out_bias = bias,
                                                   .mlp_bias = bias});
}

ArchSpec read_ernie4_5_moe(const util::JsonView& config) {
  // Of the experts' MLPs transformers leaves biases out.
  require_value(config, "use_bias", false);
  tell_unused(config, "compression_ratio", 1.0, "positions are not divided");
  ArchSpec spec = read_llama_like(config, {.max_positions = 131072,
                                           .kv_heads = 4,
                                           .tied_unembedding = true,
                                           .epsilon = 1e-5,
                                           .rope = {.class_theta = 5e5, .interleaved = true},
                                           .dense_mlp = false});
  spec.experts = {.count = read_size(config, name_of_size(config, "moe_num_experts", "num_experts"), 64),
                  .chosen = read_size(config, name_of_size(config, "moe_k", "num_experts_per_tok"), 6),
                  .mlp_size = read_size(config, "moe_intermediate_size", 1536),
                  .weighting = ExpertSpec::Weighting::kBiasedShares,
                  .least_sum = read_number(config, "moe_norm_min", 1e-12)};
  check_experts(config, spec);
  const std::int64_t interval = read_size(config, "moe_layer_interval", 1);
  const std::int64_t first = read_size(config, "moe_layer_start_index", 1, /*lowest=*/0);
  const std::int64_t given = read_size(config, "moe_layer_end_index", -1, /*lowest=*/-1);
  const std::int64_t last = given == -1 ? spec.num_layers - 1 : given;
  for (std::int64_t i = 0; i < spec.num_layers; ++i)
    spec.blocks[static_cast<std::size_t>(i)].experts = (i + 1) % interval == 0 && i >= first && i <= last;
  add_gated_mlp(spec, {.blocks = {.experts = false}});
  add_experts(spec);
  spec.block_tensors.push_back({.slot = Slot::kRouterBias,
                                .name = "layers.{i}.mlp.moe_statics.e_score_correction_bias",
                                .shape = {1, spec.experts.count},
                                .blocks = {.experts = true}});
  add_other_names(spec, {{"mlp.moe_statics", "mlp.gate.moe_statics"}});
  if (const std::int64_t shared = read_size(config, "moe_num_shared_experts", 2, /*lowest=*/0); shared > 0)
    add_shared_expert(spec, "mlp.shared_experts", shared * spec.experts.mlp_size);
  for (const char* part : {"mtp_block.*", "mtp_emb_norm.*", "mtp_hidden_norm.*", "mtp_linear_proj.*"})
    spec.ignorable.push_back(part);
  return spec;
}

ArchSpec read_paddleocr(const util::JsonView& config) {
  tell_unused(config, "compression_ratio", 1.0, "positions are not divided");
  const util::Json whole = with_class_defaults(config, {{"vocab_size", 103424},
                                                        {"hidden_size", 1024},
                                                        {"intermediate_size", 3072},
                                                        {"num_hidden_layers", 18},
                                                        {"num_attention_heads", 16},
                                                        {"head_dim", 128}});
  const bool bias = read_flag(config, "use_bias", false);
  ArchSpec spec =
      read_llama_like({whole, config.where()}, {.max_positions = 131072,
                                                .kv_heads = 2,
                                                .tied_unembedding = true,
                                                .epsilon = 1e-5,
                                                .rope = {.class_theta = 5e5, .others = {"mrope_section"}},
                                                .qkv_bias = bias,
                                                .attention_out_bias = bias,
                                                .mlp_bias = bias});
  // Some kinds of attention of transformers would have a window there, others none.
  const auto slides = sliding_blocks(config, spec.num_layers, [](std::int64_t) { return false; });
  if (std::find(slides.begin(), slides.end(), true) != slides.end())
    config.at("layer_types").fail("no sliding_attention");
  return spec;
}

// Odd: keys and tensors have names of their own, as published, or Llama's.
ArchSpec read_exaone(const util::JsonView& config) {
  const util::Json whole = with_own_names(config, {{"num_hidden_layers", "num_layers"},
                                                   {"rms_norm_eps", "layer_norm_epsilon"},
                                                   {"hidden_act", "activation_function"}});
  const util::JsonView renamed(whole, config.where());
  const bool bias = read_flag(config, "attention_bias", false);
  const bool mlp_bias = read_flag(config, "mlp_bias", false);
  ArchSpec spec = read_llama_like(renamed, {.max_positions = 4096,
                                            .kv_heads = 8,
                                            .epsilon = 1e-5,
                                            .rope = {.class_theta = 5e5},
                                            .qkv_bias = bias,
                                            .attention_out_bias = bias,
                                            .mlp_bias = mlp_bias});
  spec.prefixes.emplace_back("transformer.");
  for (TensorRule& rule : spec.model_tensors) {
    if (rule.slot == Slot::kTokenEmbedding) rule.other_names = {"wte.weight"};
    if (rule.slot == Slot::kFinalNormWeight) rule.other_names = {"ln_f.weight"};
  }
  // The bare model is saved with Llama's name of the blocks and the published ones within them.
  for (const char* blocks : {"layers.", "h."}) {
    add_other_names(spec, {{"layers.", blocks},
                           {"self_attn.o_proj", "attn.attention.out_proj"},
                           {"self_attn.", "attn.attention."},
                           {"input_layernorm", "ln_1"},
                           {"post_attention_layernorm", "ln_2"},
                           {"mlp.gate_proj", "mlp.c_fc_0"},
                           {"mlp.up_proj", "mlp.c_fc_1"},
                           {"mlp.down_proj", "mlp.c_proj"}});
  }
  return spec;
}

ArchSpec read_helium(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  const bool mlp_bias = read_flag(config, "mlp_bias", false);
  return read_llama_like(config, {.max_positions = 4096,
                                  .kv_heads = 20,
                                  .head_size = 128,
                                  .epsilon = 1e-8,
                                  .rope = {.class_theta = 1e5, .interleaved = true},
                                  .qkv_bias = bias,
                                  .mlp_bias = mlp_bias});
}

ArchSpec read_internlm3(const util::JsonView& config) {
  const util::Json whole = with_class_defaults(
      {with_own_names(config, {{"attention_bias", "qkv_bias"}, {"mlp_bias", "bias"}}), config.where()},
      {{"head_dim", 128}});
  const util::JsonView renamed(whole, config.where());
  const bool bias = read_flag(renamed, "attention_bias", false);
  const bool mlp_bias = read_flag(renamed, "mlp_bias", false);
  if (bias != mlp_bias) {
    throw util::format_error(
        {.what = "qkv_bias (attention_bias) and bias (mlp_bias) of the model differ",
         .where = config.where(),
         .expected = "both or neither, as transformers does",
         .found = bias ? "biases of queries, keys and values alone" : "biases of the MLP alone",
         .hint = "the published code has the former of queries, keys and values only, transformers also of "
                 "what goes out of attention"});
  }
  return read_llama_like(renamed, {.max_positions = 32768,
                                   .kv_heads = 2,
                                   .epsilon = 1e-5,
                                   .qkv_bias = bias,
                                   .attention_out_bias = bias,
                                   .mlp_bias = mlp_bias});
}

ArchSpec read_iquestcoder(const util::JsonView& config) {
  require_value(config, "use_sliding_window", false);
  const bool bias = read_flag(config, "attention_bias", false);
  const bool mlp_bias = read_flag(config, "mlp_bias", false);
  const util::Json whole = with_class_defaults(config, {{"head_dim", 128}});
  return read_llama_like({whole, config.where()}, {.max_positions = 131072,
                                                   .kv_heads = 8,
                                                   .epsilon = 1e-5,
                                                   .qkv_bias = bias,
                                                   .attention_out_bias = bias,
                                                   .mlp_bias = mlp_bias});
}

ArchSpec read_seed_oss(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", true);
  const bool out_bias = read_flag(config, "attention_out_bias", false);
  const bool mlp_bias = read_flag(config, "mlp_bias", false);
  const util::Json whole = with_class_defaults(config, {{"head_dim", 128}});
  return read_llama_like({whole, config.where()}, {.max_positions = 524288,
                                                   .kv_heads = 8,
                                                   .qkv_bias = bias,
                                                   .attention_out_bias = out_bias,
                                                   .mlp_bias = mlp_bias});
}

}  // namespace depthlens::model
