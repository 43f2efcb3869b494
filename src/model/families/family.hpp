// The families, and what their files read configs and describe tensors with: a family's file includes this.
#pragma once

#include <string>
#include <vector>

#include "blocks.hpp"
#include "config_keys.hpp"
#include "depthlens/model/arch_spec.hpp"
#include "experts.hpp"
#include "llama_like.hpp"
#include "rope.hpp"
#include "rules.hpp"
#include "state_spaces.hpp"

namespace depthlens::model {

/// A family: the architectures it serves and the function that reads their config. `reads` are settings that
/// it implements and that are refused elsewhere (see `neutral_values` in language_model.cpp). `runs_as` are
/// architectures of another family that a config of this `model_type` may name: transformers has no classes
/// of its own for the models, and writes the names of those that it runs.
struct Family {
  std::vector<std::string> architectures;
  std::string model_type;
  ArchSpec (*read)(const util::JsonView& config);
  std::vector<std::string> reads = {};
  std::vector<std::string> runs_as = {};
};

const std::vector<Family>& families();

ArchSpec read_afmoe(const util::JsonView& config);
ArchSpec read_apertus(const util::JsonView& config);
ArchSpec read_arcee(const util::JsonView& config);
ArchSpec read_biogpt(const util::JsonView& config);
ArchSpec read_bloom(const util::JsonView& config);
ArchSpec read_codegen(const util::JsonView& config);
ArchSpec read_bamba(const util::JsonView& config);
ArchSpec read_cohere(const util::JsonView& config);
ArchSpec read_cohere2(const util::JsonView& config);
ArchSpec read_cohere2_moe(const util::JsonView& config);
ArchSpec read_cwm(const util::JsonView& config);
ArchSpec read_dbrx(const util::JsonView& config);
ArchSpec read_deepseek_v2(const util::JsonView& config);
ArchSpec read_deepseek_v3(const util::JsonView& config);
ArchSpec read_deepseek_v32(const util::JsonView& config);
ArchSpec read_dots1(const util::JsonView& config);
ArchSpec read_ernie4_5(const util::JsonView& config);
ArchSpec read_ernie4_5_moe(const util::JsonView& config);
ArchSpec read_exaone(const util::JsonView& config);
ArchSpec read_exaone4(const util::JsonView& config);
ArchSpec read_exaone_moe(const util::JsonView& config);
ArchSpec read_falcon(const util::JsonView& config);
ArchSpec read_falcon_h1(const util::JsonView& config);
ArchSpec read_falcon_mamba(const util::JsonView& config);
ArchSpec read_flex_olmo(const util::JsonView& config);
ArchSpec read_gemma(const util::JsonView& config);
ArchSpec read_gemma2(const util::JsonView& config);
ArchSpec read_gemma3(const util::JsonView& config);
ArchSpec read_gemma4(const util::JsonView& config);
ArchSpec read_gemma4_unified(const util::JsonView& config);
ArchSpec read_glm(const util::JsonView& config);
ArchSpec read_glm4(const util::JsonView& config);
ArchSpec read_glm4_moe(const util::JsonView& config);
ArchSpec read_glm4_moe_lite(const util::JsonView& config);
ArchSpec read_glm4v(const util::JsonView& config);
ArchSpec read_glm4v_moe(const util::JsonView& config);
ArchSpec read_glm_ocr(const util::JsonView& config);
ArchSpec read_glm_moe_dsa(const util::JsonView& config);
ArchSpec read_gpt1(const util::JsonView& config);
ArchSpec read_gpt2(const util::JsonView& config);
ArchSpec read_gpt_bigcode(const util::JsonView& config);
ArchSpec read_gpt_neo(const util::JsonView& config);
ArchSpec read_gpt_neox(const util::JsonView& config);
ArchSpec read_gpt_neox_japanese(const util::JsonView& config);
ArchSpec read_gpt_oss(const util::JsonView& config);
ArchSpec read_gptj(const util::JsonView& config);
ArchSpec read_granite(const util::JsonView& config);
ArchSpec read_granite_moe(const util::JsonView& config);
ArchSpec read_granite_moe_hybrid(const util::JsonView& config);
ArchSpec read_granite_moe_shared(const util::JsonView& config);
ArchSpec read_granite_moe_swa(const util::JsonView& config);
ArchSpec read_granite_swa(const util::JsonView& config);
ArchSpec read_helium(const util::JsonView& config);
ArchSpec read_hunyuan_dense(const util::JsonView& config);
ArchSpec read_hunyuan_moe(const util::JsonView& config);
ArchSpec read_hy_v3(const util::JsonView& config);
ArchSpec read_internlm3(const util::JsonView& config);
ArchSpec read_iquestcoder(const util::JsonView& config);
ArchSpec read_jais2(const util::JsonView& config);
ArchSpec read_jamba(const util::JsonView& config);
ArchSpec read_lfm2(const util::JsonView& config);
ArchSpec read_lfm2_moe(const util::JsonView& config);
ArchSpec read_llama(const util::JsonView& config);
ArchSpec read_llama4(const util::JsonView& config);
ArchSpec read_mamba(const util::JsonView& config);
ArchSpec read_mamba2(const util::JsonView& config);
ArchSpec read_mimo_v2_flash(const util::JsonView& config);
ArchSpec read_minicpm3(const util::JsonView& config);
ArchSpec read_minimax_m2(const util::JsonView& config);
ArchSpec read_ministral(const util::JsonView& config);
ArchSpec read_ministral3(const util::JsonView& config);
ArchSpec read_mistral(const util::JsonView& config);
ArchSpec read_mistral4(const util::JsonView& config);
ArchSpec read_mixtral(const util::JsonView& config);
ArchSpec read_mpt(const util::JsonView& config);
ArchSpec read_nanochat(const util::JsonView& config);
ArchSpec read_nemotron(const util::JsonView& config);
ArchSpec read_nemotron_h(const util::JsonView& config);
ArchSpec read_olmo(const util::JsonView& config);
ArchSpec read_olmo2(const util::JsonView& config);
ArchSpec read_olmo3(const util::JsonView& config);
ArchSpec read_olmo_hybrid(const util::JsonView& config);
ArchSpec read_olmoe(const util::JsonView& config);
ArchSpec read_opt(const util::JsonView& config);
ArchSpec read_paddleocr(const util::JsonView& config);
ArchSpec read_persimmon(const util::JsonView& config);
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
ArchSpec read_qwen2_5_omni(const util::JsonView& config);
ArchSpec read_qwen3_omni(const util::JsonView& config);
ArchSpec read_qwen3_5(const util::JsonView& config);
ArchSpec read_qwen3_5_moe(const util::JsonView& config);
ArchSpec read_qwen3_next(const util::JsonView& config);
ArchSpec read_sarvam_mla(const util::JsonView& config);
ArchSpec read_sarvam_moe(const util::JsonView& config);
ArchSpec read_seed_oss(const util::JsonView& config);
ArchSpec read_smollm3(const util::JsonView& config);
ArchSpec read_solar_open(const util::JsonView& config);
ArchSpec read_stablelm(const util::JsonView& config);
ArchSpec read_starcoder2(const util::JsonView& config);
ArchSpec read_vaultgemma(const util::JsonView& config);
ArchSpec read_xglm(const util::JsonView& config);
ArchSpec read_youtu(const util::JsonView& config);

// What one family's file takes from another's.

/// What a Qwen's config says of its experts, and which blocks have them: all but `mlp_only_layers`, every
/// `decoder_sparse_step`th; and the MLP of the others.
void read_qwen_experts(ArchSpec& spec, const util::JsonView& config, const ExpertSpec& class_defaults);

/// GPT-2's norms, output projection and MLP, and its fused projections in one matrix that is stored as [in,
/// out].
void add_gpt2_block(ArchSpec& spec, bool transposed);
void add_gpt2_projections(ArchSpec& spec);

/// Granite's factors of the embedding, the scores, what is added to the stream, and the logits.
void set_granite_factors(ArchSpec& spec, const util::JsonView& config);

/// Its experts and their router, "layers.{i}.block_sparse_moe.…", and the MLP beside them,
/// "layers.{i}.shared_mlp.…", of which `mlp_size` 0 means none.
void add_granite_experts(ArchSpec& spec);
void add_granite_shared_expert(ArchSpec& spec, std::int64_t mlp_size);

/// Ministral 3's growth of queries with the logarithm of their position; the rotary settings are read.
void set_query_growth(ArchSpec& spec, const util::JsonView& config);

}  // namespace depthlens::model
