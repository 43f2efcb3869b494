// GPT-2: learned positions, layer norms, one fused projection. Odd: its linear maps are stored as [in, out]
// ("Conv1D"). GPT-BigCode (SantaCoder, StarCoder 1) stores them as usual, and its heads share one key and one
// value, or else have theirs beside their queries.
#include "family.hpp"

namespace depthlens::model {

void add_gpt2_block(ArchSpec& spec, bool transposed) {
  const std::int64_t d = spec.hidden_size, m = spec.mlp_size;
  const auto matrix = [&](Slot slot, const std::string& name, std::int64_t out, std::int64_t in) {
    return TensorRule{.slot = slot,
                      .name = "h.{i}." + name + ".weight",
                      .shape = transposed ? std::vector{in, out} : std::vector{out, in},
                      .transposed = transposed};
  };
  spec.block_tensors = {
      {Slot::kAttentionNormWeight, "h.{i}.ln_1.weight", {d}},
      {Slot::kAttentionNormBias, "h.{i}.ln_1.bias", {d}},
      matrix(Slot::kAttentionOutWeight, "attn.c_proj", d, d),
      {Slot::kAttentionOutBias, "h.{i}.attn.c_proj.bias", {d}},
      {Slot::kMlpNormWeight, "h.{i}.ln_2.weight", {d}},
      {Slot::kMlpNormBias, "h.{i}.ln_2.bias", {d}},
      matrix(Slot::kMlpUpWeight, "mlp.c_fc", m, d),
      {Slot::kMlpUpBias, "h.{i}.mlp.c_fc.bias", {m}},
      matrix(Slot::kMlpDownWeight, "mlp.c_proj", d, m),
      {Slot::kMlpDownBias, "h.{i}.mlp.c_proj.bias", {d}},
  };
  spec.ignorable = {"h.{i}.attn.bias", "h.{i}.attn.masked_bias"};
}

void add_gpt2_projections(ArchSpec& spec) {
  const std::int64_t d = spec.hidden_size;
  add_rows_of(spec,
              {.slot = Slot::kQueryWeight,
               .name = "h.{i}.attn.c_attn.weight",
               .shape = {d, 3 * d},
               .transposed = true},
              {{Slot::kQueryWeight, d}, {Slot::kKeyWeight, d}, {Slot::kValueWeight, d}});
  add_rows_of(spec, {.slot = Slot::kQueryBias, .name = "h.{i}.attn.c_attn.bias", .shape = {3 * d}},
              {{Slot::kQueryBias, d}, {Slot::kKeyBias, d}, {Slot::kValueBias, d}});
}

namespace {

/// All but the projections of queries, keys and values. `transposed` is how matrices are stored.
ArchSpec read_like_gpt2(const util::JsonView& config, bool transposed, const std::string& activation) {
  require_value(config, "scale_attn_weights", true);
  // What is said of float32 there changes only the precision in which transformers works.

  ArchSpec spec = read_stack_with_heads(config, {.layers = {"n_layer", "num_hidden_layers"},
                                                 .hidden = {"n_embd", "hidden_size"},
                                                 .heads = {"n_head", "num_attention_heads"}});
  spec.mlp_size = read_optional_size(config, "n_inner", {}).value_or(4 * spec.hidden_size);
  spec.max_positions =
      read_size(config, name_of_size(config, "n_positions", "max_position_embeddings"), 1024);
  spec.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  spec.activation = read_activation(config, "activation_function", activation);
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", true);

  const std::int64_t d = spec.hidden_size, V = spec.vocab_size;
  spec.prefixes = {"transformer."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "wte.weight", {V, d}},
      {Slot::kPositionEmbedding, "wpe.weight", {spec.max_positions, d}},
      {Slot::kFinalNormWeight, "ln_f.weight", {d}},
      {Slot::kFinalNormBias, "ln_f.bias", {d}},
      {Slot::kUnembedding, "lm_head.weight", {V, d}},
  };
  add_gpt2_block(spec, transposed);
  return spec;
}

}  // namespace

ArchSpec read_gpt2(const util::JsonView& config) {
  ArchSpec spec = read_like_gpt2(config, /*transposed=*/true, "gelu_new");
  if (read_flag(config, "scale_attn_by_inverse_layer_idx", false)) {
    for (std::size_t i = 0; i < spec.blocks.size(); ++i)
      spec.blocks[i].score_scale = 1 / static_cast<double>(i + 1);
  }
  add_gpt2_projections(spec);
  return spec;
}

ArchSpec read_gpt_bigcode(const util::JsonView& config) {
  ArchSpec spec = read_like_gpt2(config, /*transposed=*/false, "gelu_pytorch_tanh");
  if (read_flag(config, "multi_query", true)) spec.num_kv_heads = 1;
  const std::int64_t rows = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_size;
  add_linear(spec, "h.{i}.attn.c_attn", Slot::kQkvWeight, Slot::kQkvBias, {rows, spec.hidden_size},
             /*with_bias=*/true);
  return spec;
}

}  // namespace depthlens::model
