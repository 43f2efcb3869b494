// Whether two files, or two ways, make the same ids: by their vocabularies, and by probe texts that
// tokenizers are known to treat differently. Linear in the size of the vocabulary.
#pragma once

#include <string>
#include <string_view>

#include "bpe_tokenizer.hpp"
#include "depthlens/text/tokenizer.hpp"
#include "depthlens/util/json.hpp"
#include "pre_tokenizer.hpp"

namespace depthlens::text {

/// The first probe text, in quotes, that the two cut into other words; "": none.
std::string first_difference(const TextSteps& a, const TextSteps& b);

/// How the tokenizers of two files differ, such as "392 tokens, here 380"; "": they agree. Spaces before a
/// text are left out, which SentencePiece and its conversions treat differently.
std::string first_difference(const Tokenizer& ours, const Tokenizer& other);

/// The same for vocab.json and merges.txt, read as `vocabulary` and `merges`, beside the `model` of a
/// tokenizer.json. `is_added` tells its added tokens.
std::string first_difference(const Vocabulary& ours, const std::vector<MergePair>& our_merges,
                             const AddedTokens& added, const Vocabulary& other,
                             const std::vector<MergePair>& other_merges);

}  // namespace depthlens::text
