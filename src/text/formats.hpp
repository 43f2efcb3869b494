// The file formats of tokenizers, each made into a Tokenizer: tokenizer.json, vocab.json with merges.txt,
// tiktoken's ranks, SentencePiece's model.
#pragma once

#include <memory>
#include <optional>

#include "added_tokens.hpp"
#include "bpe_tokenizer.hpp"
#include "depthlens/text/tokenizer.hpp"
#include "depthlens/util/json.hpp"
#include "settings.hpp"

namespace depthlens::text {

/// Whether the file was converted from a SentencePiece model.
bool is_converted_sentencepiece(const util::JsonView& root);

/// Adds the file's `added_tokens`.
void add_json_tokens(const util::JsonView& root, AddedTokens& tokens);

/// The id that the file's post-processor puts before a text, if any. Throws a format error for a
/// post-processor that does more than that, or is unknown.
std::optional<TokenId> post_processor_bos(const util::JsonView& root);
/// Whether the file has a post-processor at all.
bool has_post_processor(const util::JsonView& root);

std::unique_ptr<Tokenizer> make_json_tokenizer(const util::JsonView& root, const TokenizerSettings& settings);

/// BOS and EOS by the settings, and by `template_bos`, the rule of the tokenizer's own file.
SpecialIds special_ids(const TokenizerSettings& settings, const AddedTokens& tokens,
                       std::optional<TokenId> template_bos);

/// GPT-2's `vocab.json` and `merges.txt`.
std::unique_ptr<Tokenizer> load_vocab_and_merges(const std::filesystem::path& folder,
                                                 TokenizerSettings settings);

/// Whether the content of a `tokenizer.model` is a list of base64 tokens and ranks.
bool is_tiktoken(std::string_view content);
/// Meta's `tokenizer.model` of Llama 3.
std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(std::string_view content, const std::string& where,
                                                   const TokenizerSettings& settings);

/// `json`: a tokenizer.json converted from the model, or null.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view content, const std::string& where,
                                                        const TokenizerSettings& settings,
                                                        const util::JsonView* json);

}  // namespace depthlens::text
