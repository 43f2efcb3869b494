// The tokenizer that merges pairs: over bytes (GPT-2 and most since) or over characters with bytes as the way
// out (SentencePiece models converted for Hugging Face).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bpe.hpp"
#include "depthlens/util/json.hpp"
#include "word_tokenizer.hpp"

namespace depthlens::text {

/// Tokens and merges.
struct BpeModel {
  std::vector<std::string> token_bytes;  ///< by id
  MergeTable merges;
  bool byte_level = true;             ///< words are merged from bytes, else from code points
  std::string space = {};             ///< unless byte_level: what stands for a space in tokens; "": nothing
  std::array<TokenId, 256> byte_ids;  ///< of single bytes; kNoToken: none
  /// Then nothing is unknown.
  bool knows_all_bytes() const { return std::count(byte_ids.begin(), byte_ids.end(), kNoToken) == 0; }
  FlatMap<TokenId> character_ids;                  ///< unless byte_level: of single code points
  bool byte_fallback = false;                      ///< unless byte_level: unknown code points become bytes
  bool fuse_unknown = false;                       ///< neighbouring unknown code points become one token
  TokenId unknown = kNoToken;                      ///< kNoToken: what is unknown is dropped
  bool ignore_merges = false;                      ///< a word that is a token needs no merging
  std::unordered_map<std::string, TokenId> words;  ///< of ignore_merges: all tokens as they stand in a text
};

/// A vocabulary as files spell it; views into what was read.
struct Vocabulary {
  std::unordered_map<std::string_view, TokenId> ids;
  TokenId size = 0;  ///< largest id + 1

  std::optional<TokenId> find(std::string_view token) const;
};

/// Which ids a vocabulary with holes has; empty: it has none.
std::vector<bool> ids_taken(const Vocabulary& vocabulary);

/// Reads {"token": id}. Throws a format error for an id twice, out of range, or not a number.
Vocabulary read_vocabulary(const util::JsonView& json);

using MergePair = std::pair<std::string_view, std::string_view>;

struct BpeOptions {
  bool byte_level = true;
  bool byte_fallback = false;
  bool fuse_unknown = false;
  bool ignore_merges = false;
  std::string unknown_token = {};  ///< "": none
  std::string space = {};          ///< what stands for a space in tokens, such as "▁"; unless byte_level
};

/// Throws a format error, with `where` and the number of the merge, for a merge of tokens that are not there.
BpeModel make_bpe_model(const Vocabulary& vocabulary, const std::vector<MergePair>& merges,
                        const BpeOptions& options, const std::string& where);

class BpeTokenizer final : public WordTokenizer {
 public:
  BpeTokenizer(BpeModel model, const AddedTokens& added, TextSteps steps, const SpecialIds& special);

  std::string kind() const override { return model_.byte_level ? "byte-level BPE" : "SentencePiece"; }

 private:
  void encode_words(std::span<const std::string_view> words, std::vector<TokenId>& ids) const override;
  void encode_word(std::string_view word, WordCache& cache, std::vector<TokenId>& symbols,
                   std::vector<TokenId>& ids) const;
  void to_symbols(std::string_view word, std::vector<TokenId>& symbols) const;

  BpeModel model_;  // without `token_bytes`, which the base has
  std::uint64_t cache_owner_;
};

}  // namespace depthlens::text
