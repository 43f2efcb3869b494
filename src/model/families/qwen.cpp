// Qwen 2 and 2.5 (biases on queries, keys and values), Qwen 3 (norms on queries and keys of each head), both
// with experts, and the language models of those that see. Those turn parts of a head by three coordinates of
// what is seen, which are one and the same for text: its position. Qwen 3.5 has a file of its own. Odd: the
// blocks from `max_window_layers` on, or those that `layer_types` names, can have sliding attention windows;
// with experts the rules are others.
#include <algorithm>
#include <vector>

#include "family.hpp"

namespace depthlens::model {
namespace {

constexpr std::int64_t kClassWindow = 4096;

bool uses_windows(const util::JsonView& config) {
  return read_flag(config, "use_sliding_window", false);
}

/// The window that `use_sliding_window` switches on.
std::optional<std::int64_t> window_in_use(const util::JsonView& config) {
  return uses_windows(config) ? read_window(config, kClassWindow) : std::nullopt;
}

ArchSpec with_sliding_windows(ArchSpec spec, const util::JsonView& config) {
  const auto window = window_in_use(config);
  const std::int64_t first =
      std::min(read_size(config, "max_window_layers", 28, /*lowest=*/0), spec.num_layers);
  std::vector<bool> by_number(static_cast<std::size_t>(spec.num_layers), false);
  if (window) std::fill(by_number.begin() + first, by_number.end(), true);
  const std::vector<bool> slides = sliding_blocks(
      config, spec.num_layers, [&](std::int64_t i) { return by_number[static_cast<std::size_t>(i)]; });
  if (slides != by_number)
    tell_unused(config, "max_window_layers", nullptr, "layer_types says which blocks have windows");
  set_windows(spec, config, slides, kClassWindow, uses_windows(config));
  return spec;
}

}  // namespace

void read_qwen_experts(ArchSpec& spec, const util::JsonView& config, const ExpertSpec& class_defaults) {
  const std::string count = name_of_size(config, "num_experts", "num_local_experts");
  spec.experts = {.count = read_size(config, count, class_defaults.count),
                  .chosen = read_size(config, "num_experts_per_tok", class_defaults.chosen),
                  .mlp_size = read_size(config, "moe_intermediate_size", class_defaults.mlp_size),
                  .weighting = read_softmax_weighting(config, class_defaults.weighting)};
  check_experts(config, spec);
  const std::int64_t step = read_size(config, "decoder_sparse_step", 1);
  const auto dense = read_listed_blocks(config, "mlp_only_layers", spec.num_layers);
  for (std::int64_t i = 0; i < spec.num_layers; ++i) {
    const auto place = static_cast<std::size_t>(i);
    spec.blocks[place].experts = (i + 1) % step == 0 && !(dense && (*dense)[place]);
  }
  add_gated_mlp(spec, {.blocks = {.experts = false}});
}

ArchSpec read_qwen2(const util::JsonView& config) {
  return with_sliding_windows(
      read_llama_like(config, {.max_positions = 32768, .kv_heads = 32, .qkv_bias = true}), config);
}

ArchSpec read_qwen3(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  return with_sliding_windows(read_llama_like(config, {.max_positions = 32768,
                                                       .kv_heads = 32,
                                                       .head_size = 128,
                                                       .qkv_bias = bias,
                                                       .attention_out_bias = bias,
                                                       .query_key_norm = true}),
                              config);
}

// Of Qwen 2 VL and 2.5 VL. Odd: "mrope" as rotary scaling means none.
ArchSpec read_qwen2_vl(const util::JsonView& config) {
  util::Json whole = with_class_defaults(config, {{"vocab_size", 152064},
                                                  {"hidden_size", 8192},
                                                  {"intermediate_size", 29568},
                                                  {"num_hidden_layers", 80},
                                                  {"num_attention_heads", 64},
                                                  {"max_window_layers", 80}});
  for (const char* block : {"rope_scaling", "rope_parameters"}) {
    for (const char* key : {"type", "rope_type"}) {
      if (config.has(block) && config.at(block).is_object() &&
          config.at(block).raw().value(key, util::Json()) == "mrope")
        whole[block][key] = "default";
    }
  }
  const util::JsonView filled(whole, config.where());
  return with_sliding_windows(
      read_llama_like(filled, {.max_positions = 32768,
                               .kv_heads = 8,
                               .epsilon = 1e-5,
                               .rope = {.class_theta = 1e6, .others = {"mrope_section"}},
                               .qkv_bias = true}),
      filled);
}

// Of Qwen 2.5 Omni.
ArchSpec read_qwen2_5_omni(const util::JsonView& config) {
  const util::Json whole = with_class_defaults(config, {{"vocab_size", 152064},
                                                        {"hidden_size", 3584},
                                                        {"intermediate_size", 18944},
                                                        {"num_hidden_layers", 28},
                                                        {"num_attention_heads", 28},
                                                        {"sliding_window", 32768}});
  const util::JsonView filled(whole, config.where());
  return with_sliding_windows(
      read_llama_like(filled, {.max_positions = 32768,
                               .kv_heads = 4,
                               .tied_unembedding = true,
                               .rope = {.class_theta = 1e6, .others = {"mrope_section"}},
                               .qkv_bias = true}),
      filled);
}

// Of Qwen 3 VL, which has no windows.
ArchSpec read_qwen3_vl(const util::JsonView& config) {
  require_value(config, "use_sliding_window", false);
  const util::Json whole = with_class_defaults(config, {{"vocab_size", 151936},
                                                        {"hidden_size", 4096},
                                                        {"intermediate_size", 22016},
                                                        {"num_hidden_layers", 32},
                                                        {"num_attention_heads", 32}});
  const bool bias = read_flag(config, "attention_bias", false);
  return read_llama_like({whole, config.where()},
                         {.max_positions = 128000,
                          .kv_heads = 32,
                          .head_size = 128,
                          .rope = {.class_theta = 5e5, .others = {"mrope_section", "mrope_interleaved"}},
                          .qkv_bias = bias,
                          .attention_out_bias = bias,
                          .query_key_norm = true});
}

// Of Qwen 3 VL with experts, whose weights always add up to 1. Odd: those of all experts are one tensor,
// stored as [out, in] or as [in, out]; its shape says which.
ArchSpec read_qwen3_vl_moe(const util::JsonView& config) {
  require_value(config, "use_sliding_window", false);
  tell_unused(config, "norm_topk_prob", true, "the weights of experts always add up to 1");
  const util::Json whole = with_class_defaults(config, {{"vocab_size", 151936},
                                                        {"hidden_size", 2048},
                                                        {"intermediate_size", 5632},
                                                        {"num_hidden_layers", 24},
                                                        {"num_attention_heads", 16}});
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec =
      read_llama_like({whole, config.where()},
                      {.max_positions = 128000,
                       .kv_heads = 16,
                       .tied_unembedding = true,
                       .rope = {.class_theta = 5e5, .others = {"mrope_section", "mrope_interleaved"}},
                       .qkv_bias = bias,
                       .attention_out_bias = bias,
                       .query_key_norm = true,
                       .dense_mlp = false});
  read_qwen_experts(spec, config, {.count = 60, .chosen = 4, .mlp_size = 1408});
  spec.experts.weighting = ExpertSpec::Weighting::kShares;
  if (spec.hidden_size == spec.experts.mlp_size || spec.hidden_size == 2 * spec.experts.mlp_size)
    config.at("moe_intermediate_size")
        .fail("not the hidden size, nor half of it: the shape of experts could not tell how they are stored");
  add_router(spec, "mlp.gate");
  for (const TensorRule& rule : stacked_experts(spec)) spec.block_tensors.push_back(rule);
  spec.other_block_tensors = stacked_experts(spec, /*transposed=*/true);
  return spec;
}

// Of Qwen 3 Omni.
ArchSpec read_qwen3_omni(const util::JsonView& config) {
  const util::Json whole = with_class_defaults(config, {{"vocab_size", 3584},
                                                        {"hidden_size", 2048},
                                                        {"intermediate_size", 18944},
                                                        {"num_hidden_layers", 28},
                                                        {"num_attention_heads", 28}});
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(
      {whole, config.where()},
      {.max_positions = 32768,
       .kv_heads = 4,
       .rope = {.class_theta = 1e6, .others = {"mrope_section", "mrope_interleaved", "interleaved"}},
       .qkv_bias = bias,
       .attention_out_bias = bias,
       .query_key_norm = true,
       .dense_mlp = false});
  read_qwen_experts(
      spec, config,
      {.count = 128, .chosen = 8, .mlp_size = 768, .weighting = ExpertSpec::Weighting::kShares});
  add_experts(spec);
  return spec;
}

ArchSpec read_qwen2_moe(const util::JsonView& config) {
  const bool bias = read_flag(config, "qkv_bias", true);
  ArchSpec spec =
      read_llama_like(config, {.max_positions = 32768, .kv_heads = 16, .qkv_bias = bias, .dense_mlp = false});
  read_qwen_experts(spec, config, {.count = 60, .chosen = 4, .mlp_size = 1408});
  add_experts(spec);
  add_shared_expert(spec, "mlp.shared_expert", read_size(config, "shared_expert_intermediate_size", 5632),
                    /*weighed=*/true);
  // Every second block below `max_window_layers`.
  const bool used = uses_windows(config);
  const std::int64_t end = read_size(config, "max_window_layers", 28, /*lowest=*/0);
  set_windows(
      spec, config,
      sliding_blocks(config, spec.num_layers, [&](std::int64_t i) { return used && i % 2 == 0 && i < end; }),
      kClassWindow, used);
  return spec;
}

ArchSpec read_qwen3_moe(const util::JsonView& config) {
  const bool bias = read_flag(config, "attention_bias", false);
  ArchSpec spec = read_llama_like(config, {.max_positions = 32768,
                                           .kv_heads = 4,
                                           .qkv_bias = bias,
                                           .attention_out_bias = bias,
                                           .query_key_norm = true,
                                           .dense_mlp = false});
  read_qwen_experts(spec, config, {.count = 128, .chosen = 8, .mlp_size = 768});
  add_experts(spec);
  set_one_window(spec, window_in_use(config));
  return spec;
}

}  // namespace depthlens::model
