// Nemotron-H (Nano 2, 3; Super): each block is one of a state space, attention without positions, a plain MLP
// with the square of ReLU, and experts beside a shared one, which may read a narrower vector. Odd: steps are
// clamped from below to `time_step_min`, and by nothing else; the unembedding is never the embedding.
#include <map>
#include <utility>

#include "depthlens/util/text.hpp"
#include "family.hpp"

namespace depthlens::model {
namespace {

const std::string kAttends = "full_attention", kHasState = "linear_attention", kExperts = "moe", kMlp = "mlp";

/// The kind of each block: by a list, by a letter for each, or the class's four.
std::vector<std::string> read_kinds(const util::JsonView& config) {
  const std::string key = name_of_size(config, "layers_block_type", "layer_types");
  if (config.has(key)) {
    const util::JsonView given = config.at(key);
    if (!given.is_array() || given.size() == 0) given.fail("an array of kinds of blocks");
    return *read_kinds_of_blocks(config, key, static_cast<std::int64_t>(given.size()),
                                 {kHasState, kExperts, kAttends, kMlp});
  }
  if (!config.raw().contains("hybrid_override_pattern")) return {kHasState, kExperts, kAttends, kMlp};
  static const std::map<char, std::string> kinds = {
      {'M', kHasState}, {'E', kExperts}, {'*', kAttends}, {'-', kMlp}};
  const util::JsonView pattern = config.at("hybrid_override_pattern");
  std::vector<std::string> found;
  for (const char letter : pattern.as_string()) {
    const auto kind = kinds.find(letter);
    if (kind == kinds.end()) pattern.fail("letters M, E, * and -, one a block");
    found.push_back(kind->second);
  }
  if (found.empty()) pattern.fail("letters M, E, * and -, one a block");
  return found;
}

/// The other name of a setting, where the config has it.
std::string name_of(const util::JsonView& config, const std::string& own, const std::string& other) {
  return config.raw().contains(other) ? other : own;
}

void add_nemotron_mlp(ArchSpec& spec, bool bias) {
  const std::int64_t d = spec.hidden_size, m = spec.mlp_size;
  const auto add = [&](Slot slot, const char* name, std::vector<std::int64_t> shape) {
    spec.block_tensors.push_back({.slot = slot,
                                  .name = std::string("layers.{i}.mixer.") + name,
                                  .shape = std::move(shape),
                                  .blocks = {.experts = false, .mixer = Mixer::kNone}});
  };
  add(Slot::kMlpUpWeight, "up_proj.weight", {m, d});
  add(Slot::kMlpDownWeight, "down_proj.weight", {d, m});
  if (!bias) return;
  add(Slot::kMlpUpBias, "up_proj.bias", {m});
  add(Slot::kMlpDownBias, "down_proj.bias", {d});
}

void add_experts_of_blocks(ArchSpec& spec, const util::JsonView& config) {
  ExpertSpec& experts = spec.experts;
  experts = read_logistic_experts(config, {.count = 8, .chosen = 2, .mlp_size = 7688});
  experts.shared_mlp_size = read_size(config, "moe_shared_expert_intermediate_size", 7688);
  experts.latent_size = read_optional_size(config, "moe_latent_size", {}).value_or(0);
  check_experts(config, spec);
  require_value(config, "mlp_bias", false);  // of shared experts
  tell_unused(config, "n_shared_experts", 1, "the shared expert is of moe_shared_expert_intermediate_size");
  const std::int64_t d = spec.hidden_size, m = experts.mlp_size, E = experts.count;
  const std::int64_t in = experts.latent_size > 0 ? experts.latent_size : d;
  const auto rule = [](Slot slot, const std::string& name, std::vector<std::int64_t> shape) {
    return TensorRule{.slot = slot,
                      .name = "layers.{i}.mixer." + name,
                      .shape = std::move(shape),
                      .blocks = {.experts = true}};
  };
  add_router(spec, "mixer.gate", "mixer.gate.e_score_correction_bias");
  for (const TensorRule& added :
       {rule(Slot::kSharedUpWeight, "shared_experts.up_proj.weight", {experts.shared_mlp_size, d}),
        rule(Slot::kSharedDownWeight, "shared_experts.down_proj.weight", {d, experts.shared_mlp_size}),
        rule(Slot::kExpertUpWeight, "experts.{n}.up_proj.weight", {m, in}),
        rule(Slot::kExpertDownWeight, "experts.{n}.down_proj.weight", {in, m})})
    spec.block_tensors.push_back(added);
  if (experts.latent_size > 0) {
    spec.block_tensors.push_back(rule(Slot::kExpertsInWeight, "fc1_latent_proj.weight", {in, d}));
    spec.block_tensors.push_back(rule(Slot::kExpertsOutWeight, "fc2_latent_proj.weight", {d, in}));
  }
  for (TensorRule stacked : {rule(Slot::kExpertUpWeight, "experts.up_proj", {E, m, in}),
                             rule(Slot::kExpertDownWeight, "experts.down_proj", {E, in, m})}) {
    stacked.of_all_experts = true;
    spec.other_block_tensors.push_back(std::move(stacked));
  }
}

void read_nemotron_state_space(ArchSpec& spec, const util::JsonView& config) {
  StateSpaceSpec& space = spec.state_space;
  space.heads = read_size(config, "mamba_num_heads", 128);
  space.head_size = read_size(config, "mamba_head_dim", 64);
  space.groups = read_size(config, name_of(config, "n_groups", "mamba_n_groups"), 8);
  space.state_size = read_size(config, "ssm_state_size", 128);
  space.kernel = read_size(config, name_of(config, "conv_kernel", "mamba_d_conv"), 4);
  const std::string least = name_of(config, "time_step_min", "mamba_dt_min");
  space.least_step = read_number(config, least, 0.001);
  if (!(space.least_step >= 0)) config.at(least).fail("a number that is not negative");
  for (const char* key : {"time_step_limit", "mamba_dt_limit"}) {
    tell_unused(config, key, util::Json::array({0.0, {{"__float__", "Infinity"}}}),
                util::cat("steps are clamped to time_step_min, ", space.least_step, ", or more"));
  }
  const util::Json act = {{"hidden_act", config.get_string("mamba_hidden_act", "silu")}};
  space.activation = read_activation({act, config.where() + ": mamba_hidden_act"}, "hidden_act", "silu");
  check_state_space(config, space, space.values());
  tell_unused(config, "mamba_proj_bias", false, "use_bias says whether projections have biases");
  const bool bias = read_flag(config, "use_bias", false);
  const bool of_convolution = read_flag(config, name_of(config, "use_conv_bias", "mamba_conv_bias"), true);
  add_state_space(spec, "mixer", Mixer::kStateSpace,
                  {.in = bias, .convolution = of_convolution, .out = bias});
}

}  // namespace

ArchSpec read_nemotron_h(const util::JsonView& config) {
  const std::vector<std::string> kinds = read_kinds(config);
  const auto num_layers = static_cast<std::int64_t>(kinds.size());
  tell_unused(config, "num_hidden_layers", num_layers,
              util::cat("the kinds of ", num_layers, " blocks are given"));
  util::Json whole = config.raw();
  whole["num_hidden_layers"] = num_layers;
  ArchSpec spec = read_llama_like({whole, config.where()}, {.max_positions = 4096,
                                                            .kv_heads = 8,
                                                            .head_size = 128,
                                                            .epsilon_key = "layer_norm_epsilon",
                                                            .epsilon = 1e-5,
                                                            .norms = {},
                                                            .final_norm_weight = false,
                                                            .activation_key = "mlp_hidden_act",
                                                            .activation = "relu2",
                                                            .own_rope = true,
                                                            .attention = false,
                                                            .dense_mlp = false});
  const std::int64_t d = spec.hidden_size, V = spec.vocab_size;
  spec.gated_mlp = false;
  spec.tied_unembedding = false;
  tell_unused(config, "tie_word_embeddings", false, "the class has no ties");
  tell_unused(config, "attention_bias", false, "projections of attention have no biases");
  spec.prefixes = {"backbone.", "model."};
  spec.model_tensors = {{Slot::kTokenEmbedding, "embeddings.weight", {V, d}},
                        {Slot::kUnembedding, "lm_head.weight", {V, d}},
                        {Slot::kFinalNormWeight, "norm_f.weight", {d}}};
  bool experts = false;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const bool mixes = kinds[i] == kAttends || kinds[i] == kHasState;
    spec.blocks[i] = {.experts = kinds[i] == kExperts,
                      .mixer = kinds[i] == kAttends    ? Mixer::kAttention
                               : kinds[i] == kHasState ? Mixer::kStateSpace
                                                       : Mixer::kNone,
                      .feed_forward = !mixes};
    experts = experts || spec.blocks[i].experts;
  }
  for (const auto& [slot, mixer] : {std::pair{Slot::kAttentionNormWeight, Mixer::kAttention},
                                    std::pair{Slot::kAttentionNormWeight, Mixer::kStateSpace},
                                    std::pair{Slot::kMlpNormWeight, Mixer::kNone}}) {
    spec.block_tensors.push_back(
        {.slot = slot, .name = "layers.{i}.norm.weight", .shape = {d}, .blocks = {.mixer = mixer}});
  }
  add_attention(spec, {.stem = "mixer", .mixer = Mixer::kAttention});
  add_nemotron_mlp(spec, read_flag(config, "mlp_bias", false));
  if (experts) add_experts_of_blocks(spec, config);
  read_nemotron_state_space(spec, config);
  spec.ignorable = {"mtp.*"};
  return spec;
}

}  // namespace depthlens::model
