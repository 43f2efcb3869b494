// The rule of BOS, in one place. What AutoTokenizer of transformers 5.24 does:
//
//   tokenizer.json  class                 BOS stands before a text
//   yes             GPTNeoXTokenizer      never: it makes a post-processor of its own
//   yes             CodeLlamaTokenizer    always
//   yes             any other             where the post_processor of the file puts it
//   no              CodeLlamaTokenizer    unless add_bos_token is false
//   no              any other             with add_bos_token true
//
// So add_bos_token and add_eos_token count only where there is no tokenizer.json. transformers 4 heeded them
// in some classes (LlamaTokenizerFast, GPTNeoXTokenizerFast).
#include "special_ids.hpp"

#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "json_steps.hpp"

namespace depthlens::text {
namespace {

using util::cat;
using util::in_quotes;
using util::JsonView;

/// Tells where the flags, the post-processor or transformers 4 would have it otherwise.
void warn_of_bos(const TokenizerSettings& settings, const TokenizerClass& tokenizer_class,
                 const PostProcessor* post_processor, const SpecialIds& special) {
  const std::string outcome =
      cat(", as in transformers 5: ", special.adds_bos ? "BOS" : "no BOS", " is put before texts");
  const std::string decides = post_processor == nullptr ? "there is no BOS token"
                              : tokenizer_class.bos_rule == ClassBos::kPostProcessor
                                  ? cat("the post_processor of ", post_processor->where, " decides")
                                  : cat("the class ", describe_class(tokenizer_class, settings), " decides");
  if (settings.add_bos && *settings.add_bos != special.adds_bos) {
    util::log_warning(cat(settings.where, ": add_bos_token ", *settings.add_bos ? "true" : "false",
                          " is not heeded; ", decides, outcome));
    return;
  }
  if (post_processor != nullptr && post_processor->bos.has_value() != special.adds_bos) {
    util::log_warning(cat(post_processor->where, ": the post_processor is not heeded; ", decides, outcome));
    return;
  }
  const bool by_default_before = settings.tokenizer_class == "LlamaTokenizer" ||
                                 settings.tokenizer_class == "GemmaTokenizer" ||
                                 (settings.tokenizer_class.empty() && settings.model_type == "llama");
  if (by_default_before && !settings.add_bos && !special.adds_bos && special.bos) {
    util::log_warning(cat(
        settings.where, " has no add_bos_token",
        post_processor != nullptr ? cat(", and ", post_processor->where, " no post_processor with BOS") : "",
        outcome, "; transformers 4 put one there (--add-bos yes)"));
  }
}

}  // namespace

PostProcessor read_post_processor(const JsonView& root) {
  PostProcessor found = {.where = root.where()};
  if (!root.has("post_processor")) return found;
  for_each_step(root.at("post_processor"), "processors", [&](const JsonView& step) {
    const std::string type = type_of(step);
    if (type == "ByteLevel") return;  // concerns offsets only
    if (type == "RobertaProcessing" || type == "BertProcessing") {
      if (found.bos) refuse(step, "several tokens before a text");
      found.bos = static_cast<TokenId>(step.at("cls").at(1).as_integer(0, kMaxTokens - 1));
      found.behind = step.at("sep").at(std::size_t{0}).as_string();
      return;
    }
    if (type != "TemplateProcessing") refuse(step, "the post-processor " + in_quotes(type));
    const JsonView parts = step.at("single");
    if (!parts.is_array()) parts.fail("a list");
    bool behind = false;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const JsonView part = parts.at(i);
      if (part.has("Sequence")) {
        behind = true;
        continue;
      }
      const std::string name = part.at("SpecialToken").at("id").as_string();
      if (behind) {
        found.behind = name;
        continue;
      }
      const JsonView ids = step.at("special_tokens").at(name).at("ids");
      if (found.bos || !ids.is_array() || ids.size() != 1) refuse(part, "several tokens before a text");
      found.bos = static_cast<TokenId>(ids.at(std::size_t{0}).as_integer(0, kMaxTokens - 1));
    }
  });
  return found;
}

SpecialIds special_ids(const TokenizerSettings& settings, const TokenizerClass& tokenizer_class,
                       const AddedTokens& tokens, const PostProcessor* post_processor) {
  SpecialIds special;
  const auto named = [&](const char* key) -> std::optional<TokenId> {
    const auto name = settings.name_of(key);
    return name ? tokens.id_of(*name) : std::nullopt;
  };
  special.bos = named("bos_token");
  special.eos = named("eos_token");
  bool eos_behind = false;
  if (post_processor == nullptr) {
    special.adds_bos =
        special.bos && settings.add_bos.value_or(tokenizer_class.bos_rule == ClassBos::kAlways);
    eos_behind = special.eos && settings.add_eos.value_or(false);
  } else if (tokenizer_class.bos_rule == ClassBos::kPostProcessor) {
    special.adds_bos = post_processor->bos.has_value();
    eos_behind = !post_processor->behind.empty();
    if (special.adds_bos && special.bos && special.bos != post_processor->bos) {
      util::log_warning(cat(post_processor->where, ": the post_processor puts the token ",
                            *post_processor->bos, " before texts, bos_token is ", *special.bos,
                            "; the former is taken as BOS"));
    }
    if (special.adds_bos) special.bos = post_processor->bos;
  } else {
    special.adds_bos = special.bos && tokenizer_class.bos_rule == ClassBos::kAlways;
  }
  warn_of_bos(settings, tokenizer_class, post_processor, special);
  if (eos_behind) {
    util::log_warning(cat(post_processor != nullptr ? post_processor->where : settings.where,
                          " asks for a token behind every text (EOS); depthlens leaves it out"));
  }
  return special;
}

}  // namespace depthlens::text
