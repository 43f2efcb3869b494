// The file formats of tokenizers, each made into a Tokenizer: tokenizer.json, vocab.json with merges.txt,
// tiktoken's ranks, Mistral's tekken.json, SentencePiece's model. And whether a second file says the same as
// a tokenizer.json.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "added_tokens.hpp"
#include "bpe_tokenizer.hpp"
#include "classes.hpp"
#include "depthlens/text/tokenizer.hpp"
#include "depthlens/util/json.hpp"
#include "settings.hpp"
#include "special_ids.hpp"

namespace depthlens::text {

/// Whether a tokenizer.json holds a Unigram model.
bool is_unigram(const util::JsonView& root);

/// Names the pad token of the file's `padding` where no other file does.
void name_padding(const util::JsonView& root, TokenizerSettings& settings);

/// How a Metaspace of the file puts a space before texts; nothing: there is none.
std::optional<PrependScheme> metaspace_scheme(const util::JsonView& root);

/// Adds the file's `added_tokens`.
void add_json_tokens(const util::JsonView& root, AddedTokens& tokens);

/// `folder` is where the file stands: what stands beside it is compared.
std::unique_ptr<Tokenizer> make_json_tokenizer(const util::JsonView& root, TokenizerSettings settings,
                                               const std::filesystem::path& folder);

bool has_vocab_and_merges(const std::filesystem::path& folder);
/// `vocab.json` and `merges.txt` of the byte-level classes. Throws a format error where the class is another,
/// or told nowhere.
std::unique_ptr<Tokenizer> load_vocab_and_merges(const std::filesystem::path& folder,
                                                 TokenizerSettings settings);
/// Warns where they are there and differ from what a tokenizer.json holds.
void compare_vocab_and_merges(const std::filesystem::path& folder, const std::string& json_where,
                              const Vocabulary& vocabulary, const std::vector<MergePair>& merges,
                              const AddedTokens& tokens);

/// Whether the content of a `tokenizer.model` is a list of base64 tokens and ranks.
bool is_tiktoken(std::string_view content);
/// Meta's `tokenizer.model` of Llama 3.
std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(std::string_view content, const std::string& where,
                                                   const TokenizerSettings& settings);
/// Moonshot's `tiktoken.model`. Throws a format error where the folder's class is another.
std::unique_ptr<Tokenizer> make_moonshot_tokenizer(std::string_view content, const std::string& where,
                                                   const TokenizerSettings& settings);
/// How the tokens of such a file differ from `tokenizer`'s; "": they agree.
std::string tiktoken_difference(std::string_view content, const std::string& where,
                                const Tokenizer& tokenizer);

/// Mistral's tekken.json, as mistral-common reads it: BOS before texts, special tokens in a text are text.
std::unique_ptr<Tokenizer> make_tekken_tokenizer(const util::JsonView& root,
                                                 const TokenizerSettings& settings);
std::string tekken_difference(const util::JsonView& root, const Tokenizer& tokenizer);

/// Throws a format error where the folder's class is known to read such a model in a way of its own.
/// `json`: a Unigram tokenizer.json converted from the model, or null.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view content, const std::string& where,
                                                        TokenizerSettings settings,
                                                        const util::JsonView* json);
/// How such a model differs from `tokenizer`, which was made from the tokenizer.json; "": it does not.
std::string sentencepiece_difference(std::string_view content, const std::string& where,
                                     const TokenizerSettings& settings, const util::JsonView& json,
                                     const Tokenizer& tokenizer);

}  // namespace depthlens::text
