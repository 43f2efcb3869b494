// The families that depthlens knows. To add one: write its file, declare it in family.hpp, add one line here.
#include "family.hpp"

namespace depthlens::model {

const std::vector<Family>& families() {
  static const std::vector<Family> all = {
      {{"BloomForCausalLM", "BloomModel"}, "bloom", read_bloom},
      {{"CohereForCausalLM", "CohereModel"}, "cohere", read_cohere, {"logit_scale", "use_qk_norm"}},
      {{"Cohere2ForCausalLM", "Cohere2Model"}, "cohere2", read_cohere2, {"logit_scale"}},
      {{"FalconForCausalLM", "FalconModel"}, "falcon", read_falcon, {"alibi"}},
      {{"GemmaForCausalLM", "GemmaModel"}, "gemma", read_gemma},
      {{"Gemma2ForCausalLM", "Gemma2Model"},
       "gemma2",
       read_gemma2,
       {"attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"}},
      {{"Gemma3ForCausalLM", "Gemma3TextModel"},
       "gemma3_text",
       read_gemma3,
       {"final_logit_softcapping", "query_pre_attn_scalar"}},
      {{"GPT2LMHeadModel", "GPT2Model"}, "gpt2", read_gpt2},
      {{"GPTJForCausalLM", "GPTJModel"}, "gptj", read_gptj},
      {{"GPTNeoForCausalLM", "GPTNeoModel"}, "gpt_neo", read_gpt_neo},
      {{"GPTNeoXForCausalLM", "GPTNeoXModel"}, "gpt_neox", read_gpt_neox},
      {{"GptOssForCausalLM", "GptOssModel"},
       "gpt_oss",
       read_gpt_oss,
       {"num_local_experts", "num_experts", "quantization_config", "swiglu_limit"}},
      {{"GraniteForCausalLM", "GraniteModel"},
       "granite",
       read_granite,
       {"embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"}},
      {{"LlamaForCausalLM", "LlamaModel"}, "llama", read_llama},
      {{"MinistralForCausalLM", "MinistralModel"}, "ministral", read_ministral},
      {{"Ministral3ForCausalLM", "Ministral3Model"}, "ministral3", read_ministral3},
      {{"MistralForCausalLM", "MistralModel"}, "mistral", read_mistral},
      {{"MixtralForCausalLM", "MixtralModel"}, "mixtral", read_mixtral, {"num_local_experts", "num_experts"}},
      {{"OlmoForCausalLM", "OlmoModel"}, "olmo", read_olmo, {"clip_qkv"}},
      {{"Olmo2ForCausalLM", "Olmo2Model"}, "olmo2", read_olmo2},
      {{"Olmo3ForCausalLM", "Olmo3Model"}, "olmo3", read_olmo3},
      {{"OlmoeForCausalLM", "OlmoeModel"},
       "olmoe",
       read_olmoe,
       {"clip_qkv", "num_experts", "num_local_experts"}},
      {{"OPTForCausalLM", "OPTModel"}, "opt", read_opt, {"layer_norm_elementwise_affine"}},
      {{"PhiForCausalLM", "PhiModel"}, "phi", read_phi, {"qk_layernorm"}},
      {{"Phi3ForCausalLM", "Phi3Model"}, "phi3", read_phi3},
      {{"Qwen2ForCausalLM", "Qwen2Model"}, "qwen2", read_qwen2},
      {{"Qwen2MoeForCausalLM", "Qwen2MoeModel"},
       "qwen2_moe",
       read_qwen2_moe,
       {"num_experts", "num_local_experts"}},
      {{"Qwen3ForCausalLM", "Qwen3Model"}, "qwen3", read_qwen3},
      {{"Qwen3MoeForCausalLM", "Qwen3MoeModel"},
       "qwen3_moe",
       read_qwen3_moe,
       {"num_experts", "num_local_experts"}},
      {{"SmolLM3ForCausalLM", "SmolLM3Model"}, "smollm3", read_smollm3, {"no_rope_layers"}},
      {{"StableLmForCausalLM", "StableLmModel"}, "stablelm", read_stablelm, {"qk_layernorm"}},
  };
  return all;
}

}  // namespace depthlens::model
