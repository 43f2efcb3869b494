// The families that depthlens knows. To add one: write its file, declare it in family.hpp, add one line here.
#include "family.hpp"

namespace depthlens::model {

const std::vector<Family>& families() {
  static const std::vector<Family> all = {
      {{"GPT2LMHeadModel", "GPT2Model"}, "gpt2", read_gpt2},
      {{"GPTNeoXForCausalLM", "GPTNeoXModel"}, "gpt_neox", read_gpt_neox},
      {{"LlamaForCausalLM", "LlamaModel"}, "llama", read_llama},
      {{"MistralForCausalLM", "MistralModel"}, "mistral", read_mistral},
      {{"Qwen2ForCausalLM", "Qwen2Model"}, "qwen2", read_qwen2},
      {{"Qwen3ForCausalLM", "Qwen3Model"}, "qwen3", read_qwen3},
  };
  return all;
}

}  // namespace depthlens::model
