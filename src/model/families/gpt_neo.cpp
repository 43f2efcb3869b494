// GPT-Neo: GPT-2 with linear maps stored as [out, in] and a window in the blocks with "local" attention. Odd:
// scores are not divided by anything.
#include <utility>

#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

bool is_local(const util::JsonView& kind) {
  const std::string name = kind.as_string();
  if (name != "global" && name != "local") kind.fail("global or local");
  return name == "local";
}

/// The same list, one entry a block.
std::vector<bool> one_a_block(std::vector<bool> local, const util::JsonView& from, std::int64_t num_layers) {
  if (static_cast<std::int64_t>(local.size()) != num_layers)
    from.fail(util::cat("kinds of attention for ", num_layers, " blocks, not ", local.size()));
  return local;
}

/// Lists of kinds, each with how often it is repeated.
std::vector<bool> local_by_types(const util::JsonView& config, std::int64_t num_layers) {
  const util::Json class_types = {{{"global", "local"}, 12}};
  const util::JsonView types = config.has("attention_types")
                                   ? config.at("attention_types")
                                   : util::JsonView(class_types, config.where() + ": attention_types");
  std::vector<bool> local;
  for (std::size_t n = 0; n < types.size(); ++n) {
    const util::JsonView kinds = types.at(n).at(std::size_t{0});
    const std::int64_t times = types.at(n).at(std::size_t{1}).as_integer(0, num_layers);
    for (std::int64_t t = 0; t < times; ++t) {
      for (std::size_t k = 0; k < kinds.size(); ++k) local.push_back(is_local(kinds.at(k)));
    }
  }
  return one_a_block(std::move(local), types, num_layers);
}

/// Of each block, whether its attention is local. The kinds one by one beat the lists of them.
std::vector<bool> local_blocks(const util::JsonView& config, std::int64_t num_layers) {
  const std::vector<bool> by_types = local_by_types(config, num_layers);
  if (!config.has("attention_layers")) return by_types;
  const util::JsonView kinds = config.at("attention_layers");
  std::vector<bool> local;
  for (std::size_t k = 0; k < kinds.size(); ++k) local.push_back(is_local(kinds.at(k)));
  local = one_a_block(std::move(local), kinds, num_layers);
  if (local != by_types) {
    util::log_warning(
        util::cat(config.where(),
                  ": attention_types says other kinds of attention than attention_layers, and is "
                  "ignored, as transformers does"));
  }
  return local;
}

}  // namespace

ArchSpec read_gpt_neo(const util::JsonView& config) {
  ArchSpec spec = read_stack_with_heads(
      config, {.layers = {"num_layers", "num_hidden_layers"}, .heads = {"num_heads", "num_attention_heads"}});
  spec.attention.scale = 1;
  spec.mlp_size = read_optional_size(config, "intermediate_size", {}).value_or(4 * spec.hidden_size);
  spec.max_positions = read_size(config, "max_position_embeddings", 2048);
  spec.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  spec.activation = read_activation(config, "activation_function", "gelu_new");
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", true);
  const std::int64_t window = read_size(config, "window_size", 256);
  const std::vector<bool> local = local_blocks(config, spec.num_layers);
  for (std::size_t i = 0; i < local.size(); ++i) spec.blocks[i].window = local[i] ? window : 0;

  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size;
  spec.prefixes = {"transformer."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "wte.weight", {V, d}},
      {Slot::kPositionEmbedding, "wpe.weight", {spec.max_positions, d}},
      {Slot::kFinalNormWeight, "ln_f.weight", {d}},
      {Slot::kFinalNormBias, "ln_f.bias", {d}},
      {Slot::kUnembedding, "lm_head.weight", {V, d}},
  };
  spec.block_tensors = {
      {Slot::kAttentionNormWeight, "h.{i}.ln_1.weight", {d}},
      {Slot::kAttentionNormBias, "h.{i}.ln_1.bias", {d}},
      {Slot::kQueryWeight, "h.{i}.attn.attention.q_proj.weight", {d, d}},
      {Slot::kKeyWeight, "h.{i}.attn.attention.k_proj.weight", {d, d}},
      {Slot::kValueWeight, "h.{i}.attn.attention.v_proj.weight", {d, d}},
      {Slot::kAttentionOutWeight, "h.{i}.attn.attention.out_proj.weight", {d, d}},
      {Slot::kAttentionOutBias, "h.{i}.attn.attention.out_proj.bias", {d}},
      {Slot::kMlpNormWeight, "h.{i}.ln_2.weight", {d}},
      {Slot::kMlpNormBias, "h.{i}.ln_2.bias", {d}},
      {Slot::kMlpUpWeight, "h.{i}.mlp.c_fc.weight", {m, d}},
      {Slot::kMlpUpBias, "h.{i}.mlp.c_fc.bias", {m}},
      {Slot::kMlpDownWeight, "h.{i}.mlp.c_proj.weight", {d, m}},
      {Slot::kMlpDownBias, "h.{i}.mlp.c_proj.bias", {d}},
  };
  // Masks, those of local blocks with the window in them.
  spec.ignorable = {"h.{i}.attn.attention.bias", "h.{i}.attn.attention.masked_bias"};
  return spec;
}

}  // namespace depthlens::model
