// GPT-J: parallel residual through one norm, rotary positions of interleaved pairs on a part of each head, an
// unembedding with a bias. CodeGen: the same with a fused projection. Odd: its rows are four parts, one
// behind the other, each with the queries, values and keys of a quarter of the heads.
#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {

namespace {

/// All but the projections of queries, keys and values.
ArchSpec read_like_gptj(const util::JsonView& config) {
  ArchSpec spec = read_stack_with_heads(config, {.layers = {"n_layer", "num_hidden_layers"},
                                                 .hidden = {"n_embd", "hidden_size"},
                                                 .heads = {"n_head", "num_attention_heads"}});
  spec.mlp_size = read_optional_size(config, "n_inner", {}).value_or(4 * spec.hidden_size);
  spec.max_positions =
      read_size(config, name_of_size(config, "n_positions", "max_position_embeddings"), 2048);
  spec.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  spec.parallel_residual = spec.shared_norm = true;
  RopeSpec rope{.dims = read_size(config, "rotary_dim", 64), .interleaved = true};
  if (rope.dims > spec.head_size || rope.dims % 2 != 0)
    config.at("rotary_dim").fail(util::cat("an even number, at most the head size, ", spec.head_size));
  set_rope(spec, rope);
  spec.activation = read_activation(config, "activation_function", "gelu_new");
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", false);

  const std::int64_t d = spec.hidden_size, m = spec.mlp_size, V = spec.vocab_size;
  spec.prefixes = {"transformer."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "wte.weight", {V, d}}, {Slot::kFinalNormWeight, "ln_f.weight", {d}},
      {Slot::kFinalNormBias, "ln_f.bias", {d}},      {Slot::kUnembedding, "lm_head.weight", {V, d}},
      {Slot::kUnembeddingBias, "lm_head.bias", {V}},
  };
  spec.block_tensors = {
      {Slot::kAttentionNormWeight, "h.{i}.ln_1.weight", {d}},
      {Slot::kAttentionNormBias, "h.{i}.ln_1.bias", {d}},
      {Slot::kAttentionOutWeight, "h.{i}.attn.out_proj.weight", {d, d}},
      {Slot::kMlpUpWeight, "h.{i}.mlp.fc_in.weight", {m, d}},
      {Slot::kMlpUpBias, "h.{i}.mlp.fc_in.bias", {m}},
      {Slot::kMlpDownWeight, "h.{i}.mlp.fc_out.weight", {d, m}},
      {Slot::kMlpDownBias, "h.{i}.mlp.fc_out.bias", {d}},
  };
  spec.ignorable = {"h.{i}.attn.bias", "h.{i}.attn.masked_bias", "h.{i}.attn.embed_positions"};
  return spec;
}

}  // namespace

ArchSpec read_gptj(const util::JsonView& config) {
  ArchSpec spec = read_like_gptj(config);
  const std::int64_t d = spec.hidden_size;
  spec.block_tensors.push_back({Slot::kQueryWeight, "h.{i}.attn.q_proj.weight", {d, d}});
  spec.block_tensors.push_back({Slot::kKeyWeight, "h.{i}.attn.k_proj.weight", {d, d}});
  spec.block_tensors.push_back({Slot::kValueWeight, "h.{i}.attn.v_proj.weight", {d, d}});
  return spec;
}

ArchSpec read_codegen(const util::JsonView& config) {
  ArchSpec spec = read_like_gptj(config);
  constexpr std::int64_t kParts = 4;
  const std::int64_t d = spec.hidden_size, part = d / kParts;
  if (d % kParts != 0)
    config.at(name_of_size(config, "n_embd", "hidden_size")).fail(util::cat("a multiple of ", kParts));
  const auto add = [&](Slot slot, std::int64_t first) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = "h.{i}.attn.qkv_proj.weight",
                                  .shape = {3 * d, d},
                                  .rows = {.first = first, .count = d, .step = 3 * part, .run = part}});
  };
  add(Slot::kQueryWeight, 0);
  add(Slot::kValueWeight, part);
  add(Slot::kKeyWeight, 2 * part);
  spec.ignorable.emplace_back("h.{i}.attn.causal_mask");
  return spec;
}

}  // namespace depthlens::model
