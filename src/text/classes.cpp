// The table of tokenizer classes, after transformers 5: tokenization_auto.py and the files of the classes.
#include "classes.hpp"

#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::text {
namespace {

using util::cat;
using util::in_quotes;

constexpr std::string_view kEndOfText = "<|endoftext|>";

constexpr std::pair<std::string_view, std::string_view> kOfCodeLlama[] = {{"prefix_token", "▁<PRE>"},
                                                                          {"middle_token", "▁<MID>"},
                                                                          {"suffix_token", "▁<SUF>"},
                                                                          {"eot_token", "▁<EOT>"},
                                                                          {"fill_token", "<FILL_ME>"}};

constexpr const char* kQwen3_5Name = "Qwen3_5Tokenizer";
constexpr std::string_view kQwen3_5Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// Takes a tokenizer.json as it stands; so do classes that transformers does not know.
constexpr TokenizerClass kGeneric = {.name = "PreTrainedTokenizer"};

constexpr TokenizerClass kClasses[] = {
    kGeneric,
    {.name = "TokenizersBackend"},
    {.name = "BloomTokenizer"},
    {.name = "GPT2Tokenizer",
     .steps = ClassSteps::kGpt2,
     .bos = kEndOfText,
     .eos = kEndOfText,
     .unk = kEndOfText},
    {.name = "CodeGenTokenizer",
     .steps = ClassSteps::kGpt2,
     .bos = kEndOfText,
     .eos = kEndOfText,
     .unk = kEndOfText},
    {.name = "GPTNeoXTokenizer",
     .steps = ClassSteps::kNeox,
     .bos_rule = ClassBos::kNever,
     .bos = kEndOfText,
     .eos = kEndOfText,
     .unk = kEndOfText,
     .pad = "<|padding|>"},
    {.name = "Qwen2Tokenizer",
     .steps = ClassSteps::kQwen2,
     .eos = kEndOfText,
     .unk = kEndOfText,
     .pad = kEndOfText},
    {.name = kQwen3_5Name,
     .steps = ClassSteps::kQwen3_5,
     .eos = kEndOfText,
     .unk = kEndOfText,
     .pad = kEndOfText},
    {.name = "CohereTokenizer",
     .steps = ClassSteps::kCohere,
     .bos = "<BOS_TOKEN>",
     .eos = "<|END_OF_TURN_TOKEN|>",
     .unk = "<UNK>",
     .sep = "<SEP>",
     .pad = "<PAD>",
     .cls = "<CLS>",
     .mask = "<MASK_TOKEN>"},
    {.name = "LlamaTokenizer",
     .steps = ClassSteps::kLlama,
     .heeds_legacy = true,
     .drops_unknown = true,
     .bos = "<s>",
     .eos = "</s>",
     .unk = "<unk>"},
    {.name = "CodeLlamaTokenizer",
     .steps = ClassSteps::kLlama,
     .bos_rule = ClassBos::kAlways,
     .bos = "<s>",
     .eos = "</s>",
     .unk = "<unk>",
     .others = kOfCodeLlama},
    {.name = "GemmaTokenizer",
     .steps = ClassSteps::kGemma,
     .bos = "<bos>",
     .eos = "<eos>",
     .unk = "<unk>",
     .pad = "<pad>",
     .mask = "<mask>"},
};

/// Classes with steps of their own that depthlens does not have.
constexpr TokenizerClass kUnknown = {.name = "", .steps = ClassSteps::kUnknown};
constexpr std::string_view kUnknownNames[] = {
    "AlbertTokenizer",      "BartTokenizer",
    "BarthezTokenizer",     "BertTokenizer",
    "BigBirdTokenizer",     "BioGptTokenizer",
    "BlenderbotTokenizer",  "CamembertTokenizer",
    "CLIPTokenizer",        "DebertaTokenizer",
    "DebertaV2Tokenizer",   "EsmcTokenizer",
    "FunnelTokenizer",      "GPTNeoXJapaneseTokenizer",
    "HerbertTokenizer",     "LasrTokenizer",
    "LayoutLMv3Tokenizer",  "LEDTokenizer",
    "LongformerTokenizer",  "LukeTokenizer",
    "MarkupLMTokenizer",    "MBart50Tokenizer",
    "MBartTokenizer",       "MPNetTokenizer",
    "MvpTokenizer",         "NllbTokenizer",
    "NougatTokenizer",      "OpenAIGPTTokenizer",
    "PegasusTokenizer",     "ReformerTokenizer",
    "RemBertTokenizer",     "RobertaTokenizer",
    "SeamlessM4TTokenizer", "Siglip2Tokenizer",
    "T5Tokenizer",          "UdopTokenizer",
    "WhisperTokenizer",     "XGLMTokenizer",
    "XLMRobertaTokenizer",  "XLNetTokenizer",
};

struct ModelClass {
  std::string_view model_type;
  std::string_view tokenizer_class;
  /// transformers does not trust the class that folders of the type name.
  bool whatever_the_folder_says = false;
};

/// What transformers registers for the models that depthlens has. AFMoE, Apertus, Arcee, Bamba, BLOOM,
/// Cohere 2 with experts, CWM, DeepSeek, dots.llm1, EXAONE 3 and 4, Falcon, Falcon-H1, Gemma 4, GPT-OSS,
/// Granite with windows, Helium, HunYuan, HY 3, Idefics 3, LFM2, Llama, Mistral 4, nanochat, Nemotron-H,
/// Sarvam, Seed-OSS, SmolLM3, Solar Open, Youtu and what sees with them (LLaVA's for videos and OneVision)
/// have no entry: their folders decide.
constexpr ModelClass kModelClasses[] = {
    {"aya_vision", "CohereTokenizer"},
    {"biogpt", "BioGptTokenizer"},
    {"codegen", "GPT2Tokenizer"},
    {"cohere", "CohereTokenizer"},
    {"cohere2", "CohereTokenizer"},
    {"dbrx", "GPT2Tokenizer"},
    {"ernie4_5", kGeneric.name, true},
    {"ernie4_5_moe", kGeneric.name, true},
    {"falcon_mamba", "GPTNeoXTokenizer"},
    {"flex_olmo", kGeneric.name, true},
    {"gemma", "GemmaTokenizer"},
    {"gemma2", "GemmaTokenizer"},
    {"gemma3", "GemmaTokenizer"},
    {"gemma3_text", "GemmaTokenizer"},
    {"glm", kGeneric.name, true},
    {"glm4", kGeneric.name, true},
    {"glm4_moe", kGeneric.name, true},
    {"glm4_moe_lite", kGeneric.name, true},
    {"glm4v", kGeneric.name, true},
    {"glm4v_moe", kGeneric.name, true},
    {"got_ocr2", kGeneric.name, true},
    {"gpt2", "GPT2Tokenizer"},
    {"gpt_bigcode", kGeneric.name, true},
    {"gpt_neo", "GPT2Tokenizer"},
    {"gpt_neox", "GPTNeoXTokenizer"},
    {"gpt_neox_japanese", "GPTNeoXJapaneseTokenizer"},
    {"gptj", "GPT2Tokenizer"},
    {"granite", kGeneric.name, true},
    {"granitemoe", kGeneric.name, true},
    {"granitemoehybrid", kGeneric.name, true},
    {"granitemoeshared", kGeneric.name, true},
    {"idefics2", "LlamaTokenizer"},
    {"internlm3", kGeneric.name, true},
    {"internvl", "Qwen2Tokenizer"},
    {"iquestcoder", kGeneric.name, true},
    {"jais2", "GPT2Tokenizer"},
    {"jamba", kGeneric.name, true},
    {"kimi_k25", kGeneric.name, true},
    {"lighton_ocr", "Qwen2Tokenizer"},
    {"llava", kGeneric.name, true},
    {"llava_next", kGeneric.name, true},
    {"mamba", "GPTNeoXTokenizer"},
    {"mamba2", "GPTNeoXTokenizer"},
    {"mimo_v2_flash", kGeneric.name, true},
    {"minicpm3", kGeneric.name, true},
    {"minimax_m2", kGeneric.name, true},
    {"ministral", kGeneric.name, true},
    {"ministral3", kGeneric.name, true},
    {"mistral", kGeneric.name, true},
    {"mistral3", kGeneric.name, true},
    {"mixtral", kGeneric.name, true},
    {"mpt", "GPTNeoXTokenizer"},
    {"nemotron", kGeneric.name, true},
    {"olmo", "GPTNeoXTokenizer"},
    {"olmo2", kGeneric.name, true},
    {"olmo3", kGeneric.name, true},
    {"olmo_hybrid", kGeneric.name, true},
    {"olmoe", "GPTNeoXTokenizer"},
    {"openai-gpt", "OpenAIGPTTokenizer"},
    {"opt", "GPT2Tokenizer"},
    {"ovis2", "Qwen2Tokenizer"},
    {"paddleocr_vl", kGeneric.name, true},
    {"persimmon", kGeneric.name, true},
    {"phi", "GPT2Tokenizer"},
    {"phi3", kGeneric.name, true},
    {"phimoe", kGeneric.name, true},
    {"qwen2", "Qwen2Tokenizer", true},
    {"qwen2_5_omni", "Qwen2Tokenizer"},
    {"qwen2_5_vl", "Qwen2Tokenizer"},
    {"qwen2_moe", "Qwen2Tokenizer"},
    {"qwen2_vl", "Qwen2Tokenizer"},
    {"qwen3", "Qwen2Tokenizer"},
    {"qwen3_5", "Qwen3_5Tokenizer", true},
    {"qwen3_5_moe", "Qwen3_5Tokenizer", true},
    {"qwen3_5_moe_text", "Qwen3_5Tokenizer", true},
    {"qwen3_5_text", "Qwen3_5Tokenizer"},
    {"qwen3_moe", "Qwen2Tokenizer"},
    {"qwen3_next", "Qwen2Tokenizer"},
    {"qwen3_omni_moe", "Qwen2Tokenizer"},
    {"qwen3_vl", "Qwen2Tokenizer"},
    {"qwen3_vl_moe", "Qwen2Tokenizer"},
    {"smolvlm", kGeneric.name, true},
    {"stablelm", kGeneric.name, true},
    {"starcoder2", "GPT2Tokenizer"},
    {"vipllava", kGeneric.name, true},
    {"xglm", "XGLMTokenizer"},
};

const TokenizerClass& class_named(std::string_view name) {
  for (const TokenizerClass& known : kClasses) {
    if (known.name == name) return known;
  }
  const bool is_unknown = std::count(std::begin(kUnknownNames), std::end(kUnknownNames), name) > 0;
  return is_unknown ? kUnknown : kClasses[0];
}

const ModelClass* class_of_model(const TokenizerSettings& settings) {
  for (const ModelClass& entry : kModelClasses) {
    if (entry.model_type == settings.model_type) return &entry;
  }
  return nullptr;
}

}  // namespace

const TokenizerClass& class_of(const TokenizerSettings& settings, bool json_is_byte_level) {
  const ModelClass* const registered = class_of_model(settings);
  if (registered != nullptr && (registered->whatever_the_folder_says || settings.tokenizer_class.empty()))
    return class_named(registered->tokenizer_class);
  // Many folders name Llama's class over a tokenizer of bytes.
  if (settings.tokenizer_class == "LlamaTokenizer" && json_is_byte_level) return generic_class();
  return class_named(settings.tokenizer_class);
}

const TokenizerClass& generic_class() {
  return kClasses[0];
}

bool is_known_class(const TokenizerSettings& settings) {
  return settings.tokenizer_class.empty() ||
         std::any_of(std::begin(kClasses), std::end(kClasses),
                     [&](const TokenizerClass& known) { return known.name == settings.tokenizer_class; });
}

TextSteps steps_of(const TokenizerClass& tokenizer_class, const TokenizerSettings& settings) {
  TextSteps steps;
  const bool prefix_space = settings.add_prefix_space.value_or(tokenizer_class.over_characters());
  switch (tokenizer_class.steps) {
    case ClassSteps::kNeox:
      steps.normalizer.add({Normalizer::Kind::kNfc});
      [[fallthrough]];
    case ClassSteps::kGpt2:
      steps.pre_tokenizer.add(byte_level_splitter(true, prefix_space));
      return steps;
    case ClassSteps::kQwen2:
      steps.normalizer.add({Normalizer::Kind::kNfc});
      steps.pre_tokenizer.add(llama3_splitter(1));
      if (prefix_space) steps.pre_tokenizer.add(byte_level_splitter(false, true));
      return steps;
    case ClassSteps::kQwen3_5:
      steps.normalizer.add({Normalizer::Kind::kNfc});
      steps.pre_tokenizer.add(regex_splitter(std::string(kQwen3_5Pattern), SplitBehavior::kIsolated,
                                             /*invert=*/false, kQwen3_5Name));
      if (prefix_space) steps.pre_tokenizer.add(byte_level_splitter(false, true));
      return steps;
    case ClassSteps::kCohere:
      steps.normalizer.add({Normalizer::Kind::kNfc});
      steps.pre_tokenizer.add(digits_splitter(true));
      steps.pre_tokenizer.add(byte_level_splitter(true, prefix_space));
      return steps;
    case ClassSteps::kLlama: {
      const PrependScheme with_space = tokenizer_class.heeds_legacy && settings.legacy.value_or(false)
                                           ? PrependScheme::kAlways
                                           : PrependScheme::kFirst;
      steps.pre_tokenizer.add(metaspace_splitter(std::string(kSpaceMark),
                                                 prefix_space ? with_space : PrependScheme::kNever, false));
      return steps;
    }
    case ClassSteps::kGemma:
      steps.normalizer.add({Normalizer::Kind::kReplace, " ", std::string(kSpaceMark)});
      return steps;
    case ClassSteps::kOfFile:
    case ClassSteps::kUnknown:
      break;
  }
  DEPTHLENS_ASSERT(false);
}

void add_names_of_class(const TokenizerClass& tokenizer_class, TokenizerSettings& settings) {
  const auto add = [&](const char* key, std::string_view name) {
    if (!name.empty()) settings.name_token(key, {.content = std::string(name), .special = true});
  };
  add("bos_token", tokenizer_class.bos);
  add("eos_token", tokenizer_class.eos);
  add("unk_token", tokenizer_class.unk);
  add("sep_token", tokenizer_class.sep);
  add("pad_token", tokenizer_class.pad);
  add("cls_token", tokenizer_class.cls);
  add("mask_token", tokenizer_class.mask);
  KeyedTokens others;
  for (const auto& [key, name] : tokenizer_class.others)
    others.emplace_back(key, AddedToken{.content = std::string(name), .special = true});
  add_all(others, std::move(settings.model_special));
  settings.model_special = std::move(others);
  settings.plain_special_tokens = tokenizer_class.steps == ClassSteps::kQwen2;
}

std::string describe_class(const TokenizerClass& tokenizer_class, const TokenizerSettings& settings) {
  const ModelClass* const registered = class_of_model(settings);
  if (!settings.tokenizer_class.empty() && (registered == nullptr || !registered->whatever_the_folder_says))
    return cat(settings.tokenizer_class, " (tokenizer_class of ", settings.class_file, ")");
  return cat(tokenizer_class.name, " (for the model_type ", in_quotes(settings.model_type), " of ",
             settings.config_file, ")");
}

}  // namespace depthlens::text
