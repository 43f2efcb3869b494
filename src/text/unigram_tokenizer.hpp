// The tokenizer that chooses, among all ways to put a word together from pieces, the one whose scores have
// the largest sum: SentencePiece's Unigram (Kudo 2018), as Hugging Face's tokenizers computes it.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/util/json.hpp"
#include "prefix_tree.hpp"
#include "word_tokenizer.hpp"

namespace depthlens::text {

/// Pieces and their scores, which are logarithms of probabilities.
struct UnigramModel {
  std::vector<std::string> pieces;  ///< by id, as the file spells them
  std::vector<double> scores;       ///< by id
  PrefixTree ids;                   ///< of the pieces
  std::array<TokenId, 256>
      byte_ids;  ///< of single bytes, where what is unknown is spelled by them; kNoToken: none
  TokenId unknown = kNoToken;
  double unknown_score = 0;  ///< of one unknown code point: ten below the least score of a piece
};

/// Reads a tokenizer.json's `model`. Throws a format error for what is no such model, for a piece twice, and
/// for one without an unknown token.
UnigramModel read_unigram(const util::JsonView& model);

class UnigramTokenizer final : public WordTokenizer {
 public:
  UnigramTokenizer(UnigramModel model, const AddedTokens& added, TextSteps steps, const SpecialIds& special);

  std::string kind() const override { return "SentencePiece"; }

 private:
  /// The best way to the end of a piece.
  struct Node {
    double score = 0;
    std::int32_t start = -1;  // of the piece; -1: none ends here yet
    TokenId id = kNoToken;
  };

  void encode_words(std::span<const std::string_view> words, std::vector<TokenId>& ids) const override;
  void encode_word(std::string_view word, std::vector<Node>& nodes, std::vector<TokenId>& ids) const;
  /// Appends, in reverse, the ids of unknown text that no piece holds.
  void append_unknown(std::string_view text, std::vector<TokenId>& reversed) const;

  UnigramModel model_;
};

}  // namespace depthlens::text
