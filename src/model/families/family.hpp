// What the family files share: reading of common config keys, and rules for common shapes.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// A family: the architectures it serves and the function that reads their config. `reads` are settings that
/// it implements and that are refused elsewhere (see `neutral_values` in family.cpp).
struct Family {
  std::vector<std::string> architectures;
  std::string model_type;
  ArchSpec (*read)(const util::JsonView& config);
  std::vector<std::string> reads = {};
};

const std::vector<Family>& families();

ArchSpec read_apertus(const util::JsonView& config);
ArchSpec read_arcee(const util::JsonView& config);
ArchSpec read_bloom(const util::JsonView& config);
ArchSpec read_codegen(const util::JsonView& config);
ArchSpec read_bamba(const util::JsonView& config);
ArchSpec read_cohere(const util::JsonView& config);
ArchSpec read_cohere2(const util::JsonView& config);
ArchSpec read_deepseek_v2(const util::JsonView& config);
ArchSpec read_deepseek_v3(const util::JsonView& config);
ArchSpec read_dots1(const util::JsonView& config);
ArchSpec read_ernie4_5(const util::JsonView& config);
ArchSpec read_ernie4_5_moe(const util::JsonView& config);
ArchSpec read_exaone4(const util::JsonView& config);
ArchSpec read_falcon(const util::JsonView& config);
ArchSpec read_falcon_h1(const util::JsonView& config);
ArchSpec read_falcon_mamba(const util::JsonView& config);
ArchSpec read_gemma(const util::JsonView& config);
ArchSpec read_gemma2(const util::JsonView& config);
ArchSpec read_gemma3(const util::JsonView& config);
ArchSpec read_gemma4(const util::JsonView& config);
ArchSpec read_gemma4_unified(const util::JsonView& config);
ArchSpec read_glm(const util::JsonView& config);
ArchSpec read_glm4(const util::JsonView& config);
ArchSpec read_glm4_moe(const util::JsonView& config);
ArchSpec read_glm4_moe_lite(const util::JsonView& config);
ArchSpec read_gpt2(const util::JsonView& config);
ArchSpec read_gpt_bigcode(const util::JsonView& config);
ArchSpec read_gpt_neo(const util::JsonView& config);
ArchSpec read_gpt_neox(const util::JsonView& config);
ArchSpec read_gpt_oss(const util::JsonView& config);
ArchSpec read_gptj(const util::JsonView& config);
ArchSpec read_granite(const util::JsonView& config);
ArchSpec read_granite_moe(const util::JsonView& config);
ArchSpec read_granite_moe_hybrid(const util::JsonView& config);
ArchSpec read_granite_moe_shared(const util::JsonView& config);
ArchSpec read_helium(const util::JsonView& config);
ArchSpec read_hunyuan_dense(const util::JsonView& config);
ArchSpec read_hunyuan_moe(const util::JsonView& config);
ArchSpec read_lfm2(const util::JsonView& config);
ArchSpec read_lfm2_moe(const util::JsonView& config);
ArchSpec read_llama(const util::JsonView& config);
ArchSpec read_llama4(const util::JsonView& config);
ArchSpec read_mamba(const util::JsonView& config);
ArchSpec read_mamba2(const util::JsonView& config);
ArchSpec read_minimax_m2(const util::JsonView& config);
ArchSpec read_ministral(const util::JsonView& config);
ArchSpec read_ministral3(const util::JsonView& config);
ArchSpec read_mistral(const util::JsonView& config);
ArchSpec read_mixtral(const util::JsonView& config);
ArchSpec read_mpt(const util::JsonView& config);
ArchSpec read_nemotron(const util::JsonView& config);
ArchSpec read_nemotron_h(const util::JsonView& config);
ArchSpec read_olmo(const util::JsonView& config);
ArchSpec read_olmo2(const util::JsonView& config);
ArchSpec read_olmo3(const util::JsonView& config);
ArchSpec read_olmoe(const util::JsonView& config);
ArchSpec read_opt(const util::JsonView& config);
ArchSpec read_phi(const util::JsonView& config);
ArchSpec read_phi3(const util::JsonView& config);
ArchSpec read_phimoe(const util::JsonView& config);
ArchSpec read_qwen2(const util::JsonView& config);
ArchSpec read_qwen2_vl(const util::JsonView& config);
ArchSpec read_qwen2_moe(const util::JsonView& config);
ArchSpec read_qwen3(const util::JsonView& config);
ArchSpec read_qwen3_vl(const util::JsonView& config);
ArchSpec read_qwen3_vl_moe(const util::JsonView& config);
ArchSpec read_qwen3_moe(const util::JsonView& config);
ArchSpec read_qwen3_5(const util::JsonView& config);
ArchSpec read_qwen3_5_moe(const util::JsonView& config);
ArchSpec read_qwen3_next(const util::JsonView& config);
ArchSpec read_seed_oss(const util::JsonView& config);
ArchSpec read_smollm3(const util::JsonView& config);
ArchSpec read_stablelm(const util::JsonView& config);
ArchSpec read_starcoder2(const util::JsonView& config);
ArchSpec read_vaultgemma(const util::JsonView& config);

// Settings are read as transformers 5 reads them: a key that is absent has the default of the family's class,
// and null is not absent. What must be in the config has no default here.

/// A config with the class's value for each key that it leaves out. Read it with the config's own `where`.
util::Json with_class_defaults(const util::JsonView& config, const util::Json& defaults);

/// Whether there is a block of that name, and anything in it.
bool has_settings(const util::JsonView& config, const std::string& key);

/// A config with the class's rotary settings where it has none.
util::Json with_rope_parameters(const util::JsonView& config, const util::Json& defaults);

/// The longest window of a model that has no positions, and no limit.
inline constexpr std::int64_t kAnyLength = std::int64_t{1} << 24;

/// A size of the model: an integer from 1 to 2^24.
std::int64_t read_size(const util::JsonView& config, const std::string& key);
std::int64_t read_size(const util::JsonView& config, const std::string& key, std::int64_t class_default,
                       std::int64_t lowest = 1);

/// A size for which null means none.
std::optional<std::int64_t> read_optional_size(const util::JsonView& config, const std::string& key,
                                               std::optional<std::int64_t> class_default);

/// A size under a family's own name or the one that other families have, which transformers takes just as
/// well: the name that the config has. Throws where it has both with different values.
std::string name_of_size(const util::JsonView& config, const std::string& own, const std::string& common);

double read_number(const util::JsonView& config, const std::string& key, double class_default);

/// A number for which null means none, and which is positive otherwise.
std::optional<double> read_optional_number(const util::JsonView& config, const std::string& key,
                                           std::optional<double> class_default);

/// A boolean; null is false, as None is in Python.
bool read_flag(const util::JsonView& config, const std::string& key, bool class_default);

/// The epsilon of the norms. Warns of one under another family's name.
double read_epsilon(const util::JsonView& config, const std::string& key, double class_default);

/// The activation named by `key`. Throws for one that is not known.
Activation read_activation(const util::JsonView& config, const std::string& key,
                           const std::string& class_default);

/// How a family names its rotary settings outside of their block, and what holds without any.
struct RopeKeys {
  std::string theta = "rope_theta";
  double class_theta = 10000;
  std::string share = "partial_rotary_factor";  ///< part of the head that is rotated; "": always all of it
  double class_share = 1;
  std::optional<double> null_share = 1;  ///< what null beside the block means; nothing: it is refused
  /// What a class has for `original_max_position_embeddings` beside the block, which beats the one in it.
  std::optional<std::int64_t> original_max_positions = {};
  /// Settings in the block that the family itself reads.
  std::vector<std::string> others = {};
  bool interleaved = false;  ///< pairs are of neighbours
};

/// Rotary settings in either spelling: `rope_parameters` {rope_type, rope_theta, …}, or `rope_scaling` {type
/// | rope_type, …} with the base beside it. `spec` has the sizes. Throws for a scaling that is not known, for
/// a setting that the scaling does not use, and for two blocks that differ.
RopeSpec read_rope(const util::JsonView& config, const ArchSpec& spec, const RopeKeys& keys = {});

/// What scores are multiplied by where YaRN's `mscale_all_dim` is given; `rope` is what the config's settings
/// were read as.
double yarn_growth_of_scores(const util::JsonView& config, const RopeSpec& rope);

/// The same of one block of settings, or of none.
RopeSpec read_rope_block(const util::JsonView& config, const std::optional<util::JsonView>& block,
                         const ArchSpec& spec, const RopeKeys& keys);

/// Gives all blocks this rotary embedding, or none where it rotates nothing.
void set_rope(ArchSpec& spec, const RopeSpec& rope);

/// For families whose sliding blocks have rotary settings of their own: nested in `rope_parameters`, or in
/// the older spelling, where `rope_scaling` is that of the full blocks. A key's `theta` may be empty: always
/// the class's; heads are rotated whole.
void set_ropes_by_kind(ArchSpec& spec, const util::JsonView& config, const std::vector<bool>& slides,
                       const RopeKeys& full, const RopeKeys& sliding);

/// The kind of each block, by a list of these kinds; nothing where the config has none. Kinds that
/// transformers 5 has other names for ("attention", "mamba") are read as those. Throws for further kinds.
std::optional<std::vector<std::string>> read_kinds_of_blocks(const util::JsonView& config,
                                                             const std::string& key, std::int64_t num_layers,
                                                             const std::vector<std::string>& kinds);

/// The same of two kinds: of each block, whether it is of the `other`.
std::optional<std::vector<bool>> read_kinds_of_blocks(const util::JsonView& config, const std::string& key,
                                                      std::int64_t num_layers, const std::string& one,
                                                      const std::string& other);

/// Of each block, whether its number is in a list; nothing where the config has none. Throws for a number
/// that no block has.
std::optional<std::vector<bool>> read_listed_blocks(const util::JsonView& config, const std::string& key,
                                                    std::int64_t num_layers);

/// Of each block, whether its attention slides: by `layer_types`, or by the rule of the class. Throws for
/// other kinds of attention.
std::vector<bool> sliding_blocks(const util::JsonView& config, std::int64_t num_layers,
                                 const std::function<bool(std::int64_t)>& class_rule);

/// The window of attention, `sliding_window`; null means none. Throws for one that is not positive: it would
/// let no position see anything, and transformers' kinds of attention make different numbers of that.
std::optional<std::int64_t> read_window(const util::JsonView& config,
                                        std::optional<std::int64_t> class_default);

/// Gives the blocks that slide their window, which is read only where some block does. Throws where they have
/// none: `sliding_window` is null, or the config says that windows are not `in_use`.
void set_windows(ArchSpec& spec, const util::JsonView& config, const std::vector<bool>& slides,
                 std::optional<std::int64_t> class_default, bool in_use = true);

/// Warns of a key that transformers does not read in this family, where it says something else than `used`.
void tell_unused(const util::JsonView& config, const std::string& key, const util::Json& used,
                 const std::string& reason);

/// Throws unless `key` is absent or `value`, or null where `value` is not true: other values change the
/// mathematics in ways that are not supported.
void require_value(const util::JsonView& config, const std::string& key, const util::Json& value);

/// The names of the sizes that all models have, a family's own first, then what transformers takes just as
/// well.
struct StackNames {
  std::array<std::string, 2> layers = {"num_hidden_layers", "num_hidden_layers"};
  std::array<std::string, 2> hidden = {"hidden_size", "hidden_size"};
  std::array<std::string, 2> heads = {"num_attention_heads", "num_attention_heads"};
};
/// A spec with these sizes and the vocabulary's, one key-value head for each head, and its blocks.
ArchSpec read_stack(const util::JsonView& config, const StackNames& names = {});

/// And the scale of scores that goes with it, 1 / sqrt(size).
void set_head_size(ArchSpec& spec, std::int64_t size);

/// The number of heads must divide the hidden size where the head size is not given.
std::int64_t head_size_of(const util::JsonView& config, const ArchSpec& spec, const std::string& heads_key);

/// What most families have in common: tensors named as Llama's, gated MLP, grouped queries. Fields are what
/// the config cannot say, with what most classes have.
struct LlamaLike {
  std::int64_t max_positions = 0;              ///< where the config does not say
  std::optional<std::int64_t> kv_heads = {};   ///< likewise; none: one for each head
  std::optional<std::int64_t> head_size = {};  ///< likewise, null is refused; none: hidden_size over heads
  bool tied_unembedding = false;               ///< likewise
  NormKind norm = NormKind::kRmsNorm;
  std::string epsilon_key = "rms_norm_eps";
  double epsilon = 1e-6;
  /// The norms of a block with a weight, as "layers.{i}.NAME.weight", and the model's last one.
  std::vector<std::pair<Slot, std::string>> norms = {{Slot::kAttentionNormWeight, "input_layernorm"},
                                                     {Slot::kMlpNormWeight, "post_attention_layernorm"}};
  bool final_norm_weight = true;
  bool norm_bias = false;
  bool norms_less_one = false;  ///< stored as w, used as 1 + w
  std::string activation_key = "hidden_act";
  std::string activation = "silu";
  RopeKeys rope = {};
  bool own_rope = false;        ///< rotary settings are read by the family itself
  bool partial_rotary = false;  ///< no: a head is rotated whole or the config is refused
  bool attention = true;        ///< no: all tensors of attention are the family's affair
  bool qkv = true;              ///< projections of their own; no: their tensors are the family's affair
  bool qkv_bias = false;
  bool attention_out_bias = false;
  bool mlp_bias = false;
  bool query_key_norm = false;  ///< of each head, q_norm and k_norm
  bool dense_mlp = true;        ///< likewise
};
ArchSpec read_llama_like(const util::JsonView& config, const LlamaLike& parts);

/// q_norm and k_norm over the whole projections (OLMo 2 and 3, OLMoE).
void add_norms_of_projections(ArchSpec& spec);

/// Throws where more experts are chosen than there are, or groups do not divide them.
void check_experts(const util::JsonView& config, const ArchSpec& spec);

/// The MLP "layers.{i}.mlp.{gate,up,down}_proj" of these blocks; of `mlp_size` where `size` is 0.
void add_gated_mlp(ArchSpec& spec, bool bias, const BlockFilter& blocks = {}, std::int64_t size = 0);

/// The MLP down(act(up x)) "layers.{i}.mlp.{UP,DOWN}" of all blocks, in place of a gated one.
struct PlainMlpNames {
  std::string up, down;
};
void add_plain_mlp(ArchSpec& spec, const PlainMlpNames& names, bool bias);

/// Experts with matrices of their own, "layers.{i}.STEM.{n}.NAME.weight" for gate, up and down, and the
/// router "layers.{i}.ROUTER.weight".
struct ExpertNames {
  std::string router = "mlp.gate", stem = "mlp.experts";
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
};
void add_experts(ArchSpec& spec, const ExpertNames& names = {});

/// The same in all blocks, by the names of Mixtral, "layers.{i}.block_sparse_moe.experts.{n}.w1.weight", ….
void add_experts_of_mixtral(ArchSpec& spec);

/// The MLP "layers.{i}.mlp.STEM.{gate,up,down}_proj" that all tokens see beside the experts.
void add_shared_expert(ArchSpec& spec, const std::string& stem, std::int64_t mlp_size);

/// The same where a checkpoint has those of all experts in one tensor, "layers.{i}.STEM.gate_up_proj" with
/// the rows of gate before those of up, and "….down_proj". Matrices are stored as [out, in], or `transposed`.
std::vector<TensorRule> stacked_experts(const ArchSpec& spec, bool transposed = false,
                                        const std::string& stem = "mlp.experts");

/// Which blocks of a Qwen have experts, and those: all but `mlp_only_layers`, every `decoder_sparse_step`th.
void add_qwen_experts(ArchSpec& spec, const util::JsonView& config, const ExpertSpec& class_defaults);
/// Experts by logistic scores, a bias and groups, and a shared one (GLM 4.5, DeepSeek V3); what predicts
/// further tokens behind the last block may be in the checkpoint. `class_defaults` has what absent keys mean.
void add_logistic_experts(ArchSpec& spec, const util::JsonView& config, const ExpertSpec& class_defaults);

/// Granite's factors of the embedding, the scores, what is added to the stream, and the logits.
void set_granite_factors(ArchSpec& spec, const util::JsonView& config);

/// Its experts and their router, "layers.{i}.block_sparse_moe.…", and the MLP beside them,
/// "layers.{i}.shared_mlp.…", of which `mlp_size` 0 means none.
void add_granite_experts(ArchSpec& spec);
void add_granite_shared_expert(ArchSpec& spec, std::int64_t mlp_size);

/// Gives all blocks experts but the first ones.
void set_first_dense(ArchSpec& spec, std::int64_t first);

/// Softmax over all experts, shared out among those chosen where `norm_topk_prob` says so.
ExpertSpec::Weighting read_softmax_weighting(
    const util::JsonView& config, ExpertSpec::Weighting class_default = ExpertSpec::Weighting::kSoftmaxOfAll);

/// What a state space's steps are clamped to: two numbers under this key, or no limits where it is absent.
void read_step_limits(const util::JsonView& config, const std::string& key, StateSpaceSpec& space);

/// Throws where the heads do not make up so many values, or groups do not divide them.
void check_state_space(const util::JsonView& config, const StateSpaceSpec& space, std::int64_t values);

/// The state space "layers.{i}.STEM.{in_proj,conv1d,dt_bias,A_log,D,norm,out_proj}" of blocks with this
/// mixer; `spec.state_space` has its sizes.
struct StateSpaceBiases {
  bool in = false, convolution = true, out = false;
};
void add_state_space(ArchSpec& spec, const std::string& stem, Mixer mixer, const StateSpaceBiases& biases);

/// The same window for all blocks, where there is one.
void set_one_window(ArchSpec& spec, std::optional<std::int64_t> window);

/// A matrix with its bias, STEM.weight and STEM.bias (or a norm's two vectors).
void add_linear(ArchSpec& spec, const std::string& stem, Slot weight, Slot bias,
                std::vector<std::int64_t> shape, bool with_bias);

/// One stored tensor whose rows, as they are used, are those of several slots in turn.
void add_rows_of(ArchSpec& spec, const TensorRule& whole,
                 const std::vector<std::pair<Slot, std::int64_t>>& parts);

}  // namespace depthlens::model
