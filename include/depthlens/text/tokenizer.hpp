// Text to token ids and back, exactly as the model's own tokenizer does it.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/text/token.hpp"

namespace depthlens::text {

/// A tokenizer; immutable after loading, and safe to use from several threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// The ids of `text` (valid UTF-8), without BOS or EOS, as Hugging Face's
  /// `encode(add_special_tokens=False)`. Added and special tokens that stand in the text are recognised as
  /// Hugging Face's tokenizers do.
  virtual std::vector<TokenId> encode(std::string_view text) const = 0;

  /// The bytes that the token adds in the middle of a text; may be a fragment of UTF-8. A SentencePiece "▁"
  /// is a space. Special tokens give their name, such as "<s>"; ids that no token has give "".
  virtual const std::string& token_bytes(TokenId id) const = 0;

  /// Number of ids, added tokens included: ids are 0 … size − 1. A model's vocabulary may be padded beyond
  /// it.
  virtual TokenId size() const = 0;

  /// "SentencePiece" or "byte-level BPE".
  virtual std::string kind() const = 0;

  std::optional<TokenId> bos() const { return bos_; }
  std::optional<TokenId> eos() const { return eos_; }
  /// Whether the model's own tokenizer puts BOS before a text when special tokens are asked for.
  bool adds_bos() const { return adds_bos_; }

  /// The token's bytes as text for people and JSON: invalid UTF-8 becomes U+FFFD.
  std::string token_text(TokenId id) const;

 protected:
  std::optional<TokenId> bos_;
  std::optional<TokenId> eos_;
  bool adds_bos_ = false;
};

/// Loads the tokenizer of a Hugging Face folder as AutoTokenizer of transformers 5 does: `tokenizer.json`
/// (byte-level BPE, or SentencePiece-style BPE with byte fallback), else `tokenizer.model` (SentencePiece, or
/// tiktoken's ranks), else `vocab.json` + `merges.txt`. What lies beside it is compared. The small JSON files
/// and `config.json` tell class and special tokens. Warns where files disagree. Throws an input error where
/// no tokenizer is there and a format error, naming file and place, where one is damaged or asks for
/// something unknown.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& folder);

}  // namespace depthlens::text
