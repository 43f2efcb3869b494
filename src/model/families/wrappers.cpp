#include "wrappers.hpp"

#include <algorithm>
#include <map>

#include "config_keys.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "language_model.hpp"

namespace depthlens::model {

using util::Json;
using util::JsonView;

const std::vector<Wrapper>& wrappers() {
  using Ties = Wrapper::Ties;
  static const std::vector<Wrapper> all = {
      {.architecture = "AyaVisionForConditionalGeneration",
       .model_type = "aya_vision",
       .text_type = "cohere2",
       .ties = Ties::kYes,
       .drops_scale = true},
      {.architecture = "Cohere2VisionForConditionalGeneration",
       .model_type = "cohere2_vision",
       .text_type = "cohere2",
       .ties = Ties::kYes,
       .drops_scale = true},
      {"Exaone4_5_ForConditionalGeneration", "exaone4_5", "exaone4", Ties::kNo},
      {"Gemma3ForConditionalGeneration", "gemma3", "gemma3_text", Ties::kYes, /*any_text=*/false},
      {"Gemma4ForConditionalGeneration", "gemma4", "gemma4_text", Ties::kYes, /*any_text=*/false,
       /*flat=*/false, /*caps_logits=*/true},
      {"Gemma4UnifiedForConditionalGeneration", "gemma4_unified", "gemma4_unified_text", Ties::kYes,
       /*any_text=*/false, /*flat=*/false, /*caps_logits=*/true},
      {"Glm4vForConditionalGeneration", "glm4v", "glm4v_text", Ties::kIfInside, /*any_text=*/false},
      {"Glm46VForConditionalGeneration", "glm46v", "glm4v_text", Ties::kNo},
      {"Glm4vMoeForConditionalGeneration", "glm4v_moe", "glm4v_moe_text", Ties::kIfInside,
       /*any_text=*/false},
      {"GlmOcrForConditionalGeneration", "glm_ocr", "glm_ocr_text", Ties::kIfInside, /*any_text=*/false},
      {"GotOcr2ForConditionalGeneration", "got_ocr2", "qwen2", Ties::kYes},
      {"Idefics2ForConditionalGeneration", "idefics2", "mistral", Ties::kNo},
      {"Idefics3ForConditionalGeneration", "idefics3", "llama", Ties::kNo},
      {"InternVLForConditionalGeneration", "internvl", "qwen2", Ties::kYes},
      {"Kimi_K25ForConditionalGeneration", "kimi_k25", "deepseek_v3", Ties::kYes},
      {.architecture = "Lfm2VlForConditionalGeneration",
       .model_type = "lfm2_vl",
       .text_type = "lfm2",
       .ties = Ties::kYes,
       .ties_key = "tie_embedding"},
      {"LightOnOcrForConditionalGeneration", "lighton_ocr", "qwen3", Ties::kYes},
      {"Llama4ForConditionalGeneration", "llama4", "llama4_text", Ties::kAsInside, /*any_text=*/false},
      {"LlavaForConditionalGeneration", "llava", "llama", Ties::kIfInside},
      {"LlavaNextForConditionalGeneration", "llava_next", "llama", Ties::kNo},
      {"LlavaNextVideoForConditionalGeneration", "llava_next_video", "llama", Ties::kIfInside},
      {"LlavaOnevisionForConditionalGeneration", "llava_onevision", "qwen2", Ties::kIfInside},
      {"Mistral3ForConditionalGeneration", "mistral3", "mistral", Ties::kYes},
      {"Ovis2ForConditionalGeneration", "ovis2", "qwen2", Ties::kYes},
      {"PaddleOCRVLForConditionalGeneration", "paddleocr_vl", "paddleocr_vl_text", Ties::kYesOrInside,
       /*any_text=*/false, /*flat=*/true},
      {"PerceptionLMForConditionalGeneration", "perception_lm", "llama", Ties::kInsideUnlessSaid},
      {"Qwen2VLForConditionalGeneration", "qwen2_vl", "qwen2_vl_text", Ties::kIfInside, /*any_text=*/false,
       /*flat=*/true},
      {"Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", "qwen2_5_vl_text", Ties::kIfInside,
       /*any_text=*/false, /*flat=*/true},
      {"Qwen2_5OmniThinkerForConditionalGeneration", "qwen2_5_omni_thinker", "qwen2_5_omni_text", Ties::kNo,
       /*any_text=*/false},
      {.architecture = "Qwen2_5OmniForConditionalGeneration",
       .model_type = "qwen2_5_omni",
       .text_type = "qwen2_5_omni_text",
       .ties = Ties::kNo,
       .any_text = false,
       .part = "thinker"},
      {.architecture = "Qwen2_5OmniModel",
       .model_type = "qwen2_5_omni",
       .text_type = "qwen2_5_omni_text",
       .ties = Ties::kNo,
       .any_text = false,
       .part = "thinker"},
      {"Qwen3OmniMoeThinkerForConditionalGeneration", "qwen3_omni_moe_thinker", "qwen3_omni_moe_text",
       Ties::kNo, /*any_text=*/false},
      {.architecture = "Qwen3OmniMoeForConditionalGeneration",
       .model_type = "qwen3_omni_moe",
       .text_type = "qwen3_omni_moe_text",
       .ties = Ties::kNo,
       .any_text = false,
       .part = "thinker"},
      {"Qwen3VLForConditionalGeneration", "qwen3_vl", "qwen3_vl_text", Ties::kNo, /*any_text=*/false},
      {"Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe", "qwen3_vl_moe_text", Ties::kNo,
       /*any_text=*/false},
      {"Qwen3_5ForConditionalGeneration", "qwen3_5", "qwen3_5_text", Ties::kNo, /*any_text=*/false},
      {"Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", "qwen3_5_moe_text", Ties::kNo,
       /*any_text=*/false},
      {"SmolVLMForConditionalGeneration", "smolvlm", "llama", Ties::kNo},
      {"VideoLlavaForConditionalGeneration", "video_llava", "llama", Ties::kNo},
      {"VipLlavaForConditionalGeneration", "vipllava", "llama", Ties::kNo},
  };
  return all;
}

const Wrapper* named_wrapper(const JsonView& config) {
  const auto find_by = [](const std::string Wrapper::*name, const std::string& value) -> const Wrapper* {
    const auto found = std::find_if(wrappers().begin(), wrappers().end(),
                                    [&](const Wrapper& wrapper) { return wrapper.*name == value; });
    return found == wrappers().end() ? nullptr : &*found;
  };
  const bool named = config.has("architectures") && config.at("architectures").is_array() &&
                     config.at("architectures").size() > 0;
  const std::string type = config.get_string("model_type", "");
  const Wrapper* of_type = find_by(&Wrapper::model_type, type);
  if (!named) return of_type;
  const Wrapper* found = find_by(&Wrapper::architecture, config.at("architectures").at(0).as_string());
  if (found == nullptr || type.empty() || found->model_type == type) return found;
  config.at("model_type").fail(util::cat("'", found->model_type, "', as architectures says"));
}

namespace {

/// Sizes of the classes of language models that wrappers are published with: their configs leave out what is
/// the class's.
const std::map<std::string, Json>& class_sizes() {
  const auto sizes = [](int vocab, int hidden, int mlp, int layers = 32, int heads = 32) {
    return Json{{"vocab_size", vocab},
                {"hidden_size", hidden},
                {"intermediate_size", mlp},
                {"num_hidden_layers", layers},
                {"num_attention_heads", heads}};
  };
  static const std::map<std::string, Json> all = {{"cohere2", sizes(256000, 8192, 22528, 40, 64)},
                                                  {"deepseek_v3", sizes(129280, 7168, 18432, 61, 128)},
                                                  {"exaone4", sizes(102400, 4096, 16384)},
                                                  {"lfm2", sizes(65536, 2560, 12288)},
                                                  {"llama", sizes(32000, 4096, 11008)},
                                                  {"mistral", sizes(32000, 4096, 14336)},
                                                  {"qwen2", sizes(151936, 4096, 22016)},
                                                  {"qwen3", sizes(151936, 4096, 22016)}};
  return all;
}

/// The language model's config with all that the wrapper's class adds to it.
Json text_config_of(const JsonView& config, const Wrapper& wrapper) {
  const bool inside = config.has("text_config");
  if (!inside && !wrapper.flat) config.at("text_config");
  if (inside && !config.at("text_config").is_object()) config.at("text_config").fail("an object");
  Json text = inside ? config.at("text_config").raw() : config.raw();
  text.erase("architectures");  // the model's are outside
  if (!inside) {
    text.erase("model_type");
    text.erase("tie_word_embeddings");  // of the language model alone, the class's holds
  }
  const auto type = text.find("model_type");
  if (type == text.end()) {
    text["model_type"] = wrapper.text_type;
  } else if (!wrapper.any_text) {
    if (*type != wrapper.text_type && *type != wrapper.model_type)
      config.at("text_config").at("model_type").fail(util::in_quotes(wrapper.text_type));
    *type = wrapper.text_type;
  }
  if (config.raw().contains("quantization_config"))
    text["quantization_config"] = config.raw().at("quantization_config");
  const auto sizes = class_sizes().find(JsonView(text, config.where()).get_string("model_type", ""));
  return sizes == class_sizes().end() ? text : with_class_defaults({text, config.where()}, sizes->second);
}

/// Whether embedding and unembedding are one, where the language model by itself says `inside`.
bool ties(const JsonView& config, const Wrapper& wrapper, bool inside) {
  const bool other = !wrapper.ties_key.empty() && config.raw().contains(wrapper.ties_key);
  const std::string key = other ? wrapper.ties_key : "tie_word_embeddings";
  switch (wrapper.ties) {
    case Wrapper::Ties::kNo:
      return read_flag(config, key, false);
    case Wrapper::Ties::kYes:
      return read_flag(config, key, true);
    case Wrapper::Ties::kYesOrInside:
      return read_flag(config, key, true) || inside;
    case Wrapper::Ties::kIfInside:
      return read_flag(config, key, false) || inside;
    case Wrapper::Ties::kInsideUnlessSaid:
      return config.has(key) ? read_flag(config, key, false) : inside;
    case Wrapper::Ties::kAsInside:
      break;
  }
  return inside;
}

/// A wrapper has a linear unembedding of its own, and transformers leaves out what the language model's class
/// makes of logits; so it cannot be told which of the two is meant.
void check_readout(const JsonView& config, const Wrapper& wrapper, const ArchSpec& spec) {
  const bool biased = std::any_of(spec.model_tensors.begin(), spec.model_tensors.end(),
                                  [](const TensorRule& rule) { return rule.slot == Slot::kUnembeddingBias; });
  const auto fail = [&](const std::string& found) {
    throw util::format_error(
        {.what = "unsupported language model in " + util::in_quotes(wrapper.architecture),
         .where = config.where() + ": text_config",
         .expected = "tensors named as Llama's, and logits as the unembedding makes them",
         .found = found});
  };
  if (spec.prefixes != std::vector<std::string>{"model."}) fail("other names of tensors");
  if (biased) fail("a bias of the logits");
  if (spec.logit_transform.scale != 1) fail("scaled logits, which transformers leaves unscaled here");
  if (spec.logit_transform.soft_cap != 0 && !wrapper.caps_logits)
    fail("a soft cap of the logits, which transformers leaves out here");
}

/// What the names of tensors of a wrapper begin with that are not of the language model.
constexpr const char* kOtherParts[] = {"vision_tower.*",
                                       "multi_modal_projector.*",
                                       "image_newline",
                                       "image_tower.*",
                                       "video_tower.*",
                                       "visual.*",
                                       "vision_model.*",
                                       "connector.*",
                                       "vision_encoder.*",
                                       "vision_projection.*",
                                       "vision_embedder.*",
                                       "embed_vision.*",
                                       "audio_tower.*",
                                       "embed_audio.*",
                                       "mm_projector.*",
                                       "visual_embeddings_table.*",
                                       "mlp_AR.*",
                                       "projector.*",
                                       "mtp.*"};

/// The language model of one part of a model, beside which there are parts that speak.
ArchSpec read_part(const JsonView& config, const Wrapper& wrapper) {
  require_value(config, "quantization_config", nullptr);
  const JsonView part = config.at(wrapper.part + "_config");
  if (!part.is_object()) part.fail("an object");
  const std::string type = wrapper.model_type + "_" + wrapper.part;
  if (part.get_string("model_type", type) != type) part.at("model_type").fail(util::in_quotes(type));
  Wrapper alone = wrapper;
  alone.part.clear();
  ArchSpec spec = read_wrapped(part, alone);
  const std::string before = wrapper.part + ".";
  for (std::string& prefix : spec.prefixes) prefix.insert(0, before);
  for (TensorRule& rule : spec.model_tensors) {
    if (rule.slot != Slot::kUnembedding) continue;
    for (std::string& name : rule.other_names) name.insert(0, before);
    rule.other_names.push_back(before + rule.name);
  }
  for (const char* name : kOtherParts) {
    spec.ignorable.push_back(before + name);
    spec.ignorable.push_back(before + "model." + name);
  }
  for (const char* name : {"talker.*", "token2wav.*", "code2wav.*"}) spec.ignorable.emplace_back(name);
  return spec;
}

}  // namespace

ArchSpec read_wrapped(const JsonView& config, const Wrapper& wrapper) {
  if (!wrapper.part.empty()) return read_part(config, wrapper);
  const Json text = text_config_of(config, wrapper);
  const std::string where = config.where() + (config.has("text_config") ? ": text_config" : "");
  ArchSpec spec = read_language_model({text, where});
  if (wrapper.drops_scale) {
    spec.logit_transform.scale = 1;
    for (const char* key : {"logit_scale", "logits_scaling"})
      tell_unused({text, where}, key, 1.0, wrapper.architecture + " leaves logits unscaled");
  }
  check_readout(config, wrapper, spec);
  spec.architecture = wrapper.architecture;
  spec.tied_unembedding = ties(config, wrapper, spec.tied_unembedding);
  // The last is of a wrapper that was saved without its unembedding.
  for (const char* prefix :
       {"language_model.model.", "model.language_model.", "model.text_model.", "language_model."})
    spec.prefixes.emplace_back(prefix);
  for (TensorRule& rule : spec.model_tensors) {
    if (rule.slot == Slot::kUnembedding) rule.other_names.push_back("language_model." + rule.name);
  }
  for (const std::string part : kOtherParts) {
    spec.ignorable.push_back(part);
    spec.ignorable.push_back("model." + part);
  }
  return spec;
}

}  // namespace depthlens::model
