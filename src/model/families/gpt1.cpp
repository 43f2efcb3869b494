// GPT (1): learned positions and norms behind the sums, so that a block's output is normed and there is no
// last norm; matrices stored as GPT-2's. Odd: "gelu" in its config means the tanh form.
#include <map>

#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

Activation read_afn(const util::JsonView& config) {
  static const std::map<std::string, Activation> known = {{"gelu", Activation::kGeluTanh},
                                                          {"relu", Activation::kRelu},
                                                          {"silu", Activation::kSilu},
                                                          {"swish", Activation::kSilu}};
  const auto value = find_key(config, "afn");
  const std::string name = value ? value->as_string() : "gelu";
  for (const std::string other : {"hidden_act", "hidden_activation", "activation_function"})
    tell_unused(config, other, name, util::cat("the activation is afn, ", name));
  const auto found = known.find(name);
  if (found == known.end()) value->fail("gelu, relu, silu or swish");
  return found->second;
}

}  // namespace

ArchSpec read_gpt1(const util::JsonView& config) {
  ArchSpec spec = read_stack_with_heads(config, {.layers = {"n_layer", "num_hidden_layers"},
                                                 .hidden = {"n_embd", "hidden_size"},
                                                 .heads = {"n_head", "num_attention_heads"}});
  spec.mlp_size = 4 * spec.hidden_size;
  spec.max_positions = read_size(config, name_of_size(config, "n_positions", "max_position_embeddings"), 512);
  spec.norm_place = NormPlace::kOfSum;
  spec.final_norm = false;
  spec.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  spec.activation = read_afn(config);
  spec.tied_unembedding = read_flag(config, "tie_word_embeddings", true);

  const std::int64_t d = spec.hidden_size, V = spec.vocab_size;
  spec.prefixes = {"transformer."};
  spec.model_tensors = {
      {Slot::kTokenEmbedding, "tokens_embed.weight", {V, d}},
      {Slot::kPositionEmbedding, "positions_embed.weight", {spec.max_positions, d}},
      {Slot::kUnembedding, "lm_head.weight", {V, d}},
  };
  add_gpt2_block(spec, /*transposed=*/true);
  add_gpt2_projections(spec);
  spec.ignorable.emplace_back("position_ids");
  return spec;
}

}  // namespace depthlens::model
