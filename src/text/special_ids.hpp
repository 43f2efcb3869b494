// BOS and EOS: which tokens they are, and whether the model's own tokenizer puts BOS before a text.
#pragma once

#include <optional>
#include <string>

#include "added_tokens.hpp"
#include "bpe_tokenizer.hpp"
#include "classes.hpp"
#include "depthlens/util/json.hpp"
#include "settings.hpp"

namespace depthlens::text {

/// What the post-processor of a tokenizer.json puts around a text.
struct PostProcessor {
  std::string where;                ///< the file
  std::optional<TokenId> bos = {};  ///< before the text
  std::string behind = {};          ///< the name of the token behind it; "": none
};

/// Throws a format error for a post-processor that does more than that, or is unknown.
PostProcessor read_post_processor(const util::JsonView& root);

/// BOS and EOS by what transformers 5 does: `post_processor` decides where there is a tokenizer.json (null:
/// there is none), else the flags add_bos_token and add_eos_token. Warns where they disagree.
SpecialIds special_ids(const TokenizerSettings& settings, const TokenizerClass& tokenizer_class,
                       const AddedTokens& tokens, const PostProcessor* post_processor);

}  // namespace depthlens::text
