// transformers' tokenizer classes. A folder names one; it decides what the folder's files do not say, and
// some of what they do.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "pre_tokenizer.hpp"
#include "settings.hpp"

namespace depthlens::text {

/// What a class does to a text before pieces are merged.
enum class ClassSteps {
  kOfFile,   ///< what tokenizer.json says
  kGpt2,     ///< its own, over bytes: GPT-2's pattern
  kNeox,     ///< the same behind NFC
  kQwen2,    ///< NFC and Qwen 2's pattern
  kQwen3_5,  ///< the same with Qwen 3.5's, where marks go with letters
  kCohere,   ///< NFC, digits apart and GPT-2's pattern
  kLlama,    ///< its own, over characters: spaces are marked, and one is put before the text
  kGemma,    ///< spaces are marked
  kUnknown,  ///< its own, which depthlens does not have
};

/// How a class decides on BOS where there is a tokenizer.json.
enum class ClassBos { kPostProcessor, kNever, kAlways };

struct TokenizerClass {
  std::string_view name;  ///< without "Fast"
  ClassSteps steps = ClassSteps::kOfFile;
  ClassBos bos_rule = ClassBos::kPostProcessor;
  bool heeds_legacy = false;   ///< of kLlama: with `legacy` a space is put behind each added token too
  bool drops_unknown = false;  ///< of tokens of characters: the model is made without the unknown token
  /// The tokens that the class names where no file does (null is a name: none); "": none.
  std::string_view bos = "", eos = "", unk = "", sep = "", pad = "", cls = "", mask = "";
  /// The same by keys of the class's own.
  std::span<const std::pair<std::string_view, std::string_view>> others = {};

  bool over_bytes() const {
    return steps == ClassSteps::kGpt2 || steps == ClassSteps::kNeox || steps == ClassSteps::kQwen2 ||
           steps == ClassSteps::kQwen3_5 || steps == ClassSteps::kCohere;
  }
  bool over_characters() const { return steps == ClassSteps::kLlama || steps == ClassSteps::kGemma; }
};

/// The class that AutoTokenizer of transformers 5 makes: by the name in tokenizer_config.json or config.json
/// and by the model's type. `json_is_byte_level`: there is a tokenizer.json, over bytes.
const TokenizerClass& class_of(const TokenizerSettings& settings, bool json_is_byte_level);

/// The class without rules of its own: tokenizer.json as it stands.
const TokenizerClass& generic_class();

/// Whether depthlens knows the class that a file names, if any does.
bool is_known_class(const TokenizerSettings& settings);

/// What the class does to a text. Not for kOfFile and kUnknown.
TextSteps steps_of(const TokenizerClass& tokenizer_class, const TokenizerSettings& settings);

/// What the class says of special tokens: their names where no file tells.
void add_names_of_class(const TokenizerClass& tokenizer_class, TokenizerSettings& settings);

/// "GPT2Tokenizer (tokenizer_class of FILE)" or "Qwen2Tokenizer (for the model_type 'qwen2' of FILE)".
std::string describe_class(const TokenizerClass& tokenizer_class, const TokenizerSettings& settings);

}  // namespace depthlens::text
